//! Database operations (RFC 7047 section 5.2) and the transaction that carries them.

use serde::ser::{Serialize, SerializeSeq, SerializeTuple, Serializer};
use uuid::Uuid;

use crate::value::{Datum, Name, Row};

/// A clause of `where`: `[column, function, value]`. All clauses of an operation must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    column: Name,
    function: &'static str,
    value: Datum,
}

impl Condition {
    /// `[column, function, value]`; the functions are `==`, `!=`, `<`, `<=`, `>`, `>=`, `includes` and `excludes`.
    pub fn new(column: impl Into<Name>, function: &'static str, value: impl Into<Datum>) -> Self {
        Self {
            column: column.into(),
            function,
            value: value.into(),
        }
    }

    /// The row with this uuid. The server finds it by its index; every other condition is a scan of the table.
    pub fn uuid(uuid: Uuid) -> Self {
        Self::new("_uuid", "==", uuid)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        triple(serializer, &self.column, self.function, &self.value)
    }
}

/// A change to a column that depends on its value: `[column, mutator, value]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    column: Name,
    mutator: &'static str,
    value: Datum,
}

impl Mutation {
    /// Adds elements to a set or pairs to a map. A key that is already in the map silently keeps its old value.
    pub fn insert(column: impl Into<Name>, value: impl Into<Datum>) -> Self {
        Self {
            column: column.into(),
            mutator: "insert",
            value: value.into(),
        }
    }

    /// Removes elements from a set, or pairs from a map (a set of keys removes them whatever their values).
    pub fn delete(column: impl Into<Name>, value: impl Into<Datum>) -> Self {
        Self {
            column: column.into(),
            mutator: "delete",
            value: value.into(),
        }
    }
}

impl Serialize for Mutation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        triple(serializer, &self.column, self.mutator, &self.value)
    }
}

fn triple<S: Serializer>(
    serializer: S,
    column: &str,
    function: &str,
    value: &Datum,
) -> Result<S::Ok, S::Error> {
    let mut triple = serializer.serialize_tuple(3)?;
    triple.serialize_element(column)?;
    triple.serialize_element(function)?;
    triple.serialize_element(value)?;
    triple.end()
}

/// What a [`Operation::Wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Until {
    /// The rows are as given.
    #[serde(rename = "==")]
    Equal,
    /// The rows differ from the given ones.
    #[serde(rename = "!=")]
    NotEqual,
}

/// One operation of a transaction. Without conditions it concerns every row of the table.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Inserts a row; the result is its uuid.
    Insert {
        /// The table.
        table: Name,
        /// The uuid that the row shall have (Open vSwitch 2.13 and later); otherwise the server chooses.
        #[serde(skip_serializing_if = "Option::is_none")]
        uuid: Option<Uuid>,
        /// The name by which other operations of the transaction refer to the row.
        #[serde(rename = "uuid-name", skip_serializing_if = "Option::is_none")]
        uuid_name: Option<Name>,
        /// The columns that differ from their defaults.
        row: Row,
    },
    /// Reads rows.
    Select {
        /// The table.
        table: Name,
        /// Which rows.
        r#where: Vec<Condition>,
        /// Which columns.
        columns: Vec<Name>,
    },
    /// Overwrites columns; the result is the number of rows.
    Update {
        /// The table.
        table: Name,
        /// Which rows.
        r#where: Vec<Condition>,
        /// The columns to overwrite.
        row: Row,
    },
    /// Changes columns depending on their values; the result is the number of rows.
    Mutate {
        /// The table.
        table: Name,
        /// Which rows.
        r#where: Vec<Condition>,
        /// The changes, done in this order.
        mutations: Vec<Mutation>,
    },
    /// Deletes rows; the result is their number.
    Delete {
        /// The table.
        table: Name,
        /// Which rows.
        r#where: Vec<Condition>,
    },
    /// Fails the transaction unless rows are (or become, within the timeout) as given.
    Wait {
        /// The table.
        table: Name,
        /// In milliseconds; 0 fails at once.
        timeout: u64,
        /// Which rows.
        r#where: Vec<Condition>,
        /// Which columns are compared.
        columns: Vec<Name>,
        /// Whether the rows shall be equal or differ.
        until: Until,
        /// The rows to compare with.
        rows: Vec<Row>,
    },
    /// Commits; `durable` waits for the disk (about 3 ms each on an ordinary one).
    Commit {
        /// Whether to wait until the transaction is on stable storage.
        durable: bool,
    },
    /// Fails the transaction, and undoes it.
    Abort {},
    /// Leaves a remark in the server's log file.
    Comment {
        /// The remark.
        comment: Name,
    },
    /// Fails the transaction unless this session owns the lock.
    Assert {
        /// The lock's name.
        lock: Name,
    },
}

