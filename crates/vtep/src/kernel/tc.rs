//! Programs on interfaces: filters of kind `bpf` at the ingress hook (tc-bpf(8)).
//!
//! Ours are told from others' by their place: priority and handle. Whoever else has filters on a port keeps them, those
//! with a lower priority number see the frames before ours do. They are loaded by tc(8), which takes a program as an ELF
//! object, and looked at and removed by netlink. What the kernel tells of a filter is the name of the section the program
//! was in; that is where its fingerprint is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::bpf::Program;
use super::elf;
use super::name::InterfaceName;
use super::netlink::{KernelError, Netlink, Request};

/// The section names of our filters, by the number of the interface.
pub(crate) type Filters = HashMap<u32, String>;

/// Where our filter is: its priority, and its handle, which is "l2gw".
const PRIORITY: u16 = 7777;
const HANDLE: u32 = u32::from_be_bytes(*b"l2gw");

/// `struct tcmsg`.
const HEADER: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const ETH_P_ALL: u16 = 3;
/// Without the bits that tell of nesting and byte order.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The hook's two sides as parents of filters; the hook itself is the parent of none.
const INGRESS: TcHandle = TcHandle {
    major: u16::MAX,
    minor: TcHandle::MIN_INGRESS,
};
const EGRESS: TcHandle = TcHandle {
    major: u16::MAX,
    minor: TcHandle::MIN_EGRESS,
};

/// One object of a dump, taken apart.
struct Seen<'a> {
    interface: u32,
    handle: u32,
    parent: u32,
    priority: u32,
    kind: &'a [u8],
    options: &'a [u8],
}

impl<'a> Seen<'a> {
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let (header, attributes) = payload.split_at_checked(HEADER)?;
        let number = |at: usize| {
            let bytes = header.get(at..at + 4)?.first_chunk().copied()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let mut seen = Self {
            interface: number(4)?,
            handle: number(8)?,
            parent: number(12)?,
            priority: number(16)? >> 16,
            kind: &[],
            options: &[],
        };
        for (kind, value) in attributes_of(attributes) {
            match kind {
                TCA_KIND => seen.kind = value.strip_suffix(&[0]).unwrap_or(value),
                TCA_OPTIONS => seen.options = value,
                _ => {}
            }
        }
        Some(seen)
    }

    /// The section, if it is a filter in our place.
    fn section(&self) -> Option<String> {
        if self.handle != HANDLE || self.priority != u32::from(PRIORITY) {
            return None;
        }
        let mut options = attributes_of(self.options);
        let name = options.find_map(|(kind, value)| (kind == TCA_BPF_NAME).then_some(value));
        let name = String::from_utf8_lossy(name.unwrap_or_default());
        // As tc puts it: file:[section].
        let section = name.trim_end_matches('\0').split_once(":[");
        let section = section.and_then(|(_, section)| section.strip_suffix(']'));
        Some(section.unwrap_or_default().to_owned())
    }
}

/// Kinds and values (`struct nlattr`), borrowed from the message.
fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    })
}

fn message(interface: u32, handle: TcHandle, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = i32::try_from(interface).unwrap_or_default();
    message.header.handle = handle;
    message.header.parent = parent;
    message
}

fn hook(interface: u32) -> TcMessage {
    let handle = TcHandle {
        major: u16::MAX,
        minor: 0,
    };
    let mut message = message(interface, handle, TcHandle::CLSACT);
    let kind = TcAttribute::Kind("clsact".to_owned());
    message.attributes.push(kind);
    message
}

fn filters(interface: u32, side: TcHandle) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetTrafficFilter(message(interface, TcHandle::UNSPEC, side))
}

/// Looks for our filters on all interfaces.
pub(crate) fn observe(netlink: &mut Netlink) -> io::Result<Filters> {
    let all = message(0, TcHandle::UNSPEC, TcHandle::UNSPEC);
    let hooks = RouteNetlinkMessage::GetQueueDiscipline(all);
    let hooked = netlink.dump(&hooks, |payload| {
        let seen = Seen::parse(payload)?;
        let is_hook = seen.parent == u32::from(TcHandle::CLSACT);
        is_hook.then_some(seen.interface)
    });
    let hooked = match hooked {
        // A kernel without any of this has nothing of ours in it.
        Err(error) if errno(&error) == Some(Errno::EOPNOTSUPP) => return Ok(Filters::new()),
        hooked => hooked?,
    };
    let mut found = Filters::new();
    for interface in hooked {
        let sections = netlink.dump(&filters(interface, INGRESS), |payload| {
            Seen::parse(payload)?.section()
        })?;
        found.extend(sections.into_iter().next().map(|s| (interface, s)));
    }
    Ok(found)
}

fn errno(error: &io::Error) -> Option<Errno> {
    let kernel = error.get_ref()?.downcast_ref::<KernelError>()?;
    Some(kernel.errno)
}

/// Puts a program on an interface, in place of what is in our place there, from one frame to the next.
pub(crate) fn attach(
    netlink: &mut Netlink,
    (name, index): (InterfaceName, u32),
    (section, program): &(String, Program),
) -> io::Result<()> {
    let hook = Request {
        message: RouteNetlinkMessage::NewQueueDiscipline(hook(index)),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    };
    let refused = netlink.write(vec![hook])?.pop();
    match refused {
        // Ours, or somebody else's who needs it too.
        Some((_, error)) if error.errno != Errno::EEXIST => return Err(error.into()),
        _ => {}
    }
    let file = memfd_create("l2gw", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&elf::object(section, program))?;
    let (name, priority, handle) = (
        name.to_string(),
        PRIORITY.to_string(),
        format!("{HANDLE:#x}"),
    );
    let output = Command::new("tc")
        .args(["filter", "replace", "dev", &name, "ingress"])
        .args(["pref", &priority, "handle", &handle, "protocol", "all"])
        .args(["bpf", "direct-action", "object-file", "/proc/self/fd/0"])
        .args(["section", section])
        .env("LC_ALL", "C")
        .stdin(Stdio::from(file))
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).take(2).collect();
    Err(io::Error::other(format!("tc: {}", lines.join("; "))))
}

/// Takes our program off an interface; and the hook, once nobody has a filter there.
pub(crate) fn detach(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let handle = TcHandle::from(HANDLE);
    let mut filter = message(index, handle, INGRESS);
    filter.header.info = u32::from(PRIORITY) << 16 | u32::from(ETH_P_ALL.to_be());
    filter.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    remove(netlink, RouteNetlinkMessage::DelTrafficFilter(filter))?;
    for side in [INGRESS, EGRESS] {
        let left = netlink.dump(&filters(index, side), |payload| {
            Seen::parse(payload).map(drop)
        })?;
        if !left.is_empty() {
            return Ok(());
        }
    }
    remove(
        netlink,
        RouteNetlinkMessage::DelQueueDiscipline(hook(index)),
    )
}

fn remove(netlink: &mut Netlink, message: RouteNetlinkMessage) -> io::Result<()> {
    let refused = netlink.write(vec![Request { message, flags: 0 }])?.pop();
    match refused {
        // Gone already: with its interface, or by somebody else's hand.
        Some((_, error))
            if ![Errno::ENOENT, Errno::ENODEV, Errno::EINVAL].contains(&error.errno) =>
        {
            Err(error.into())
        }
        _ => Ok(()),
    }
}
