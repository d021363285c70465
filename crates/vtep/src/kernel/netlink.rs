//! A synchronous netlink socket: dumps with strict checking, and many requests in one system call.
//!
//! - Strict checking (NETLINK_GET_STRICT_CHK) makes the kernel honour the filters of a dump, and refuse what it does not
//!   understand instead of ignoring it.
//! - Requests are sent in batches; only the last of a batch asks for an acknowledgement. The kernel works them off in
//!   order and reports every refusal, whether asked or not, by sequence number: a batch is not a transaction.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

/// Requests per system call: the best of the sizes measured, from 16 on there is little to gain.
pub(crate) const BATCH: usize = 256;

/// The kernel sends at most 32 KiB per datagram of a dump, and more only where one message is longer.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Room for a burst of notifications or refusals, in bytes of kernel memory.
const SOCKET_BUFFER: usize = 16 * 1024 * 1024;

/// How often a dump that changed under our hands is begun again.
const DUMP_ATTEMPTS: u32 = 8;

/// NLMSG_ERROR and NLMSG_DONE of the kernel's `struct nlmsghdr`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_CAPPED: only the header of the refused request comes back.
const NLM_F_CAPPED: u16 = 0x100;
const HEADER: usize = 16;
/// NLMSGERR_ATTR_MSG: the kernel's own words.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel's refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// The error number.
    pub errno: Errno,
    /// The kernel's own words, where it has some.
    pub text: Option<String>,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => f.write_str(self.errno.desc()),
        }
    }
}

impl std::error::Error for KernelError {}

impl From<KernelError> for io::Error {
    fn from(error: KernelError) -> Self {
        Self::other(error)
    }
}

/// One request, and how it is meant.
pub(crate) struct Request<M = RouteNetlinkMessage> {
    pub(crate) message: M,
    /// NLM_F_* beside NLM_F_REQUEST.
    pub(crate) flags: u16,
}

/// A socket to a part of the kernel, in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    received: Vec<u8>,
    sent: Vec<u8>,
    /// Requests other than dumps and look-ups so far; tests prove idempotence by it.
    pub(crate) writes: u64,
}

impl Netlink {
    /// To the routing part.
    pub(crate) fn open() -> io::Result<Self> {
        Self::open_to(NETLINK_ROUTE)
    }

    /// To the part with this protocol (netlink(7)).
    pub(crate) fn open_to(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        enlarge(&socket);
        Ok(Self {
            socket,
            sequence: 0,
            received: Vec::with_capacity(RECEIVE_BUFFER),
            sent: Vec::new(),
            writes: 0,
        })
    }

