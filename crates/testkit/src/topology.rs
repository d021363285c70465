//! Clouds on one machine: each with VMs, compute hosts and a border gateway, all on one WAN.
//!
//! ```text
//!   vm ── compute ──(VXLAN, the cloud's VNI)── LAN ── border gateway ══ WAN ══ border gateway ── LAN ── compute ── vm
//! ```
//!
//! Every box is a network namespace. Addresses follow from the cloud's number n (1 for the first) and the box's k:
//! LAN 10.n.0.0/24, where the gateway is .1 and compute host k is .(10 + k); the gateway's WAN address is 10.9.0.n;
//! station k is 192.168.10.(10 n + k) with the MAC address fa:16:3e:00:0n:0k. All stations are in one IP subnet, for the
//! clouds are to become one layer-2 network.
//!
//! Only the fixture's own parts are set up here. What a border gateway does between its LAN and its WAN is the
//! product's business, or the test's.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};

use crate::capture::{Capture, send};
use crate::frame::{Ethernet, Mac};
use crate::netns::{Netns, remove_orphans, unique_prefix};
use crate::ping::{Loss, PingStream, ping};
use crate::run::{CONVERGES_WITHIN, eventually, run};

/// Largest tenant frame's payload: the WAN's 1500 bytes less VXLAN's 50 over IPv4.
pub const TENANT_MTU: u32 = 1450;

/// The border gateway's interface on its WAN side.
pub const WAN: &str = "wan";
/// A box's interface on its cloud's LAN.
pub const LAN: &str = "lan";
/// A station's only interface.
pub const ETH0: &str = "eth0";

/// What a cloud is to be.
#[derive(Debug, Clone, Copy)]
pub struct CloudPlan {
    /// Short name, the namespaces' second part: `a`.
    pub name: &'static str,
    /// Tunnel key of the network inside this cloud.
    pub vni: u32,
    /// How many compute hosts, each with one VM: 0 to 9.
    pub computes: u8,
}

impl CloudPlan {
    /// One compute host with one VM.
    #[must_use]
    pub fn new(name: &'static str, vni: u32) -> Self {
        Self {
            name,
            vni,
            computes: 1,
        }
    }
}

/// Clouds and the WAN between them. Dropping it takes everything down.
#[derive(Debug)]
pub struct Topology {
    /// The clouds, in the order they were planned.
    pub clouds: Vec<Cloud>,
    /// What the border gateways' WAN interfaces are plugged into.
    pub wan: Switch,
}

impl Topology {
    /// Cloud `a` with VNI 123 and cloud `b` with VNI 789, as in the specification's picture.
    ///
    /// # Errors
    /// Not root, or the kernel refuses.
    pub fn two_clouds() -> Result<Self> {
        Self::build(
            &unique_prefix(),
            &[CloudPlan::new("a", 123), CloudPlan::new("b", 789)],
        )
    }

    /// The planned clouds, under names nobody else uses.
    ///
    /// # Errors
    /// Not root, or the kernel refuses.
    pub fn of(plans: &[CloudPlan]) -> Result<Self> {
        Self::build(&unique_prefix(), plans)
    }

    /// The planned clouds, every namespace's name starting with `prefix` and a dash.
    ///
    /// # Errors
    /// Not root, more than 8 clouds, a name is taken, or the kernel refuses.
    pub fn build(prefix: &str, plans: &[CloudPlan]) -> Result<Self> {
        ensure!(
            plans.len() <= 8,
            "10.9.0.0/24 is the WAN, so there is room for 8 clouds"
        );
        remove_orphans()?;
        let wan = Switch::create(&format!("{prefix}-wan"))?;
        let mut clouds = Vec::new();
        for (number, plan) in (1..).zip(plans) {
            clouds.push(Cloud::build(prefix, number, *plan, &wan)?);
        }
        Ok(Self { clouds, wan })
    }

