//! `cargo xtask demo`: two clouds on this machine, joined by the specification's own commands, pinged before, between and
//! after, with the frames on the WAN counted.
//!
//! Everything runs in network namespaces and goes away at the end, after an error and after Ctrl-C as well.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgAction, Parser};
use testkit::capture::Captured;
use testkit::installation::{Installation, NETWORK};
use testkit::netns;
use testkit::ping::Loss;
use testkit::topology::{Cloud, CloudPlan, Station, Topology};

use crate::interrupt::Interrupt;
use crate::{binary, packages, require_root};

/// Every namespace and directory of a demo starts with this.
const PREFIX: &str = "l2gw-demo-";
/// What follows in the names of a demo that was kept.
const KEPT: &str = "kept";
/// Tunnel keys: inside cloud A, on the WAN, inside cloud B. The specification's picture has the same.
const VNI_A: u32 = 123;
const VNI_WAN: u32 = 456;
const VNI_B: u32 = 789;

/// What the demo can be told.
#[derive(Debug, Default, Parser)]
pub(crate) struct Options {
    /// Only this scenario: remote gateways that flood, or that get known MACs alone [default: both, one after the other]
    #[arg(long, value_name = "True|False", ignore_case = true, action = ArgAction::Set)]
    #[arg(value_parser = parse_flood)]
    flood: Option<bool>,
    /// Leave the joined clouds up, to look around (with --flood True unless told otherwise)
    #[arg(long)]
    keep: bool,
    /// Take down what --keep left up
    #[arg(long, conflicts_with_all = ["flood", "keep"])]
    down: bool,
}

fn parse_flood(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => bail!("True or False"),
    }
}

/// Runs the demo; whether all went as it should.
pub(crate) fn run(options: &Options) -> Result<bool> {
    require_root("demo")?;
    if options.down {
        take_down_leftovers()?;
        println!("No demo is up.");
        return Ok(true);
    }
    packages::ensure_installed(packages::For::Demo)?;
    let binary = binary::build()?;

    let interrupt = Interrupt::watch()?;
    let floods = match (options.flood, options.keep) {
        (Some(flood), _) => vec![flood],
        (None, true) => vec![true],
        (None, false) => vec![true, false],
    };
    let mut expectations = Expectations::default();
    for flood in floods {
        let scenario = Scenario {
            binary: &binary,
            flood,
            keep: options.keep,
            interrupt: &interrupt,
        };
        let outcome = scenario.run(&mut expectations);
        // First, because a program that was interrupted together with us fails in ways of its own.
        interrupt.check()?;
        outcome?;
    }
    Ok(expectations.conclude())
}

/// Takes down a demo that was kept, and one that was killed before it could do so itself.
fn take_down_leftovers() -> Result<()> {
    let kept = format!("{PREFIX}{KEPT}");
    netns::remove_all(|name| name.starts_with(&kept) || netns::maker_is_gone(PREFIX, name))
}

/// One way through: flooding remote gateways, or known MACs alone.
struct Scenario<'a> {
    binary: &'a Path,
    flood: bool,
    keep: bool,
    interrupt: &'a Interrupt,
}

