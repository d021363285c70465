//! The command line of `l2gw vtep`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use model::value::{MacAddress, is_tunnel_endpoint};
use ovsdb::Target;

use crate::error::Error;
use crate::kernel::desired::NodeConfig;
use crate::kernel::name::InterfaceName;
use crate::kernel::underlay::Underlay;
use crate::kernel::vlan::{self, VlanForm};
use crate::loops::Terms;

/// The port every switch has and that leads nowhere: a gateway without a physical port binds its networks to it.
pub const BORDER: &str = "border";

/// Turn this server into a hardware_vtep switch
///
/// Starts (or attaches to) an ovsdb-server, and makes bridges, VXLAN devices and forwarding entries of the kernel match
/// what a controller writes there. What is forwarded is forwarded by the kernel: it goes on while this program is
/// stopped, killed or upgraded, and ovsdb-server goes on with it.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Options {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The switch to be.
    #[command(flatten)]
    pub switch: Option<SwitchOptions>,
}

/// What else can be done.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Name what this host lacks to be a switch, a line each
    ///
    /// Ends with 0 if nothing is missing and with 1 otherwise. Nothing on the host is changed: what the kernel can do is
    /// tried in a network namespace of its own.
    Check(CheckOptions),
    /// Show what is forwarded: networks, ports, tunnels and MACs, from the kernel and the local database
    ///
    /// Works without the daemon. Packets and bytes are counted from outside: `in` is what came from a port or from the far
    /// ends of tunnels. Each remote gateway is counted for itself, with outer headers; `tunnels` are all of a key together,
    /// without. A MAC is declared (a row of the database) or learnt (from a frame). Declared ones that the
    /// kernel lacks, or that only the kernel has, are marked.
    Show(ShowOptions),
    /// Tell what becomes of a frame to a station, and why
    Trace(TraceOptions),
    /// Join again what was cut off of a network because of a loop: its way to the WAN, or ports
    ///
    /// If the loop is still there, it is cut off again within a second.
    Release(ReleaseOptions),
    /// Remove everything this switch made in the kernel and stop its ovsdb-server
    ///
    /// Forwarding ends. The database stays: started again, the switch is as before.
    Down {
        /// Directory the switch was started with
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
        state_dir: PathBuf,
    },
}

/// What to show, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowOptions {
    /// This network alone (Logical_Switch.name), with every station
    ///
    /// Otherwise twenty stations of each are listed, those with something wrong first. JSON has them all.
    pub network: Option<String>,
    /// Directory the switch was started with
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    pub format: Format,
}

/// The frame to follow.
#[derive(Clone, Debug, clap::Args)]
pub struct TraceOptions {
    /// The network: Logical_Switch.name
    pub network: String,
    /// The station the frame is for
    pub mac: MacAddress,
    /// The station's address: also tell who answers for it
    pub ip: Option<IpAddr>,
    /// Directory the switch was started with
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The network to join again.
#[derive(Clone, Debug, clap::Args)]
pub struct ReleaseOptions {
    /// The network: Logical_Switch.name
    pub network: String,
    /// Directory the switch was started with
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}

/// The switch this host is to become, as far as it is known yet.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckOptions {
    /// This host's address towards the cloud's own hosts
    #[arg(long, value_name = "IP", value_parser = tunnel_endpoint)]
    pub tunnel_ip: Option<Ipv4Addr>,
    /// This host's address towards remote gateways
    #[arg(long, value_name = "IP", value_parser = tunnel_endpoint)]
    pub wan_ip: Option<Ipv4Addr>,
    /// Network namespace that has the WAN IP
    #[arg(long, value_name = "NAME", value_parser = netns_name, requires = "wan_ip")]
    pub wan_netns: Option<String>,
    /// Physical port: its name, and the interface it is. May be given several times
    #[arg(long = "port", value_name = "NAME=INTERFACE")]
    pub ports: Vec<PortOption>,
    /// Largest MTU of any tenant network
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(576..=65485))]
    pub mtu: u32,
    /// How VLANs of physical ports are told apart: by 802.1Q sub-interfaces, or by programs that tc(8) loads
    #[arg(long, value_name = "FORM", value_enum, default_value = "auto")]
    pub vlan_form: VlanFormOption,
}

/// Database, sockets and log.
const DEFAULT_STATE_DIR: &str = "/var/lib/l2gw/vtep";