    /// Captures on the WAN side of cloud `index`'s border gateway: with two clouds, all that crosses the WAN, once each.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn capture_wan(&self, index: usize) -> Result<Capture> {
        Capture::start(self.cloud(index)?.gateway.outside(), WAN)
    }

    /// All clouds, in the order they were planned: `let [a, b] = topology.all()?;`.
    ///
    /// # Errors
    /// There are not just that many.
    pub fn all<const N: usize>(&self) -> Result<[&Cloud; N]> {
        let clouds: Vec<_> = self.clouds.iter().collect();
        clouds
            .try_into()
            .map_err(|clouds: Vec<_>| anyhow::anyhow!("there are {} clouds, not {N}", clouds.len()))
    }

    /// The cloud planned as `index`, from 0.
    ///
    /// # Errors
    /// There are fewer.
    pub fn cloud(&self, index: usize) -> Result<&Cloud> {
        self.clouds
            .get(index)
            .ok_or_else(|| anyhow::anyhow!("there is no cloud {index}"))
    }
}

/// An Ethernet switch: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Switch {
    /// Where the bridge is.
    pub netns: Netns,
}

impl Switch {
    fn create(name: &str) -> Result<Self> {
        let netns = Netns::create(name)?;
        netns.without_ipv6()?;
        netns.ip("link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set switch up")?;
        Ok(Self { netns })
    }

    /// Lays a cable to another switch.
    ///
    /// # Errors
    /// There is one already.
    pub fn join(&self, other: &Self) -> Result<()> {
        connect((&self.netns, "cable"), (&other.netns, "cable"))?;
        self.netns.ip("link set cable master switch up")?;
        other.netns.ip("link set cable master switch up")
    }

    /// Takes the cable that [`Self::join`] laid away.
    ///
    /// # Errors
    /// There is none.
    pub fn part(&self) -> Result<()> {
        self.netns.ip("link delete cable")
    }

    /// Plugs `interface` of `netns`, which is made for it, into this switch's new port `port`.
    ///
    /// # Errors
    /// A name is taken.
    pub fn plug(&self, port: &str, netns: &Netns, interface: &str) -> Result<()> {
        connect((&self.netns, port), (netns, interface))?;
        self.netns
            .ip(&format!("link set {port} master switch up"))?;
        netns.ip(&format!("link set {interface} up"))
    }
}

/// One cloud.
#[derive(Debug)]
pub struct Cloud {
    /// As planned.
    pub name: &'static str,
    /// Tunnel key of the network inside this cloud.
    pub vni: u32,
    /// The border gateway, with nothing on it but its addresses.
    pub gateway: BorderGateway,
    /// Compute hosts.
    pub computes: Vec<Compute>,
    /// VMs, one on each compute host, in the same order.
    pub vms: Vec<Station>,
    /// Hosts plugged into ports of the border gateway, in the order they were added.
    pub bare_metal: Vec<BareMetal>,
    /// Switches plugged into ports of the border gateway, in the order they were added.
    pub segments: Vec<Segment>,
    /// What compute hosts and gateway are plugged into.
    pub lan: Switch,
    number: u8,
    prefix: String,
}

