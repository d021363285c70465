//! Both forms as plans, and the messages of the one that the kernel of our tests lacks.

use model::switch::{LogicalSwitch, LogicalSwitchName, PhysicalPort, PortVlan, SwitchState};
use model::value::Vni;
use netlink_packet_core::Emitable;

use super::super::desired::{NodeConfig, desired};
use super::super::plan::plan;
use super::super::underlay::Underlay;
use super::super::{observe, tc};
use super::*;

/// One network on VLAN 0 and 100 of a port.
fn planned(vlan_form: VlanForm) -> String {
    let config = NodeConfig {
        switch: "vtep".into(),
        tunnel_ip: [10, 0, 0, 1].into(),
        wan_ip: [192, 0, 2, 1].into(),
        wan_underlay: Underlay::Own,
        ports: [("up".into(), "eth1".parse().ok())].into(),
        mtu: 1500,
        ipv6: true,
        vlan_form,
        bum_limit: None,
    };
    let name = LogicalSwitchName::new("net-a");
    let network = LogicalSwitch {
        owned: true,
        tunnel_key: Vni::new(123),
        ..LogicalSwitch::default()
    };
    let binding = |vlan| {
        let port = PhysicalPort {
            switch: "vtep".into(),
            name: "up".into(),
        };
        let vlan = VlanId::new(vlan).unwrap();
        (PortVlan { port, vlan }, name.clone())
    };
    let switch = SwitchState {
        bindings: [binding(0), binding(100)].into(),
        logical_switches: [(name.clone(), network)].into(),
        ..SwitchState::default()
    };
    let wanted = desired(&switch, &config).state;
    let steps = plan(&wanted, &KernelState::default()).steps;
    let of_ports = steps.iter().map(ToString::to_string);
    let of_ports = of_ports.filter(|step| {
        ["eth1", " gv", " go"]
            .iter()
            .any(|name| step.contains(name))
    });
    of_ports.map(|step| step + "\n").collect()
}

#[test]
fn sub_interfaces_are_planned_like_this() {
    assert_eq!(
        planned(VlanForm::Subinterfaces),
        "\
no tagged frames on eth1
create vlan gv393255b20611: l2gw:vlan 100 of eth1
attach eth1 to gbba1e34a52aea
host side of gv393255b20611: ipv6 false link-local false arp false
attach gv393255b20611 to gbba1e34a52aea
bring up eth1
bring up gv393255b20611
"
    );
}

#[test]
fn pairs_are_planned_like_this() {
    assert_eq!(
        planned(VlanForm::Steered),
        "\
create vlan gv393255b20611: l2gw:vlan 100 of eth1
create vlan gv5d3255b2433d: l2gw:vlan 0 of eth1
change vlan go393255b20611: alias l2gw:vlan 100 of eth1 -> l2gw:outer end of vlan 100 of eth1
host side of go393255b20611: ipv6 false link-local false arp false
change vlan go5d3255b2433d: alias l2gw:vlan 0 of eth1 -> l2gw:outer end of vlan 0 of eth1
host side of go5d3255b2433d: ipv6 false link-local false arp false
host side of gv393255b20611: ipv6 false link-local false arp false
attach gv393255b20611 to gbba1e34a52aea
host side of gv5d3255b2433d: ipv6 false link-local false arp false
attach gv5d3255b2433d to gbba1e34a52aea
steer go393255b20611 with vlan 100 to eth1
steer go5d3255b2433d with vlan 0 to eth1
bring up eth1
bring up go393255b20611
bring up go5d3255b2433d
bring up gv393255b20611
bring up gv5d3255b2433d
steer eth1 by vlan: 0 to go5d3255b2433d 100 to go393255b20611
"
    );
}