/// The switch to be.
#[derive(Clone, Debug, clap::Args)]
pub struct SwitchOptions {
    /// Name of the switch (Physical_Switch.name): what the API calls a device
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: String,
    /// This host's address towards the cloud's own hosts
    #[arg(long, value_name = "IP", value_parser = tunnel_endpoint)]
    pub tunnel_ip: Ipv4Addr,
    /// This host's address towards remote gateways [default: the tunnel IP]
    #[arg(long, value_name = "IP", value_parser = tunnel_endpoint)]
    pub wan_ip: Option<Ipv4Addr>,
    /// Network namespace (ip-netns(8)) that has the WAN IP: tunnels to remote gateways run there, those to the cloud's own
    /// hosts in this one [default: both run in this one, and nftables keeps them apart]
    #[arg(long, value_name = "NAME", value_parser = netns_name, requires = "wan_ip")]
    pub wan_netns: Option<String>,
    /// Physical port: its name, and the interface it is. May be given several times; a port named "border" that leads
    /// nowhere is always there
    #[arg(long = "port", value_name = "NAME=INTERFACE")]
    pub ports: Vec<PortOption>,
    /// Directory for database, socket (db.sock) and log; made if it is not there
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Where controllers may connect, as ptcp:PORT or ptcp:PORT:IP. May be given several times
    #[arg(long = "listen", value_name = "TARGET", value_parser = listen_target)]
    pub listen: Vec<Target>,
    /// Controller to connect to, as tcp:IP:PORT. May be given several times
    #[arg(long = "manager", value_name = "TARGET", value_parser = manager_target)]
    pub managers: Vec<Target>,
    /// Where to answer /metrics, without authentication
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// MTU of tenant networks that don't say theirs, and the least that our devices have: larger packets are refused, or
    /// split where their sender allows it
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(576..=65485))]
    pub mtu: u32,
    /// How VLANs of physical ports are told apart: by 802.1Q sub-interfaces, or by programs that tc(8) loads
    #[arg(long, value_name = "FORM", value_enum, default_value = "auto")]
    pub vlan_form: VlanFormOption,
    /// Frames to everybody or to groups that a network may send to each remote gateway in a second, a station a quarter of
    /// them; to unknown stations ten times as many. What is too much is dropped. 0: no limit. Frames to declared stations
    /// are not limited
    #[arg(long, value_name = "FRAMES", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub bum_limit: u32,
    /// How long what a loop goes through (a network's way to the WAN, or a port) stays cut off after the last sign of it; the double for each cut that
    /// soon follows another, up to 64 times. 0: until "l2gw vtep release"
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub loop_hold: u32,
    /// Don't look for loops
    #[arg(long)]
    pub no_loop_protection: bool,
    /// How often everything in the kernel is looked at, beside all else: it tells of changes, and what nobody told of is put
    /// right then
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub look_every: u32,
}

/// How VLANs of physical ports are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum VlanFormOption {
    /// By sub-interfaces where the kernel has them.
    Auto,
    /// By sub-interfaces.
    #[value(name = "8021q")]
    Subinterfaces,
    /// By programs.
    #[value(name = "tc")]
    Steered,
}

impl VlanFormOption {
    /// The form to use on this host.
    ///
    /// # Errors
    /// The kernel can't be talked to.
    pub fn choose(self) -> std::io::Result<VlanForm> {
        Ok(match self {
            Self::Auto if vlan::has_subinterfaces()? => VlanForm::Subinterfaces,
            Self::Subinterfaces => VlanForm::Subinterfaces,
            Self::Auto | Self::Steered => VlanForm::Steered,
        })
    }
}

/// `NAME=INTERFACE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOption {
    /// `Physical_Port.name`.
    pub name: String,
    /// The interface.
    pub interface: InterfaceName,
}