impl Cloud {
    fn build(prefix: &str, number: u8, plan: CloudPlan, wan: &Switch) -> Result<Self> {
        let CloudPlan {
            name,
            vni,
            computes,
        } = plan;
        ensure!(computes <= 9, "a station's address has one digit for it");
        let prefix = format!("{prefix}-{name}");
        let lan = Switch::create(&format!("{prefix}-lan"))?;
        let gateway = BorderGateway {
            netns: Netns::create(&format!("{prefix}-gateway"))?,
            tunnel_ip: Ipv4Addr::new(10, number, 0, 1),
            wan_ip: Ipv4Addr::new(10, 9, 0, number),
            wan_netns: None,
        };
        // No IPv6 on the underlay, where frames are counted; interfaces that come later, the product's, have it.
        gateway
            .netns
            .sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        lan.plug("gateway", &gateway.netns, LAN)?;
        wan.plug(&format!("cloud-{name}"), &gateway.netns, WAN)?;
        gateway
            .netns
            .sysctl("net/ipv6/conf/default/disable_ipv6", "0")?;
        gateway.netns.ip(&format!(
            "address add {}/24 dev {LAN}\naddress add {}/24 dev {WAN}",
            gateway.tunnel_ip, gateway.wan_ip
        ))?;
        let mut cloud = Self {
            name,
            vni,
            gateway,
            computes: Vec::new(),
            vms: Vec::new(),
            bare_metal: Vec::new(),
            segments: Vec::new(),
            lan,
            number,
            prefix,
        };
        let tunnel_ips: Vec<_> = (1..=computes)
            .map(|k| Ipv4Addr::new(10, number, 0, 10 + k))
            .collect();
        for (k, tunnel_ip) in (1..).zip(&tunnel_ips) {
            let others = tunnel_ips.iter().filter(|other| *other != tunnel_ip);
            let floods_to: Vec<_> = others.chain([&cloud.gateway.tunnel_ip]).copied().collect();
            cloud.add_compute(k, *tunnel_ip, &floods_to)?;
        }
        Ok(cloud)
    }

    fn add_compute(&mut self, k: u8, tunnel_ip: Ipv4Addr, floods_to: &[Ipv4Addr]) -> Result<()> {
        let netns = Netns::create(&format!("{}-compute{k}", self.prefix))?;
        netns.without_ipv6()?;
        self.lan.plug(&format!("compute{k}"), &netns, LAN)?;
        let vni = self.vni;
        netns.ip(&format!(
            "address add {tunnel_ip}/24 dev {LAN}\n\
             link add overlay type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link add vxlan{vni} type vxlan id {vni} local {tunnel_ip} dstport 4789\n\
             link set vxlan{vni} mtu {TENANT_MTU} master overlay up\n\
             link set overlay mtu {TENANT_MTU} up"
        ))?;
        let flood = floods_to
            .iter()
            .map(|to| format!("fdb append 00:00:00:00:00:00 dev vxlan{vni} dst {to}\n"));
        netns.bridge(&flood.collect::<String>())?;

        let vm = self.new_station(k, &format!("vm{k}"), (&netns, "vm"))?;
        netns.ip("link set vm master overlay up")?;
        self.vms.push(vm);
        self.computes.push(Compute { netns, tunnel_ip });
        Ok(())
    }

    /// Plugs a host into the border gateway's new interface `interface`, and leaves it to the gateway to use it.
    ///
    /// # Errors
    /// The interface exists, or the kernel refuses.
    pub fn add_bare_metal(&mut self, interface: &str) -> Result<()> {
        // VMs and hosts share the numbering of addresses; the gateway leaves VMs the lower half.
        let k = 5 + u8::try_from(self.bare_metal.len())?;
        ensure!(
            k <= 9 && self.vms.len() < 5,
            "a station's address has one digit for it"
        );
        let station = self.new_station(k, &format!("host{k}"), (&self.gateway.netns, interface))?;
        self.gateway
            .netns
            .ip(&format!("link set {interface} addrgenmode none up"))?;
        self.bare_metal.push(BareMetal {
            station,
            interface: interface.to_owned(),
        });
        Ok(())
    }

    /// Plugs a switch into the border gateway's new interface `interface`, and leaves it to the gateway to use it.
    ///
    /// # Errors
    /// The interface exists, or the kernel refuses.
    pub fn add_segment(&mut self, interface: &str) -> Result<()> {
        let switch = Switch::create(&format!("{}-{interface}", self.prefix))?;
        connect((&switch.netns, "gateway"), (&self.gateway.netns, interface))?;
        switch.netns.ip("link set gateway master switch up")?;
        self.gateway
            .netns
            .ip(&format!("link set {interface} addrgenmode none up"))?;
        self.segments.push(Segment {
            switch,
            interface: interface.to_owned(),
        });
        Ok(())
    }

