//! What a database takes of our memory. It is reckoned, not measured: each row by what rows take, and every text and list beside
//! that. Somebody else decides what is in it, so nothing of any length is left out.

use uuid::Uuid;

use super::Database;

/// Bytes that each thing takes which is derived from several rows, in the state and in comparisons of it.
const DERIVED: usize = 128;

impl Database {
    /// Bytes that it takes.
    pub(super) fn weigh(&self) -> usize {
        self.globals.weight()
            + self.managers.weight()
            + self.switches.weight()
            + self.ports.weight()
            + self.logical_switches.weight()
            + self.tunnels.weight()
            + self.remote_macs.weight()
            + self.local_macs.weight()
            + self.mcast_macs.weight()
            + self.locators.weight()
            + self.locator_sets.weight()
            + self.derived * DERIVED
    }

    /// Bytes that what was touched may come to when it is settled: a set of locators is derived for every row that refers to
    /// it, and a port for every switch that lists it, so few bytes of a message may be very many here.
    pub(super) fn weigh_what_comes(&self) -> usize {
        let floods: usize = match self.touched.everything {
            true => self.index.floods.keys().map(|it| self.flooded(*it)).sum(),
            false => self.touched.floods.iter().map(|it| self.flooded(*it)).sum(),
        };
        let ports = match self.touched.ports || self.touched.everything {
            true => self.places_of_ports(),
            false => 0,
        };
        (floods + ports) * DERIVED
    }

    /// How many ports and bindings are derived at most.
    fn places_of_ports(&self) -> usize {
        let ports = self.switches.values().flat_map(|it| self.ports_of(it));
        ports.map(|(_, row)| 1 + row.vlan_bindings.0.len()).sum()
    }

    /// How many locators a logical switch floods to at most.
    fn flooded(&self, logical_switch: Uuid) -> usize {
        let rows = self.flood_rows(logical_switch).iter();
        let sets = rows
            .filter_map(|row| self.mcast_macs.get(row))
            .filter_map(|row| self.locator_sets.get(&row.locator_set));
        sets.map(|set| set.locators.0.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use ovsdb::{Change, DatabaseSchema, Replica};
    use serde_json::{Value, json};

    use super::*;

    fn database() -> Database {
        let schema = json!({"name": "hardware_vtep", "tables": {}});
        Database::new(&serde_json::from_value::<DatabaseSchema>(schema).unwrap())
    }

    fn put(database: &mut Database, table: &str, number: u128, row: &Value) {
        let row = serde_json::value::to_raw_value(row).unwrap();
        let uuid = Uuid::from_u128(number);
        database.apply(table, uuid, Change::Put(&row)).unwrap();
    }

    fn delete(database: &mut Database, table: &str, number: u128) {
        let uuid = Uuid::from_u128(number);
        database.apply(table, uuid, Change::Delete).unwrap();
    }

    fn reference(number: u128) -> Value {
        json!(["uuid", Uuid::from_u128(number)])
    }

    fn set(numbers: std::ops::Range<u128>) -> Value {
        json!(["set", numbers.map(reference).collect::<Vec<_>>()])
    }

    /// A thousand rows that each refer to one set of a thousand locators are a message of 300 kB.
    #[test]
    fn a_set_weighs_for_each_that_refers_to_it_before_that_is_derived() {
        let mut database = database();
        for number in 0..1000 {
            let ip = format!("192.0.{}.{}", number / 250, number % 250);
            let locator = json!({"encapsulation_type": "vxlan_over_ipv4", "dst_ip": ip});
            put(&mut database, "Physical_Locator", number, &locator);
            let name = json!({"name": format!("ls{number}")});
            put(&mut database, "Logical_Switch", 10_000 + number, &name);
            let flood = json!({
                "MAC": "unknown-dst",
                "logical_switch": reference(10_000 + number),
                "locator_set": reference(1),
            });
            put(&mut database, "Mcast_Macs_Remote", number, &flood);
        }
        let locators = json!({"locators": set(0..1000)});
        put(&mut database, "Physical_Locator_Set", 1, &locators);
        let (now, to_come) = (database.weight(), database.weight_to_come());
        assert!(now < 2_000_000, "{now}");
        assert_eq!(to_come, 1_000_000 * DERIVED);
        database.settle();
        assert_eq!(database.weight(), now + to_come);
        assert_eq!(database.weight_to_come(), 0);

        for number in 0..1000 {
            delete(&mut database, "Mcast_Macs_Remote", number);
            delete(&mut database, "Logical_Switch", 10_000 + number);
            delete(&mut database, "Physical_Locator", number);
        }
        delete(&mut database, "Physical_Locator_Set", 1);
        database.settle();
        assert_eq!(database.weight(), 0);
    }

    #[test]
    fn a_port_weighs_for_each_switch_that_lists_it() {
        let mut database = database();
        put(&mut database, "Logical_Switch", 1, &json!({"name": "ls"}));
        let bindings: Vec<_> = (1..101).map(|vlan| json!([vlan, reference(1)])).collect();
        let port = json!({"name": "p", "vlan_bindings": ["map", bindings]});
        put(&mut database, "Physical_Port", 1, &port);
        for number in 0..100 {
            let switch = json!({"name": format!("tor{number}"), "ports": reference(1)});
            put(&mut database, "Physical_Switch", number, &switch);
        }
        let (now, to_come) = (database.weight(), database.weight_to_come());
        assert_eq!(to_come, 100 * 101 * DERIVED);
        database.settle();
        assert_eq!(database.weight(), now + to_come);
        delete(&mut database, "Physical_Port", 1);
        for number in 0..100 {
            delete(&mut database, "Physical_Switch", number);
        }
        delete(&mut database, "Logical_Switch", 1);
        database.settle();
        assert_eq!(database.weight(), 0);
    }

    #[test]
    fn texts_weigh_by_their_length_whatever_column_they_are_in() {
        let long = "x".repeat(10_000);
        let map = json!(["map", [["key", long]]]);
        let texts = json!(["set", [long]]);
        for (table, row) in [
            ("Manager", json!({"target": long})),
            ("Global", json!({"other_config": map})),
            ("Physical_Switch", json!({"name": long})),
            ("Physical_Switch", json!({"description": long})),
            ("Physical_Switch", json!({"tunnel_ips": texts})),
            ("Physical_Switch", json!({"switch_fault_status": texts})),
            ("Physical_Port", json!({"name": long})),
            ("Physical_Port", json!({"description": long})),
            ("Physical_Port", json!({"port_fault_status": texts})),
            ("Logical_Switch", json!({"name": long})),
            ("Logical_Switch", json!({"description": long})),
            ("Logical_Switch", json!({"replication_mode": long})),
            ("Logical_Switch", json!({"other_config": map})),
            ("Tunnel", json!({"bfd_status": map})),
            ("Tunnel", json!({"bfd_params": map})),
            ("Tunnel", json!({"bfd_config_local": map})),
            ("Tunnel", json!({"bfd_config_remote": map})),
        ] {
            let mut database = database();
            put(&mut database, table, 1, &row);
            assert!(database.weight() > 20_000, "{table} {row}");
            put(&mut database, table, 1, &json!({}));
            assert!(database.weight() < 2_000, "{table}");
        }
    }
}