impl FromStr for PortOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, interface) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("expected NAME=INTERFACE")?;
        if name == BORDER {
            return Err(format!(
                "the name \"{BORDER}\" is reserved for the port that leads nowhere"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            interface: interface.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

fn tunnel_endpoint(text: &str) -> Result<Ipv4Addr, String> {
    let ip: Ipv4Addr = text
        .parse()
        .map_err(|_| "expected an IPv4 address".to_owned())?;
    if is_tunnel_endpoint(ip) {
        Ok(ip)
    } else {
        Err("no tunnel can end at this address".to_owned())
    }
}

fn netns_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') || text == "." || text == ".." {
        return Err("expected the name of a network namespace".to_owned());
    }
    Ok(text.to_owned())
}

fn listen_target(text: &str) -> Result<Target, String> {
    match text.parse().map_err(|error| format!("{error}"))? {
        target @ Target::PassiveTcp(_) => Ok(target),
        _ => Err("expected ptcp:PORT[:IP]".to_owned()),
    }
}

fn manager_target(text: &str) -> Result<Target, String> {
    match text.parse().map_err(|error| format!("{error}"))? {
        target @ Target::Tcp(_) => Ok(target),
        _ => Err("expected tcp:IP:PORT".to_owned()),
    }
}

impl SwitchOptions {
    /// The switch's address towards remote gateways.
    pub fn wan_ip(&self) -> Ipv4Addr {
        self.wan_ip.unwrap_or(self.tunnel_ip)
    }

    /// For how long a network that loops is cut off the WAN.
    pub(crate) fn terms(&self) -> Terms {
        match self.loop_hold {
            0 => Terms::ByHand,
            seconds => Terms::Hold(Duration::from_secs(seconds.into())),
        }
    }

    /// What the kernel side needs to know, with tunnels in its own network namespace.
    ///
    /// # Errors
    /// A port's name or interface is given twice, or both ends of tunnels have one address in two network namespaces.
    pub fn node_config(&self, ipv6: bool, vlan_form: VlanForm) -> Result<NodeConfig, Error> {
        if self.wan_netns.is_some() && self.wan_ip() == self.tunnel_ip {
            return Err(Error::OneAddress(self.tunnel_ip));
        }
        let mut ports: BTreeMap<Arc<str>, Option<InterfaceName>> = BTreeMap::new();
        ports.insert(BORDER.into(), None);
        for PortOption { name, interface } in &self.ports {
            if ports.values().any(|taken| *taken == Some(*interface)) {
                return Err(Error::PortTwice(interface.to_string()));
            }
            if ports
                .insert(name.as_str().into(), Some(*interface))
                .is_some()
            {
                return Err(Error::PortTwice(name.clone()));
            }
        }
        Ok(NodeConfig {
            switch: self.name.as_str().into(),
            tunnel_ip: self.tunnel_ip,
            wan_ip: self.wan_ip(),
            wan_underlay: Underlay::Own,
            ports,
            mtu: self.mtu,
            ipv6,
            vlan_form,
            bum_limit: Some(self.bum_limit).filter(|limit| *limit > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, String> {
        let words = std::iter::once("vtep").chain(line.split_whitespace());
        Line::try_parse_from(words)
            .map(|line| line.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_command_line_is_understood() {
        let line = "--name sw --tunnel-ip 10.0.0.1 --port up=eth1 --listen ptcp:6640 --manager tcp:10.0.0.9:6640";
        let switch = parse(line).unwrap().switch.unwrap();
        assert_eq!(switch.wan_ip(), switch.tunnel_ip);
        let config = switch.node_config(true, VlanForm::Steered).unwrap();
        let names: Vec<_> = config.ports.keys().map(AsRef::as_ref).collect();
        assert_eq!(names, ["border", "up"]);
    }

    #[test]
    fn down_needs_no_switch() {
        let options = parse("down --state-dir /tmp/x").unwrap();
        assert!(
            matches!(options.command, Some(Command::Down { state_dir }) if state_dir.ends_with("x"))
        );
        assert!(options.switch.is_none());
    }

    #[test]
    fn a_check_takes_what_is_known_yet() {
        let Some(Command::Check(check)) = parse("check --wan-ip 192.0.2.1 --mtu 1450")
            .unwrap()
            .command
        else {
            panic!("another command");
        };
        assert_eq!((check.tunnel_ip, check.mtu), (None, 1450));
        assert!(check.wan_ip.is_some() && check.ports.is_empty());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (line, told) in [
            ("", "--name"),
            ("--tunnel-ip 10.0.0.1", "--name"),
            ("--name sw", "--tunnel-ip"),
            ("--name sw --tunnel-ip 127.0.0.1", "no tunnel can end"),
            (
                "--name sw --tunnel-ip 10.0.0.1 --port eth1",
                "expected NAME=INTERFACE",
            ),
            (
                "--name sw --tunnel-ip 10.0.0.1 --port border=eth1",
                "reserved",
            ),
            (
                "--name sw --tunnel-ip 10.0.0.1 --port a=sixteen-bytes-xx",
                "not an interface name",
            ),
            (
                "--name sw --tunnel-ip 10.0.0.1 --listen tcp:1.2.3.4:5",
                "expected ptcp",
            ),
            (
                "--name sw --tunnel-ip 10.0.0.1 --wan-netns wan",
                "--wan-ip <IP>",
            ),
            (
                "--name sw --tunnel-ip 10.0.0.1 --wan-ip 192.0.2.1 --wan-netns a/b",
                "expected the name of a network namespace",
            ),
            (
                "--name sw --tunnel-ip 10.0.0.1 --manager ptcp:6640",
                "expected tcp",
            ),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
        let switch = parse("--name sw --tunnel-ip 10.0.0.1 --port a=eth1 --port b=eth1")
            .unwrap()
            .switch;
        let error = switch
            .unwrap()
            .node_config(true, VlanForm::Steered)
            .unwrap_err();
        assert_eq!(error.to_string(), "--port: eth1 is given twice");
        let one_address = "--name sw --tunnel-ip 10.0.0.1 --wan-ip 10.0.0.1 --wan-netns wan";
        let switch = parse(one_address).unwrap().switch.unwrap();
        let error = switch.node_config(true, VlanForm::Steered).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--wan-netns: --wan-ip 10.0.0.1 is the address of --tunnel-ip; it must be another one"
        );
    }
}