    fn new_station(&self, k: u8, name: &str, plugged_into: (&Netns, &str)) -> Result<Station> {
        let netns = Netns::create(&format!("{}-{name}", self.prefix))?;
        netns.without_ipv6()?;
        let station = Station {
            netns,
            mac: [0xfa, 0x16, 0x3e, 0, self.number, k],
            ip: Ipv4Addr::new(192, 168, 10, self.number * 10 + k),
        };
        connect(plugged_into, (&station.netns, ETH0))?;
        station.netns.ip(&format!(
            "link set {ETH0} address {} mtu {TENANT_MTU} up\naddress add {}/24 dev {ETH0}",
            station.mac_text(),
            station.ip
        ))?;
        Ok(station)
    }

    /// Joins this cloud's network with others by hand, out of the same kernel parts that the product uses: a bridge between a
    /// VXLAN device for the inside and one for the WAN, whose socket is where the WAN interface is, each with its flood list.
    ///
    /// # Errors
    /// The devices are there already, or the kernel refuses.
    pub fn stretch_by_hand(&self, wan_key: u32, remotes: &[Ipv4Addr]) -> Result<()> {
        let BorderGateway {
            netns,
            tunnel_ip,
            wan_ip,
            wan_netns,
        } = &self.gateway;
        let elsewhere = wan_netns
            .as_ref()
            .map(|outside| format!("link-netns {}", outside.name()))
            .unwrap_or_default();
        netns.ip(&format!(
            "link add stretched type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set stretched addrgenmode none\n\
             link add inside type vxlan id {} local {tunnel_ip} dstport 4789 nolearning\n\
             link add outside {elsewhere} type vxlan id {wan_key} local {wan_ip} dstport 4789 nolearning\n\
             link set inside addrgenmode none mtu {TENANT_MTU} master stretched up\n\
             link set outside addrgenmode none mtu {TENANT_MTU} master stretched up\n\
             link set stretched mtu {TENANT_MTU} up",
            self.vni
        ))?;
        let inside = self
            .computes
            .iter()
            .map(|compute| ("inside", compute.tunnel_ip));
        let outside = remotes.iter().map(|remote| ("outside", *remote));
        for (device, to) in inside.chain(outside) {
            netns.bridge(&format!(
                "fdb append 00:00:00:00:00:00 dev {device} dst {to}"
            ))?;
        }
        Ok(())
    }

    /// Moves the border gateway's WAN interface, with its address, to a namespace of its own.
    ///
    /// # Errors
    /// It was moved already, or the kernel refuses.
    pub fn move_wan(&mut self) -> Result<()> {
        let outside = Netns::create(&format!("{}-outside", self.prefix))?;
        outside.without_ipv6()?;
        let (inside, wan_ip) = (&self.gateway.netns, self.gateway.wan_ip);
        inside.ip(&format!("link set {WAN} netns {}", outside.name()))?;
        outside.ip(&format!(
            "address add {wan_ip}/24 dev {WAN}\nlink set {WAN} up"
        ))?;
        self.gateway.wan_netns = Some(outside);
        Ok(())
    }

    /// The cloud's first VM.
    ///
    /// # Errors
    /// It was planned without compute hosts.
    pub fn vm(&self) -> Result<&Station> {
        self.vms
            .first()
            .ok_or_else(|| anyhow::anyhow!("cloud {} has no VM", self.name))
    }
}

/// The box between a cloud's LAN and the WAN.
#[derive(Debug)]
pub struct BorderGateway {
    /// Its namespace, with interfaces [`LAN`] and [`WAN`].
    pub netns: Netns,
    /// Its address on the LAN.
    pub tunnel_ip: Ipv4Addr,
    /// Its address on the WAN.
    pub wan_ip: Ipv4Addr,
    /// Where the WAN interface is, if it was moved.
    pub wan_netns: Option<Netns>,
}

impl BorderGateway {
    /// The namespace that has the WAN interface.
    #[must_use]
    pub fn outside(&self) -> &Netns {
        self.wan_netns.as_ref().unwrap_or(&self.netns)
    }
}

