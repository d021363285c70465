//! On the way from one right state to another nothing is missing in between: rows change where they are, and new ways are
//! there before old ones go.

use hardware_vtep::Database;
use model::resource::Kind;
use model::row::Value;
use model::status::Status;
use model::switch::{Locator, SwitchState};
use ovsdb::{
    Change, Connection, ConnectionOptions, DatabaseSchema, MonitoredTable, Operation, Replica,
    RowError, Transaction,
};
use server::account::Consent;
use uuid::Uuid;

use crate::bench::{Bench, Stretch, ip, row};

const CONNECTION: Kind = Kind::L2RemoteGatewayConnection;
/// Several transactions' worth.
const MACS: u64 = 500;

/// Sees every state that a switch is in, one after the other.
struct Witness {
    database: Database,
    states: Vec<SwitchState>,
    /// Rows that went, by table.
    gone: Vec<(String, Uuid)>,
}

impl Replica for Witness {
    fn tables() -> &'static [MonitoredTable] {
        Database::tables()
    }

    fn new(schema: &DatabaseSchema) -> Self {
        Self {
            database: Database::new(schema),
            states: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn apply(&mut self, table: &str, uuid: Uuid, change: Change<'_>) -> Result<(), RowError> {
        if matches!(change, Change::Delete) {
            self.gone.push((table.to_owned(), uuid));
        }
        self.database.apply(table, uuid, change)
    }

    fn settle(&mut self) {
        self.database.settle();
        self.states.push(self.database.state().clone());
    }
}

async fn witness(bench: &Bench) -> Connection<Witness> {
    let target = bench.switch.unix_target().parse().unwrap();
    let witness = Connection::start(target, hardware_vtep::NAME, ConnectionOptions::default());
    witness.up().await;
    witness
}

/// Waits until the witness has seen a state, and returns all up to it.
async fn until(
    witness: &Connection<Witness>,
    right: impl Fn(&SwitchState) -> bool,
) -> Vec<SwitchState> {
    let mut wakeups = witness.wakeups();
    let seen = async {
        loop {
            wakeups.borrow_and_update();
            let states = witness
                .replica()
                .read(|held| held.map(|held| held.states.clone()));
            let states = states.unwrap_or_default();
            if states.last().is_some_and(&right) {
                return states;
            }
            wakeups.changed().await.unwrap();
        }
    };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, seen).await.unwrap()
}

fn gone(witness: &Connection<Witness>, table: &str) -> usize {
    let of = |held: &Witness| held.gone.iter().filter(|(from, _)| from == table).count();
    witness.replica().read(|held| held.map_or(0, of))
}