    /// Reads a whole table: what `parse` makes of each message. A dump during which the table changed may have holes, so
    /// it is begun again; after a few attempts it is taken as it is, since whoever changed the table also notified us.
    pub(crate) fn dump<M: NetlinkSerializable + Clone, T>(
        &mut self,
        request: &M,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut table = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            table.clear();
            let sequence = self.next_sequence();
            self.sent.clear();
            let request = Request {
                message: request.clone(),
                flags: NLM_F_DUMP,
            };
            self.serialize(request, sequence);
            self.send()?;
            let mut interrupted = false;
            self.receive(sequence, |kind, flags, payload| {
                interrupted |= flags & NLM_F_DUMP_INTR != 0;
                match kind {
                    NLMSG_DONE | NLMSG_ERROR => Some(refusal(flags, payload).map_or(Ok(()), Err)),
                    _ => {
                        table.extend(parse(payload));
                        None
                    }
                }
            })??;
            if !interrupted {
                break;
            }
        }
        Ok(table)
    }

    /// Asks for one object; `each` gets the answer's payload.
    pub(crate) fn get(
        &mut self,
        request: RouteNetlinkMessage,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<Result<(), KernelError>> {
        let sequence = self.next_sequence();
        self.sent.clear();
        let request = Request {
            message: request,
            flags: NLM_F_ACK,
        };
        self.serialize(request, sequence);
        self.send()?;
        self.receive(sequence, |kind, flags, payload| match kind {
            NLMSG_ERROR => Some(refusal(flags, payload).map_or(Ok(()), Err)),
            _ => {
                each(payload);
                None
            }
        })
    }

    /// Sends requests that change something, at most [`BATCH`] of them, and waits until the kernel is through. Returns
    /// the refused ones by their place in `requests`.
    pub(crate) fn write(
        &mut self,
        requests: Vec<Request>,
    ) -> io::Result<Vec<(usize, KernelError)>> {
        let Some(last) = requests.len().checked_sub(1) else {
            return Ok(Vec::new());
        };
        self.sent.clear();
        let first = self.sequence.wrapping_add(1);
        for (place, mut request) in requests.into_iter().enumerate() {
            if place == last {
                request.flags |= NLM_F_ACK;
            }
            let sequence = self.next_sequence();
            self.serialize(request, sequence);
            self.writes += 1;
        }
        let acknowledged = self.sequence;
        self.send()?;
        let mut refused = Vec::new();
        self.receive_any(|kind, flags, sequence, payload| {
            let place = usize::try_from(sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            if kind != NLMSG_ERROR || place > last {
                return None;
            }
            if let Some(error) = refusal(flags, payload) {
                refused.push((place, error));
            }
            (sequence == acknowledged).then_some(())
        })?;
        Ok(refused)
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Appends a request to what will be sent.
    fn serialize<M: NetlinkSerializable>(&mut self, request: Request<M>, sequence: u32) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | request.flags;
        header.sequence_number = sequence;
        let payload = NetlinkPayload::InnerMessage(request.message);
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let start = self.sent.len();
        // Messages begin at multiples of four (NLMSG_ALIGN).
        let end = start + message.buffer_len().next_multiple_of(4);
        self.sent.resize(end, 0);
        if let Some(place) = self.sent.get_mut(start..) {
            message.serialize(place);
        }
    }

    fn send(&self) -> io::Result<()> {
        self.socket.send(&self.sent, 0).map(drop)
    }

    /// Reads answers to one request until `each` has a result.
    fn receive<T>(
        &mut self,
        expected: u32,
        mut each: impl FnMut(u16, u16, &[u8]) -> Option<T>,
    ) -> io::Result<T> {
        self.receive_any(|kind, flags, sequence, payload| {
            if sequence == expected {
                each(kind, flags, payload)
            } else {
                None
            }
        })
    }

    fn receive_any<T>(
        &mut self,
        mut each: impl FnMut(u16, u16, u32, &[u8]) -> Option<T>,
    ) -> io::Result<T> {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let result = messages(&self.received, |message| {
                each(
                    message.message_type(),
                    message.flags(),
                    message.sequence_number(),
                    message.payload(),
                )
            });
            if let Some(result) = result {
                return Ok(result);
            }
        }
    }
}

/// Makes room for bursts; without the privilege (CAP_NET_ADMIN) the system's limit stands, and a burst costs a full look.
pub(crate) fn enlarge(socket: &Socket) {
    if setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        // Bounded by net.core.rmem_max, which is not an error.
        let _ = setsockopt(&socket.as_fd(), sockopt::RcvBuf, &SOCKET_BUFFER);
    }
}

/// Walks the messages of a datagram until `each` has a result.
pub(crate) fn messages<T>(
    datagram: &[u8],
    mut each: impl FnMut(&NetlinkBuffer<&[u8]>) -> Option<T>,
) -> Option<T> {
    let mut rest = datagram;
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
        if let Some(result) = each(&message) {
            return Some(result);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// What an NLMSG_ERROR or NLMSG_DONE says; nothing if it says success.
fn refusal(flags: u16, payload: &[u8]) -> Option<KernelError> {
    let code = payload.first_chunk().copied().map(i32::from_ne_bytes)?;
    if code == 0 {
        return None;
    }
    let request = if flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        let length = payload.get(4..8).and_then(|l| l.first_chunk().copied());
        length.map_or(HEADER, |l| {
            usize::try_from(u32::from_ne_bytes(l)).unwrap_or(HEADER)
        })
    };
    let attributes = payload
        .get(4 + request.next_multiple_of(4)..)
        .unwrap_or_default();
    let text = NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| {
            let text = String::from_utf8_lossy(attribute.value());
            text.trim_end_matches('\0').to_owned()
        });
    Some(KernelError {
        errno: Errno::from_raw(-code),
        text,
    })
}
