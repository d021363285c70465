//! What may happen: requests of the API, and misfortunes.

use proptest::prelude::*;

/// Picks among the objects that there are at that moment.
pub(crate) type Index = u16;

/// Something that happens; nothing where it needs an object and there is none.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    CreateNetwork,
    CreatePort {
        network: Index,
        host: u8,
    },
    CreateGateway {
        ports: u8,
    },
    ChangeGateway {
        gateway: Index,
        ports: u8,
    },
    Attach {
        gateway: Index,
        network: Index,
        vlan: u16,
    },
    CreateRemote {
        host: u8,
    },
    MoveRemote {
        remote: Index,
        host: u8,
    },
    Connect {
        attachment: Index,
        remote: Index,
        key: u32,
        flood: bool,
    },
    /// One MAC, which may be that of a port of the network.
    AddMac {
        connection: Index,
        port: Option<Index>,
    },
    /// So many MACs in one request.
    AddMacs {
        connection: Index,
        count: u16,
    },
    DeleteNetwork(Index),
    DeletePort(Index),
    DeleteGateway(Index),
    Detach(Index),
    DeleteRemote(Index),
    Disconnect(Index),
    DeleteMac(Index),

    /// All connections to the switch's database are cut.
    Cut,
    /// Something that is no OVSDB comes over them.
    Garbage(Garbage),
    /// Its database is converted to another schema while it serves.
    Convert,
    /// Its ovsdb-server is killed and started again.
    RestartSwitch,
    /// Its ovsdb-server stands still for a moment.
    FreezeSwitch,
    /// An administrator deletes rows of ours with vtep-ctl.
    AdminDeletes {
        network: Index,
        what: AdminDeletes,
    },
    /// Another controller makes a logical switch of its own.
    Foreign,
    /// Somebody puts a MAC on a logical switch of ours.
    Intrude(Index),
    /// Somebody takes the lock.
    Steal,
    /// And gives it back.
    Release,
    /// The server ends in the middle of what it is doing, and another one starts on its database.
    KillServer,
    /// Nothing happens for so many milliseconds.
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Garbage {
    Unreadable,
    /// JSON, but no message.
    Strange,
    /// A message that nobody asked for.
    Unasked,
    /// An update that makes no sense.
    Senseless,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AdminDeletes {
    RemoteMacs,
    Bindings,
    Everything,
    Key,
}

/// Requests are more frequent than misfortunes, and creations than deletions.
pub(crate) fn act() -> impl Strategy<Value = Act> {
    let index = any::<Index>;
    let creations = prop_oneof![
        Just(Act::CreateNetwork),
        (index(), 1..4_u8).prop_map(|(network, host)| Act::CreatePort { network, host }),
        (1..8_u8).prop_map(|ports| Act::CreateGateway { ports }),
        (1..3_u8).prop_map(|host| Act::CreateRemote { host }),
    ];
    let joining = prop_oneof![
        3 => (index(), index(), 0..3_u16)
            .prop_map(|(gateway, network, vlan)| Act::Attach { gateway, network, vlan }),
        3 => (index(), index(), 1000..1004_u32, any::<bool>()).prop_map(
            |(attachment, remote, key, flood)| Act::Connect { attachment, remote, key, flood }
        ),
        2 => (index(), proptest::option::of(index()))
            .prop_map(|(connection, port)| Act::AddMac { connection, port }),
        2 => (index(), 1..400_u16)
            .prop_map(|(connection, count)| Act::AddMacs { connection, count }),
        1 => (index(), 1..8_u8)
            .prop_map(|(gateway, ports)| Act::ChangeGateway { gateway, ports }),
        1 => (index(), 1..5_u8).prop_map(|(remote, host)| Act::MoveRemote { remote, host }),
    ];
    let deletions = prop_oneof![
        index().prop_map(Act::DeleteNetwork),
        index().prop_map(Act::DeletePort),
        index().prop_map(Act::DeleteGateway),
        index().prop_map(Act::Detach),
        index().prop_map(Act::DeleteRemote),
        index().prop_map(Act::Disconnect),
        index().prop_map(Act::DeleteMac),
    ];
    let admin = prop_oneof![
        Just(AdminDeletes::RemoteMacs),
        Just(AdminDeletes::Bindings),
        Just(AdminDeletes::Everything),
        Just(AdminDeletes::Key),
    ];
    let garbage = prop_oneof![
        Just(Garbage::Unreadable),
        Just(Garbage::Strange),
        Just(Garbage::Unasked),
        Just(Garbage::Senseless),
    ];
    let misfortunes = prop_oneof![
        Just(Act::Cut),
        garbage.prop_map(Act::Garbage),
        Just(Act::Convert),
        Just(Act::RestartSwitch),
        Just(Act::FreezeSwitch),
        (index(), admin).prop_map(|(network, what)| Act::AdminDeletes { network, what }),
        Just(Act::Foreign),
        index().prop_map(Act::Intrude),
        Just(Act::Steal),
        Just(Act::Release),
        Just(Act::KillServer),
        (1..40_u64).prop_map(Act::Wait),
    ];
    prop_oneof![3 => creations, 8 => joining, 2 => deletions, 4 => misfortunes]
}
