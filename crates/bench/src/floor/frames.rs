//! Frames put on an interface one by one: what the kernel alone takes for as many as the product's probes for loops, the far end
//! of a pair of devices and the switch behind it included, which is all on this machine's account.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use testkit::netns::Netns;

/// Between two frames of a VLAN, and their length: as the product's probes.
const EVERY: Duration = Duration::from_millis(300);
const LENGTH: usize = 90;

/// The processor time that it takes to send a frame into each of so many VLANs of an interface, again and again.
pub(crate) fn send(
    netns: &Netns,
    interface: &str,
    vlans: u32,
    lasting: Duration,
) -> Result<Duration> {
    netns.enter(|| {
        let found = nix::ifaddrs::getifaddrs()?.find_map(|found| {
            let address: LinkAddr = *found.address?.as_link_addr()?;
            (found.interface_name == interface).then_some(address)
        });
        let address = found.with_context(|| format!("no interface {interface}"))?;
        let kind = (AddressFamily::Packet, SockType::Raw);
        let socket = socket(kind.0, kind.1, SockFlag::empty(), None)?;
        let frames: Vec<Vec<u8>> = (0..vlans).map(frame).collect();
        let (begun, before) = (Instant::now(), used()?);
        while begun.elapsed() < lasting {
            let round = Instant::now();
            for frame in &frames {
                sendto(socket.as_raw_fd(), frame, &address, MsgFlags::empty())?;
            }
            sleep(EVERY.saturating_sub(round.elapsed()));
        }
        Ok(used()? - before)
    })
}

/// To an address of nobody, from one of its own, with a tag (IEEE 802.1Q), of an EtherType for experiments.
fn frame(number: u32) -> Vec<u8> {
    let [_, _, high, low] = number.to_be_bytes();
    let mut frame = vec![2, 0x6c, 0x32, 0x67, 0x77, 1, 6, 0x6c, 0x32, 0x77, high, low];
    frame.extend([0x81, 0, high & 0x0f, low, 0x88, 0xb5]);
    frame.resize(LENGTH, 0);
    frame
}

/// What the calling thread has used so far (Documentation/scheduler/sched-stats.rst).
fn used() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().context("no time")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

#[cfg(test)]
mod tests {
    use testkit::netns::unique_prefix;

    use super::*;

    #[test]
    fn frames_cost_time() -> Result<()> {
        let netns = Netns::create(&unique_prefix())?;
        netns.ip(
            "link add port type veth peer name far-end\nlink set port up\nlink set far-end up",
        )?;
        assert!(send(&netns, "port", 100, Duration::from_millis(1))? > Duration::ZERO);
        assert!(send(&netns, "nothing", 1, Duration::ZERO).is_err());
        Ok(())
    }
}