impl Operation {
    /// Inserts a row.
    pub fn insert(table: impl Into<Name>, row: Row) -> Self {
        Self::Insert {
            table: table.into(),
            uuid: None,
            uuid_name: None,
            row,
        }
    }

    /// Inserts a row that other operations of the transaction may refer to as `Atom::NamedUuid(name)`.
    ///
    /// The name must be an identifier: letters, digits and underscores, no digit first.
    pub fn insert_named(table: impl Into<Name>, name: impl Into<Name>, row: Row) -> Self {
        Self::Insert {
            table: table.into(),
            uuid: None,
            uuid_name: Some(name.into()),
            row,
        }
    }

    /// Reads the given columns of the rows that meet the conditions.
    pub fn select<C: Into<Name>>(
        table: impl Into<Name>,
        r#where: impl Into<Vec<Condition>>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self::Select {
            table: table.into(),
            r#where: r#where.into(),
            columns,
        }
    }

    /// Overwrites columns of one row.
    pub fn update(table: impl Into<Name>, uuid: Uuid, row: Row) -> Self {
        Self::Update {
            table: table.into(),
            r#where: vec![Condition::uuid(uuid)],
            row,
        }
    }

    /// Changes columns of one row.
    pub fn mutate(table: impl Into<Name>, uuid: Uuid, mutations: impl Into<Vec<Mutation>>) -> Self {
        Self::Mutate {
            table: table.into(),
            r#where: vec![Condition::uuid(uuid)],
            mutations: mutations.into(),
        }
    }

    /// Deletes one row.
    pub fn delete(table: impl Into<Name>, uuid: Uuid) -> Self {
        Self::Delete {
            table: table.into(),
            r#where: vec![Condition::uuid(uuid)],
        }
    }

    /// Deletes the rows that meet the conditions; a scan of the table unless one of them is [`Condition::uuid`].
    pub fn delete_where(table: impl Into<Name>, r#where: impl Into<Vec<Condition>>) -> Self {
        Self::Delete {
            table: table.into(),
            r#where: r#where.into(),
        }
    }
}

/// Operations that happen together or not at all.
///
/// The server handles one transaction at a time and answers nobody meanwhile: keep them to a few hundred operations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    operations: Vec<Operation>,
}

impl Transaction {
    /// A transaction that does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation; returns its index, by which its result is found in the outcome.
    pub fn push(&mut self, operation: Operation) -> usize {
        self.operations.push(operation);
        self.operations.len() - 1
    }

    /// This transaction with one more operation.
    #[must_use]
    pub fn with(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The operations, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

impl FromIterator<Operation> for Transaction {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        Self {
            operations: operations.into_iter().collect(),
        }
    }
}

impl Extend<Operation> for Transaction {
    fn extend<I: IntoIterator<Item = Operation>>(&mut self, operations: I) {
        self.operations.extend(operations);
    }
}

/// The `params` of `transact` (RFC 7047 section 4.1.3): the database, then the operations.
pub(crate) struct TransactParams<'a>(pub(crate) &'a str, pub(crate) &'a Transaction);

impl Serialize for TransactParams<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(1 + self.1.len()))?;
        seq.serialize_element(self.0)?;
        for operation in &self.1.operations {
            seq.serialize_element(operation)?;
        }
        seq.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_written_as_rfc_7047_section_5_2_says() {
        let uuid = Uuid::from_u128(1);
        let transaction = Transaction::new()
            .with(Operation::insert_named(
                "T",
                "x",
                Row::new().with("c", 1i64),
            ))
            .with(Operation::mutate(
                "T",
                uuid,
                [Mutation::delete("m", Datum::set([5i64]))],
            ))
            .with(Operation::delete("T", uuid))
            .with(Operation::Assert { lock: "l".into() });
        assert_eq!(
            serde_json::to_string(&TransactParams("db", &transaction)).unwrap(),
            concat!(
                r#"["db",{"op":"insert","table":"T","uuid-name":"x","row":{"c":1}},"#,
                r#"{"op":"mutate","table":"T","where":[["_uuid","==",["uuid","00000000-0000-0000-0000-000000000001"]]],"mutations":[["m","delete",["set",[5]]]]},"#,
                r#"{"op":"delete","table":"T","where":[["_uuid","==",["uuid","00000000-0000-0000-0000-000000000001"]]]},"#,
                r#"{"op":"assert","lock":"l"}]"#
            )
        );
    }
}