impl Scenario<'_> {
    fn run(&self, expectations: &mut Expectations) -> Result<()> {
        let prefix = if self.keep {
            format!("{PREFIX}{KEPT}")
        } else {
            format!("{PREFIX}{}", std::process::id())
        };
        ensure!(
            netns::named(&prefix)?.is_empty(),
            "a demo was kept; to take it down: cargo xtask demo --down"
        );
        headline(if self.flood {
            "Remote gateways that flood (--flood True)"
        } else {
            "Known MACs alone (--flood False)"
        });
        let topology = Topology::build(
            &prefix,
            &[CloudPlan::new("a", VNI_A), CloudPlan::new("b", VNI_B)],
        )?;
        let [a, b] = topology.all()?;
        introduce(a)?;
        introduce(b)?;

        let mut at_a = Installation::new(self.binary, a)?.echoing();
        let mut at_b = Installation::new(self.binary, b)?.echoing();
        let played = self.play(&topology, [(a, &mut at_a), (b, &mut at_b)], expectations);
        if played.is_err() && self.interrupt.check().is_ok() {
            println!("\n{}{}", at_a.log_tails(), at_b.log_tails());
        }
        played?;
        if self.keep {
            say_how_to_enter(a, b, self.binary);
            println!(
                "    logs, databases:  {}  {}",
                at_a.keep().display(),
                at_b.keep().display()
            );
            // Dropping it would take it down.
            std::mem::forget(topology);
        }
        Ok(())
    }

    fn play(
        &self,
        topology: &Topology,
        [(a, at_a), (b, at_b)]: [(&Cloud, &mut Installation<'_>); 2],
        expectations: &mut Expectations,
    ) -> Result<()> {
        let (vm_a, vm_b) = (a.vm()?, b.vm()?);
        let wan = topology.capture_wan(0)?;

        headline("Two clouds, apart");
        let loss = show_ping(vm_a, vm_b, 3)?;
        expectations.expect("before, nothing gets through", loss.total(), &loss);
        self.interrupt.check()?;

        headline("A switch and a server on each border gateway");
        at_a.start()?;
        at_b.start()?;
        self.interrupt.check()?;

        headline("Join the networks: the same commands on both sides");
        let to_b = self.join(at_a, b)?;
        println!();
        let to_a = self.join(at_b, a)?;
        at_a.wait_active(&to_b)?;
        at_b.wait_active(&to_a)?;
        for installation in [&*at_a, &*at_b] {
            println!();
            show_all(installation)?;
        }
        self.interrupt.check()?;

        headline("Two clouds, one network");
        vm_a.wait_until_reaches(vm_b)?;
        // So that ARP has to find VM b anew.
        vm_a.forget_neighbours()?;
        let loss = show_ping(vm_a, vm_b, 5)?;
        expectations.expect("joined, every ping is answered", loss.none(), &loss);
        let on_wan = WanCount::of(&wan.finish()?);
        self.judge(&on_wan, expectations);
        self.interrupt.check()?;

        if !self.keep {
            headline("Delete the remote connections");
            for (installation, connection) in [(&*at_a, &to_b), (&*at_b, &to_a)] {
                installation.succeed(&["l2-remote-gateway-connection-delete", connection])?;
                installation.succeed(&["l2-remote-gateway-connection-list"])?;
            }
            vm_a.wait_until_cut_off_from(vm_b)?;
            let loss = show_ping(vm_a, vm_b, 3)?;
            expectations.expect("afterwards, nothing gets through", loss.total(), &loss);
        }
        Ok(())
    }

    /// Everything that is typed on one border gateway to join its cloud to `there`. Returns the connection's UUID.
    fn join(&self, here: &Installation<'_>, there: &Cloud) -> Result<String> {
        here.attach_network()?;
        let remote = here.declare_remote(there)?;
        let connection = here.connect(&remote, VNI_WAN, self.flood)?;
        for vm in &there.vms {
            // With its IP address the gateway answers ARP for it; where remotes flood, ARP finds its own way.
            here.declare_mac(&connection, vm, (!self.flood).then_some(vm.ip))?;
        }
        Ok(connection)
    }

    fn judge(&self, on_wan: &WanCount, expectations: &mut Expectations) {
        println!("\nSeen on the WAN interface of border gateway A, VXLAN packets:");
        for (vni, what) in [
            (VNI_A, "inside cloud A"),
            (VNI_WAN, "agreed for the WAN"),
            (VNI_B, "inside cloud B"),
        ] {
            println!("    VNI {vni}  {:>5}   {what}", on_wan.with_vni(vni));
        }
        println!("    ARP      {:>5}   inside these", on_wan.arp);
        println!("    other    {:>5}   frames of no tunnel", on_wan.other);
        let carried = on_wan.with_vni(VNI_WAN);
        expectations.expect(
            "the WAN carries VNI 456",
            carried > 0,
            &format!("{carried} packets"),
        );
        let foreign = on_wan.other + on_wan.vnis.iter().filter(|vni| **vni != VNI_WAN).count();
        expectations.expect(
            "and no other VNI, nor anything untunnelled",
            foreign == 0,
            &format!("{foreign} packets"),
        );
        if self.flood {
            expectations.expect(
                "ARP crosses the WAN",
                on_wan.arp > 0,
                &format!("{} packets", on_wan.arp),
            );
        } else {
            expectations.expect(
                "no ARP crosses the WAN",
                on_wan.arp == 0,
                &format!("{} packets", on_wan.arp),
            );
        }
    }
}

/// What went over the WAN.
struct WanCount {
    /// The VNI of every VXLAN packet.
    vnis: Vec<u32>,
    /// How many of them carry ARP.
    arp: usize,
    /// Frames that are neither VXLAN nor the border gateways' own ARP and ICMP.
    other: usize,
}

impl WanCount {
    fn of(captured: &[Captured]) -> Self {
        let packets: Vec<_> = captured.iter().filter_map(Captured::vxlan).collect();
        Self {
            vnis: packets.iter().map(|packet| packet.vni).collect(),
            arp: packets
                .iter()
                .filter(|packet| packet.inner.is_arp())
                .count(),
            other: captured
                .iter()
                .filter(|seen| seen.vxlan().is_none() && !seen.frame.is_underlay_control())
                .count(),
        }
    }

    fn with_vni(&self, vni: u32) -> usize {
        self.vnis.iter().filter(|seen| **seen == vni).count()
    }
}

/// What was to be seen, and what of it was not.
#[derive(Default)]
struct Expectations {
    held: usize,
    disappointed: Vec<String>,
}

impl Expectations {
    fn expect(&mut self, what: &str, holds: bool, seen: &dyn std::fmt::Display) {
        println!(
            "{}  {what}: {seen}",
            if holds { "    ok" } else { "FAILED" }
        );
        if holds {
            self.held += 1;
        } else {
            self.disappointed.push(format!("{what}: {seen}"));
        }
    }

    /// Says how it went; whether all held.
    fn conclude(&self) -> bool {
        println!();
        for what in &self.disappointed {
            println!("FAILED  {what}");
        }
        println!(
            "{} of {} expectations held.",
            self.held,
            self.held + self.disappointed.len()
        );
        self.disappointed.is_empty()
    }
}

fn headline(text: &str) {
    println!("\n== {text}");
}

fn introduce(cloud: &Cloud) -> Result<()> {
    let vm = cloud.vm()?;
    let compute = cloud
        .computes
        .first()
        .context("a compute host was planned")?;
    println!(
        "Cloud {}: VM {} ({}) - compute host {} - VNI {} - {} border gateway {} - WAN",
        cloud.name,
        vm.ip,
        vm.mac_text(),
        compute.tunnel_ip,
        cloud.vni,
        cloud.gateway.tunnel_ip,
        cloud.gateway.wan_ip
    );
    Ok(())
}

/// Pings, as typed in the VM.
fn show_ping(from: &Station, to: &Station, count: u32) -> Result<Loss> {
    println!("vm-a$ ping -c {count} {}", to.ip);
    from.ping(to, count)
}

/// The lists and the shows.
fn show_all(at: &Installation<'_>) -> Result<()> {
    at.succeed(&["l2-gateway-list"])?;
    at.succeed(&["l2-gateway-connection-list"])?;
    for (list, show) in [
        ("l2-remote-gateway-list", "l2-remote-gateway-show"),
        (
            "l2-remote-gateway-connection-list",
            "l2-remote-gateway-connection-show",
        ),
        ("l2-remote-mac-list", "l2-remote-mac-show"),
    ] {
        at.succeed(&[list])?;
        at.succeed(&[show, &first_uuid(at, list)?])?;
    }
    Ok(())
}

/// The UUID of the first resource of a list; that of a MAC is in a column named `uuid`.
fn first_uuid(at: &Installation<'_>, list: &str) -> Result<String> {
    let rows = at.query(&[list])?;
    let first = rows.get(0).with_context(|| format!("{list} is empty"))?;
    let uuid = first
        .get("id")
        .or_else(|| first.get("uuid"))
        .and_then(serde_json::Value::as_str);
    uuid.map(str::to_owned)
        .with_context(|| format!("no UUID in {first}"))
}

fn say_how_to_enter(a: &Cloud, b: &Cloud, binary: &Path) {
    let gateway = a.gateway.netns.name();
    headline("The clouds stay joined. Look around:");
    if let (Ok(vm_a), Ok(vm_b)) = (a.vm(), b.vm()) {
        println!("    ip netns exec {} ping {}", vm_a.netns.name(), vm_b.ip);
    }
    println!("    ip netns exec {gateway} bridge fdb");
    println!(
        "    ip netns exec {gateway} {} l2-remote-gateway-connection-list",
        binary.display()
    );
    println!(
        "    ip netns exec {gateway} {} network show {NETWORK}",
        binary.display()
    );
    println!("    take it down:     cargo xtask demo --down");
}