/// A bench whose switch holds a network with many MACs behind a remote gateway.
async fn stretched() -> (Bench, Stretch) {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    bench.insert(stretch.rows()).await;
    let macs =
        (0..MACS).map(|n| Stretch::mac(&stretch.connection, &stretch.attachment, 0x1000 + n));
    bench.insert(macs.collect()).await;
    let name = stretch.name();
    let all = usize::try_from(MACS).unwrap() + 1;
    bench
        .until_held(|held| {
            let network = held.logical_switches.get(&name);
            network.is_some_and(|network| network.macs.len() == all)
        })
        .await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    (bench, stretch)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mac_and_no_flooding_is_missing_for_a_moment_while_a_remote_gateway_moves() {
    let (bench, mut stretch) = stretched().await;
    let witness = witness(&bench).await;
    stretch.remote_gateway.set("ipaddr", ip("203.0.113.9"));
    bench.update(stretch.remote_gateway.clone()).await;
    let name = stretch.name();
    let at = |host: u8| Locator {
        ip: [203, 0, 113, host].into(),
        tunnel_key: model::value::Vni::new(1123),
    };
    let states = until(&witness, |state| {
        let network = &state.logical_switches[&name];
        let macs = network.macs.values();
        network.flood == [at(9)].into() && macs.map(|to| to.locator).all(|to| to == at(9))
    })
    .await;
    for state in &states {
        let network = &state.logical_switches[&name];
        assert_eq!(network.macs.len() as u64, MACS + 1);
        assert!(
            network
                .macs
                .values()
                .all(|to| [at(2), at(9)].contains(&to.locator))
        );
        assert_eq!(network.flood.len(), 1);
        assert_eq!(state.bindings.len(), 1);
    }
    assert!(states.len() > 2, "it takes several transactions");
    for table in ["Ucast_Macs_Remote", "Mcast_Macs_Remote", "Logical_Switch"] {
        assert_eq!(gone(&witness, table), 0, "{table}: rows change in place");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_changes_ports_is_bound_to_the_new_one_before_it_leaves_the_old_one() {
    let (bench, mut stretch) = stretched().await;
    let witness = witness(&bench).await;
    let devices = r#"[{"device_name":"tor","interfaces":[{"name":"p2","segmentation_id":[]}]}]"#;
    stretch.gateway.set("devices", devices.into());
    bench.update(stretch.gateway.clone()).await;
    let bound = |state: &SwitchState| -> Vec<String> {
        let ports = state.bindings.keys();
        ports.map(|bound| bound.port.name.to_string()).collect()
    };
    let states = until(&witness, |state| bound(state) == ["p2"]).await;
    assert!(states.iter().all(|state| !bound(state).is_empty()));
    assert_eq!(gone(&witness, "Ucast_Macs_Remote"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_of_the_network_takes_no_row_away() {
    let (bench, mut stretch) = stretched().await;
    let witness = witness(&bench).await;
    stretch
        .network
        .set("provider:segmentation_id", Value::Integer(321));
    bench.update(stretch.network.clone()).await;
    let name = stretch.name();
    let key = model::value::Vni::new(321);
    until(&witness, |state| {
        state.logical_switches[&name].tunnel_key == key
    })
    .await;
    let id = stretch.connection.id();
    bench.until_status(CONNECTION, id, Status::Active).await;
    assert_eq!(
        witness.replica().read(|held| held.unwrap().gone.clone()),
        []
    );
}

/// Rows with their versions, which any write changes.
pub(crate) async fn versions(bench: &Bench, table: &'static str) -> Vec<serde_json::Value> {
    let (session, _) = bench.eyes.up().await;
    let select = Operation::select(table, [], ["_uuid", "_version"]);
    let asked = session.transact(hardware_vtep::NAME, &Transaction::new().with(select));
    asked.await.unwrap().rows(0).unwrap()
}

/// As its agent writes it for a network with two stations: the logical switch by the network's id, locators without keys,
/// stations with their addresses, no flooding, a binding.
#[tokio::test(flavor = "multi_thread")]
async fn what_networking_l2gw_left_forwards_while_it_is_taken_over_and_only_what_differs_is_written()
 {
    let bench = Bench::new().await;
    let stretch = Stretch::new("p1", 123);
    let name = stretch.name();
    let lines = [
        format!("add-ls {name} -- set Logical_Switch {name} tunnel_key=123 description=blue"),
        format!("add-ucast-remote {name} 02:00:00:00:00:01 vxlan_over_ipv4 192.0.2.1"),
        format!("add-ucast-remote {name} 02:00:00:00:00:02 vxlan_over_ipv4 192.0.2.2"),
        format!("bind-ls tor p1 0 {name}"),
    ];
    for line in &lines {
        bench.vtep_ctl(&line.split(' ').collect::<Vec<_>>());
    }
    for (mac, ip) in [("01", "192.0.2.101"), ("02", "192.0.2.102")] {
        let row = format!(r#"set Ucast_Macs_Remote {} ipaddr="{ip}""#, {
            let find = format!(
                "--bare --columns=_uuid find Ucast_Macs_Remote MAC=\"02:00:00:00:00:{mac}\""
            );
            bench.vtep_ctl(&find.split(' ').collect::<Vec<_>>())
        });
        bench.vtep_ctl(&row.split(' ').collect::<Vec<_>>());
    }
    let stations = versions(&bench, "Ucast_Macs_Remote").await;
    let ports = versions(&bench, "Physical_Port").await;

    // The cloud says the same, and that a second network is stretched.
    let port = |last: u8| {
        row(
            Kind::Port,
            &[
                ("name", "".into()),
                ("tenant_id", "".into()),
                ("network_id", Value::Uuid(stretch.network.id())),
                (
                    "mac_address",
                    Value::Mac(model::value::MacAddress::from_u64(
                        0x0200_0000_0000 | u64::from(last),
                    )),
                ),
                ("admin_state_up", Value::Bool(true)),
                (
                    "fixed_ips",
                    format!(r#"[{{"ip_address":"192.0.2.10{last}"}}]"#)
                        .as_str()
                        .into(),
                ),
                ("binding:host_id", "".into()),
                ("device_id", "".into()),
                ("device_owner", "".into()),
                (
                    "binding:profile",
                    format!(r#"{{"tunneling_ip":"192.0.2.{last}"}}"#)
                        .as_str()
                        .into(),
                ),
            ],
        )
    };
    bench
        .insert(vec![
            stretch.network.clone(),
            stretch.gateway.clone(),
            stretch.attachment.clone(),
            port(1),
            port(2),
        ])
        .await;
    bench.until_settled().await;
    // What adoption would write is told before: nothing of the stations and bindings that are right.
    let found = bench.account().compare().unwrap();
    let steps: Vec<_> = found.plan.steps.iter().map(ToString::to_string).collect();
    assert!(
        !steps
            .iter()
            .any(|step| step.contains("02:00:00:00:00") || step.contains("binding")),
        "{steps:#?}"
    );
    let witness = witness(&bench).await;
    bench.consent(Consent::ToAll);
    let states = until(&witness, |state| {
        let network = &state.logical_switches[&name];
        network.owned && network.flood.len() == 2
    })
    .await;
    for state in &states {
        let network = &state.logical_switches[&name];
        assert_eq!((network.macs.len(), state.bindings.len()), (2, 1));
    }
    bench.until_settled().await;
    assert_eq!(bench.account().told().withheld, None);
    assert_eq!(
        versions(&bench, "Ucast_Macs_Remote").await,
        stations,
        "not written again"
    );
    assert_eq!(
        versions(&bench, "Physical_Port").await,
        ports,
        "not written again"
    );
    assert_eq!(
        witness.replica().read(|held| held.unwrap().gone.clone()),
        []
    );
}