#[test]
#[cfg(target_endian = "little")]
fn a_sub_interface_is_asked_for_by_number_and_vlan() {
    let shape = VlanShape {
        link: Link {
            alias: "l2gw:vlan 100 of eth1".into(),
            group: GROUP,
            mtu: 1500,
        },
        kind: VlanKind::Subinterface {
            of: "eth1".parse().ok(),
            vlan: 100,
        },
    };
    let request = message::create_vlan("gv0".parse().unwrap(), &shape, Some(7));
    let netlink_packet_route::RouteNetlinkMessage::NewLink(link) = request.message else {
        panic!("another message");
    };
    let mut bytes = vec![0; link.buffer_len()];
    link.emit(&mut bytes);
    let attributes = [
        // struct ifinfomsg
        "00000000 00000000 00000000 00000000",
        // IFLA_IFALIAS, 26 bytes
        "1a001400 6c326777 3a766c61 6e203130 30206f66 20657468 31000000",
        // IFLA_GROUP 77, IFLA_MTU 1500, IFLA_LINK 7
        "08001b00 4d000000 08000400 dc050000 08000500 07000000",
        // IFLA_LINKINFO: IFLA_INFO_KIND "vlan"
        "24001200 09000100 766c616e 00000000",
        // IFLA_INFO_DATA: IFLA_VLAN_PROTOCOL 0x8100 in network byte order, IFLA_VLAN_ID 100
        "14000200 06000500 81000000 06000100 64000000",
        // IFLA_IFNAME "gv0"
        "08000300 67763000",
    ];
    let words: Vec<String> = bytes
        .chunks(4)
        .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    assert_eq!(words.join(" "), attributes.join(" "));
}

/// The kernel proves of each program that it ends, along every path.
#[test]
fn the_kernel_takes_a_program_for_every_vlan_of_a_port() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let port: InterfaceName = "port".parse().unwrap();
    make_port(port).unwrap();
    let mut netlink = Netlink::open().unwrap();
    let index = observe::index(&mut netlink, port).unwrap().unwrap();
    for count in [1, 2, 4095] {
        let vlans = (0..count).filter_map(VlanId::new);
        let devices = vlans.map(|vlan| (vlan, 1000 + u32::from(vlan.get())));
        let (section, program) = inward(&devices.collect());
        let attachment = tc::Attachment {
            interface: port,
            index,
            section: section.clone(),
            program,
        };
        let refused = tc::attach(&mut netlink, &[attachment]).unwrap();
        assert_eq!(refused, BTreeMap::new());
        assert_eq!(
            tc::observe(&mut netlink).unwrap(),
            [(index, section)].into()
        );
    }
    tc::detach(&mut netlink, index).unwrap();
    assert_eq!(tc::observe(&mut netlink).unwrap(), Filters::new());
}

#[test]
fn a_program_that_is_refused_keeps_no_other_one_from_its_place() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let port: InterfaceName = "port".parse().unwrap();
    make_port(port).unwrap();
    let mut netlink = Netlink::open().unwrap();
    let index = observe::index(&mut netlink, port).unwrap().unwrap();
    let far_end: InterfaceName = "far-end".parse().unwrap();
    let far_index = observe::index(&mut netlink, far_end).unwrap().unwrap();
    let attach = |interface: InterfaceName, index, vlan| {
        let (section, program) = outward(VlanId::new(vlan).unwrap(), 1);
        tc::Attachment {
            interface,
            index,
            section,
            program,
        }
    };
    let unnamed: InterfaceName = "unnamed".parse().unwrap();
    let attachments = [
        // There is no such interface: the kernel has no hook for it.
        attach(unnamed, index + 100, 1),
        // tc finds none of that name.
        attach(unnamed, index, 2),
        attach(far_end, far_index, 3),
    ];
    let refused = tc::attach(&mut netlink, &attachments).unwrap();
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), [0, 1]);
    let said = refused.get(&1).unwrap();
    assert!(said.contains("unnamed"), "{said}");
    let section = attachments[2].section.clone();
    assert_eq!(
        tc::observe(&mut netlink).unwrap(),
        [(far_index, section)].into()
    );
}