/// A compute host: a plain kernel VXLAN device that learns, and floods to the border gateway and the other hosts.
#[derive(Debug)]
pub struct Compute {
    /// Its namespace.
    pub netns: Netns,
    /// Its address on the LAN.
    pub tunnel_ip: Ipv4Addr,
}

/// A host plugged into the border gateway.
#[derive(Debug)]
pub struct BareMetal {
    /// The host.
    pub station: Station,
    /// The border gateway's interface at the other end of the cable.
    pub interface: String,
}

/// A switch plugged into the border gateway.
#[derive(Debug)]
pub struct Segment {
    /// The switch.
    pub switch: Switch,
    /// The border gateway's interface at the other end of the cable.
    pub interface: String,
}

/// An end station: a VM, or a host on a port of the border gateway.
#[derive(Debug)]
pub struct Station {
    /// Its namespace, with the interface [`ETH0`].
    pub netns: Netns,
    /// Its MAC address.
    pub mac: Mac,
    /// Its IP address.
    pub ip: Ipv4Addr,
}

impl Station {
    /// The MAC address as people write it.
    #[must_use]
    pub fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// Gives the station an IPv6 address beside its IPv4 address, and returns it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn with_ipv6(&self) -> Result<Ipv6Addr> {
        let [.., cloud, host] = self.mac;
        let ip = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, cloud.into(), host.into());
        let setting = format!("net/ipv6/conf/{ETH0}/disable_ipv6");
        self.netns.sysctl(&setting, "0")?;
        self.netns
            .ip(&format!("address replace {ip}/64 dev {ETH0} nodad"))?;
        Ok(ip)
    }

    /// Pings another station `count` times, five a second.
    ///
    /// # Errors
    /// As [`ping`](fn@ping).
    pub fn ping(&self, to: &Self, count: u32) -> Result<Loss> {
        ping(&self.netns, to.ip, count)
    }

    /// Waits until another station answers a ping: what was declared has reached the kernels on the way.
    ///
    /// # Errors
    /// It does not within 20 seconds.
    pub fn wait_until_reaches(&self, to: &Self) -> Result<()> {
        eventually(
            &format!("{} answers {}", to.ip, self.ip),
            CONVERGES_WITHIN,
            || {
                ensure!(self.ping(to, 1)?.none(), "no answer");
                Ok(())
            },
        )
    }

    /// Waits until another station answers no more.
    ///
    /// # Errors
    /// It still does after 20 seconds.
    pub fn wait_until_cut_off_from(&self, to: &Self) -> Result<()> {
        eventually(
            &format!("{} no longer answers {}", to.ip, self.ip),
            CONVERGES_WITHIN,
            || {
                ensure!(self.ping(to, 1)?.total(), "it answers");
                Ok(())
            },
        )
    }

    /// Pings another station in the background, `per_second` times a second.
    ///
    /// # Errors
    /// As [`PingStream::start`].
    pub fn ping_stream(&self, to: &Self, per_second: u32) -> Result<PingStream> {
        PingStream::start(&self.netns, to.ip, per_second)
    }

    /// Forgets what ARP has found out.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget_neighbours(&self) -> Result<()> {
        run(self
            .netns
            .command("ip")
            .args(["neigh", "flush", "dev", ETH0, "nud", "all"]))?;
        Ok(())
    }

    /// Captures what this station sends and receives.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn capture(&self) -> Result<Capture> {
        Capture::start(&self.netns, ETH0)
    }

    /// Sends one frame, as it is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn send(&self, frame: &Ethernet) -> Result<()> {
        send(&self.netns, ETH0, frame)
    }
}

/// Lays a cable between two namespaces: a veth pair, each end under its name.
fn connect(
    (left, left_interface): (&Netns, &str),
    (right, right_interface): (&Netns, &str),
) -> Result<()> {
    run(std::process::Command::new("ip")
        .args([
            "link",
            "add",
            "name",
            left_interface,
            "netns",
            left.name(),
            "type",
            "veth",
        ])
        .args(["peer", "name", right_interface, "netns", right.name()]))?;
    Ok(())
}
