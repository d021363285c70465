//! Programs on interfaces: filters of kind `bpf` at the ingress hook (tc-bpf(8)).
//!
//! Ours are told from others' by their place: priority and handle. Whoever else has filters on a port keeps them, those
//! with a lower priority number see the frames before ours do. They are loaded by tc(8), which takes a program as an ELF
//! object, and looked at and removed by netlink. What the kernel tells of a filter is the name of the section the program
//! was in; that is where its fingerprint is.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
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

/// A program, and where it goes.
pub(crate) struct Attachment {
    pub(crate) interface: InterfaceName,
    /// Its number.
    pub(crate) index: u32,
    /// The section the program is in.
    pub(crate) section: String,
    pub(crate) program: Program,
}

/// Attachments by one run of tc. It asks for all interfaces there are before its first command, which with thousands of them takes
/// longer than the rest; and it keeps two or three files open for each program until it ends.
pub(crate) const AT_ONCE: usize = 128;

/// Puts programs on interfaces, at most [`AT_ONCE`], each in place of what is in our place there, from one frame to the next.
/// Returns what was refused, by its place.
pub(crate) fn attach(
    netlink: &mut Netlink,
    attachments: &[Attachment],
) -> io::Result<BTreeMap<usize, String>> {
    let hooks = attachments.iter().map(|attachment| Request {
        message: RouteNetlinkMessage::NewQueueDiscipline(hook(attachment.index)),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    });
    let hooked = netlink.write(hooks.collect())?.into_iter();
    // Where there is a hook it is ours, or somebody else's who needs it too.
    let refused = hooked.filter(|(_, error)| error.errno != Errno::EEXIST);
    let mut refused: BTreeMap<usize, String> = refused
        .map(|(place, error)| (place, error.to_string()))
        .collect();
    let left = attachments.iter().enumerate();
    let left: Vec<_> = left
        .filter(|(place, _)| !refused.contains_key(place))
        .collect();
    let objects = left.iter().map(|(_, attachment)| object(attachment));
    let objects = objects.collect::<io::Result<Vec<File>>>()?;
    let commands: Vec<String> = left
        .iter()
        .zip(&objects)
        .map(|((_, attachment), object)| command(attachment, object))
        .collect();
    if commands.is_empty() {
        return Ok(refused);
    }
    match run(&commands) {
        Ok(said) => refused.extend(said.into_iter().filter_map(|(line, said)| {
            let (place, _) = left.get(line)?;
            Some((*place, said))
        })),
        Err(error) => {
            let all = left.iter().map(|(place, _)| (*place, error.to_string()));
            refused.extend(all);
        }
    }
    Ok(refused)
}

/// The program as tc takes it, in a file that is nowhere.
fn object(attachment: &Attachment) -> io::Result<File> {
    let mut file = File::from(memfd_create("l2gw", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&elf::object(&attachment.section, &attachment.program))?;
    Ok(file)
}

fn command(attachment: &Attachment, object: &File) -> String {
    let Attachment {
        interface, section, ..
    } = attachment;
    // As tc finds it, which is our child.
    let file = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        object.as_fd().as_raw_fd()
    );
    format!(
        "filter replace dev {interface} ingress pref {PRIORITY} handle {HANDLE:#x} protocol all \
         bpf direct-action object-file {file} section {section}\n"
    )
}

/// Has tc carry out commands, all of them whatever becomes of each. Returns what it said of those it could not, by line from 0.
fn run(commands: &[String]) -> io::Result<BTreeMap<usize, String>> {
    let mut script = File::from(memfd_create("l2gw", MFdFlags::MFD_CLOEXEC)?);
    script.write_all(commands.concat().as_bytes())?;
    script.rewind()?;
    let output = Command::new("tc")
        .args(["-force", "-batch", "-"])
        .env("LC_ALL", "C")
        .stdin(Stdio::from(script))
        .output()?;
    if output.status.success() {
        return Ok(BTreeMap::new());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let refused = refusals(&said);
    if refused.is_empty() {
        return Err(io::Error::other(format!("tc: {}", first_of(&said))));
    }
    Ok(refused)
}

/// What tc says before it says which line of its script that was about.
fn refusals(said: &str) -> BTreeMap<usize, String> {
    let mut refused = BTreeMap::new();
    let mut before = String::new();
    for line in said.lines() {
        let failed = line.strip_prefix("Command failed ");
        let number = failed.and_then(|place| place.rsplit(':').next()?.parse::<usize>().ok());
        match number.and_then(|number| number.checked_sub(1)) {
            Some(line) => {
                refused.insert(line, format!("tc: {}", first_of(&before)));
                before.clear();
            }
            None => {
                before.push_str(line);
                before.push('\n');
            }
        }
    }
    refused
}

/// The lines that matter.
fn first_of(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).take(2).collect();
    lines.join("; ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_of_the_line_it_is_about() {
        let said = "Error: Specified qdisc kind is unknown.\nWe have an error talking to the kernel\n\
                    Command failed -:3\nCannot find device \"gone\"\nCommand failed -:7\n";
        assert_eq!(
            refusals(said),
            [
                (
                    2,
                    "tc: Error: Specified qdisc kind is unknown.; We have an error talking to the kernel".to_owned()
                ),
                (6, "tc: Cannot find device \"gone\"".to_owned()),
            ]
            .into()
        );
        assert_eq!(refusals("tc: out of memory\n"), BTreeMap::new());
    }
}
