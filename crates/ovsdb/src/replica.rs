//! Monitored tables (RFC 7047 section 4.1.5; ovsdb-server(7), "Monitor_cond_since"), kept as the schema crate's own types.
//!
//! The text of each row goes straight from the message to [`Replica::apply`], which decodes what it wants: no tree of
//! generic values in between, because a dump of 100,000 rows is 22 MB.

use std::fmt;
use std::sync::{PoisonError, RwLock};

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::sync::watch;
use uuid::Uuid;

use crate::budget::{Held, Share};
use crate::schema::DatabaseSchema;

/// A table to monitor, and which of its columns.
#[derive(Clone, Copy, Debug)]
pub struct MonitoredTable {
    /// The table's name.
    pub table: &'static str,
    /// The columns. Those that the server's schema lacks are not asked for.
    pub columns: &'static [&'static str],
}

/// What happened to a row.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The row is now this, and nothing else. Columns that are left out have their defaults.
    Put(&'a RawValue),
    /// These columns changed. Columns that hold more than one value give the difference: [`crate::column::Set::apply`],
    /// [`crate::column::Map::apply`]; the others give the new value.
    Modify(&'a RawValue),
    /// The row is gone.
    Delete,
}

/// A row that could not be understood: its columns are of other types than the schema crate knows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RowError(String);

impl RowError {
    /// An error in these words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<serde_json::Error> for RowError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The monitored part of a database, in types of the implementor's choice.
///
/// A new one is made from the first dump after every (re)connect, so it never holds what an earlier server had.
pub trait Replica: Sized + Send + Sync + 'static {
    /// What to monitor.
    fn tables() -> &'static [MonitoredTable];

    /// An empty replica of a database with this schema.
    fn new(schema: &DatabaseSchema) -> Self;

    /// Takes one change. Changes of one transaction come in no particular order, so a reference may be followed by the
    /// row it refers to.
    ///
    /// # Errors
    /// A row that cannot be understood. It ends the session, because the replica is wrong from then on; values that are
    /// only unusual (a MAC address that is none) must not be errors.
    fn apply(&mut self, table: &str, uuid: Uuid, change: Change<'_>) -> Result<(), RowError>;

    /// How many rows it keeps. One that does not say is not limited.
    fn rows(&self) -> usize {
        0
    }

    /// Bytes that it takes, roughly; asked after every change, so it must be known at once. It counts for peers that dial us
    /// ([`crate::budget`]). One that does not say costs nothing.
    fn weight(&self) -> usize {
        0
    }

    /// Bytes that it will take at most beside its weight after [`Self::settle`]; asked before that.
    fn weight_to_come(&self) -> usize {
        0
    }

    /// Called when all changes of one update, that is of whole transactions, have been applied.
    fn settle(&mut self) {}

    /// Asked after [`Self::settle`]: whether what changed since it was asked last is worth waking those who watch.
    fn is_news(&mut self) -> bool {
        true
    }
}

/// Where a replica is kept, and where its readers wait.
#[derive(Debug)]
pub struct SharedReplica<R> {
    contents: RwLock<Option<Contents<R>>>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Contents<R> {
    replica: R,
    /// What is counted of it.
    held: Held,
}

impl<R> Default for SharedReplica<R> {
    fn default() -> Self {
        Self {
            contents: RwLock::new(None),
            changes: watch::Sender::new(0),
        }
    }
}

impl<R> SharedReplica<R> {
    /// Reads the replica; `None` before the first dump has arrived. Updates wait meanwhile: keep it short.
    pub fn read<T>(&self, reader: impl FnOnce(Option<&R>) -> T) -> T {
        // A reader that panicked changed nothing, and a writer that panicked ended its session.
        reader(
            self.contents
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref()
                .map(|contents| &contents.replica),
        )
    }

    /// Wakes up on every change. The number means nothing, and several changes may be one wake-up.
    pub fn wakeups(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn wake(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn put(&self, contents: Contents<R>) {
        let old = self
            .contents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(contents);
        // Dropping 100,000 rows takes milliseconds; not under the lock.
        drop(old);
        self.wake();
    }
}

/// Which of the two notations of updates a monitor uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    /// `<table-updates>` of RFC 7047: `old` and `new`.
    Rows,
    /// `<table-updates2>` of Open vSwitch: `initial`, `insert`, `modify` (differences) and `delete`.
    Differences,
}

/// What a session does with the messages of one monitor, whatever its replica's type.
pub(crate) trait Sink: Send + Sync {
    fn start(&self, dump: &RawValue, notation: Notation) -> serde_json::Result<()>;
    fn update(&self, updates: &RawValue, notation: Notation) -> serde_json::Result<()>;
}

/// Feeds a replica that was built for one session's schema.
pub(crate) struct ReplicaSink<R> {
    pub(crate) shared: std::sync::Arc<SharedReplica<R>>,
    pub(crate) schema: std::sync::Arc<DatabaseSchema>,
    pub(crate) row_limit: usize,
    pub(crate) share: Option<Share>,
}

/// A replica may grow by so many bytes within one update before that is counted.
const UNCOUNTED: usize = 64 << 10;

impl<R: Replica> ReplicaSink<R> {
    /// Takes updates in, unless there are too many rows then.
    fn take(
        &self,
        Contents { replica, held }: &mut Contents<R>,
        updates: &RawValue,
        notation: Notation,
    ) -> serde_json::Result<()> {
        let mut check = |replica: &R| {
            let rows = replica.rows();
            if rows > self.row_limit {
                return Err(RowError(format!(
                    "it shows {rows} rows, and no more than {} are taken from it",
                    self.row_limit
                )));
            }
            if held.counts() {
                let weight = replica.weight();
                if weight > held.bytes() + UNCOUNTED {
                    held.set(weight).map_err(|reason| RowError::new(&*reason))?;
                }
            }
            Ok(())
        };
        apply(replica, updates, notation, &mut check)?;
        if held.counts() {
            let then = replica.weight().saturating_add(replica.weight_to_come());
            held.set(then).map_err(de::Error::custom)?;
        }
        replica.settle();
        if held.counts() {
            held.set(replica.weight()).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

impl<R: Replica> Sink for ReplicaSink<R> {
    fn start(&self, dump: &RawValue, notation: Notation) -> serde_json::Result<()> {
        // Built aside: readers keep the old replica until the new one is whole.
        let mut contents = Contents {
            replica: R::new(&self.schema),
            held: Held::by(self.share.as_ref()),
        };
        self.take(&mut contents, dump, notation)?;
        self.shared.put(contents);
        Ok(())
    }

    fn update(&self, updates: &RawValue, notation: Notation) -> serde_json::Result<()> {
        let mut contents = self
            .shared
            .contents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = contents.as_mut() {
            self.take(there, updates, notation)?;
            let news = there.replica.is_news();
            drop(contents);
            if news {
                self.shared.wake();
            }
        }
        Ok(())
    }
}

/// What is asked after every row.
type Check<'c, R> = dyn FnMut(&R) -> Result<(), RowError> + 'c;

fn apply<R: Replica>(
    replica: &mut R,
    updates: &RawValue,
    notation: Notation,
    check: &mut Check<'_, R>,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(updates.get());
    let tables = Tables {
        replica,
        notation,
        check,
    };
    tables.deserialize(&mut deserializer)
}

/// `{TABLE: <rows>, ...}`
struct Tables<'r, 'c, R> {
    replica: &'r mut R,
    notation: Notation,
    check: &'r mut Check<'c, R>,
}

impl<'de, R: Replica> DeserializeSeed<'de> for Tables<'_, '_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, R: Replica> Visitor<'de> for Tables<'_, '_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("updates by table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut tables: A) -> Result<(), A::Error> {
        while let Some(table) = tables.next_key::<String>()? {
            tables.next_value_seed(Rows {
                replica: self.replica,
                table: &table,
                notation: self.notation,
                check: self.check,
            })?;
        }
        Ok(())
    }
}

/// `{UUID: <row-update>, ...}`
struct Rows<'r, 'c, R> {
    replica: &'r mut R,
    table: &'r str,
    notation: Notation,
    check: &'r mut Check<'c, R>,
}

impl<'de, R: Replica> DeserializeSeed<'de> for Rows<'_, '_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// `<row-update>`
#[derive(Deserialize)]
struct OldNew<'a> {
    #[serde(borrow)]
    new: Option<&'a RawValue>,
}

/// `<row-update2>`
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Difference<'a> {
    #[serde(borrow)]
    Initial(&'a RawValue),
    #[serde(borrow)]
    Insert(&'a RawValue),
    #[serde(borrow)]
    Modify(&'a RawValue),
    Delete(IgnoredAny),
}

impl<'de, R: Replica> Visitor<'de> for Rows<'_, '_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("row updates by uuid")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(uuid) = rows.next_key::<Uuid>()? {
            let change = match self.notation {
                Notation::Rows => rows
                    .next_value::<OldNew<'de>>()?
                    .new
                    .map_or(Change::Delete, Change::Put),
                Notation::Differences => match rows.next_value::<Difference<'de>>()? {
                    Difference::Initial(row) | Difference::Insert(row) => Change::Put(row),
                    Difference::Modify(row) => Change::Modify(row),
                    Difference::Delete(IgnoredAny) => Change::Delete,
                },
            };
            self.replica
                .apply(self.table, uuid, change)
                .map_err(|error| {
                    de::Error::custom(format_args!("row {uuid} of {}: {error}", self.table))
                })?;
            (self.check)(self.replica).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

/// The `<monitor-requests>` for what `R` wants and `schema` has.
pub(crate) fn monitor_requests<R: Replica>(
    schema: &DatabaseSchema,
) -> impl serde::Serialize + use<R> {
    #[derive(serde::Serialize)]
    struct Request {
        columns: Vec<&'static str>,
    }
    R::tables()
        .iter()
        .filter(|wanted| schema.has_table(wanted.table))
        .map(|wanted| {
            let has = |column: &&str| schema.has_column(wanted.table, column);
            (
                wanted.table,
                [Request {
                    columns: wanted.columns.iter().copied().filter(has).collect(),
                }],
            )
        })
        .collect::<std::collections::BTreeMap<_, _>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Rows as text.
    #[derive(Default)]
    struct Texts(BTreeMap<(String, Uuid), String>);

    impl Replica for Texts {
        fn tables() -> &'static [MonitoredTable] {
            &[
                MonitoredTable {
                    table: "T",
                    columns: &["a", "b"],
                },
                MonitoredTable {
                    table: "U",
                    columns: &["c"],
                },
            ]
        }

        fn new(_: &DatabaseSchema) -> Self {
            Self::default()
        }

        fn apply(&mut self, table: &str, uuid: Uuid, change: Change<'_>) -> Result<(), RowError> {
            let key = (table.to_owned(), uuid);
            match change {
                Change::Put(row) => drop(self.0.insert(key, row.get().to_owned())),
                Change::Modify(row) => self.0.entry(key).or_default().push_str(row.get()),
                Change::Delete => drop(
                    self.0
                        .remove(&key)
                        .ok_or_else(|| RowError::new("unknown"))?,
                ),
            }
            Ok(())
        }

        fn rows(&self) -> usize {
            self.0.len()
        }

        fn weight(&self) -> usize {
            self.0.values().map(String::len).sum()
        }
    }

    fn feed(texts: &mut Texts, text: &str, notation: Notation) -> serde_json::Result<()> {
        apply(
            texts,
            &RawValue::from_string(text.to_owned()).unwrap(),
            notation,
            &mut |_| Ok(()),
        )
    }

    const ROW: &str = "00000000-0000-0000-0000-000000000001";

    #[test]
    fn both_notations_put_modify_and_delete() {
        for (notation, steps) in [
            (
                Notation::Rows,
                [
                    r#"{"new":{"a":1}}"#,
                    r#"{"old":{"a":1},"new":{"a":2}}"#,
                    r#"{"old":{"a":2}}"#,
                ],
            ),
            (
                Notation::Differences,
                [
                    r#"{"initial":{"a":1}}"#,
                    r#"{"modify":{"a":2}}"#,
                    r#"{"delete":null}"#,
                ],
            ),
        ] {
            let mut texts = Texts::default();
            let mut seen = Vec::new();
            for step in steps {
                feed(
                    &mut texts,
                    &format!("{{\"T\":{{\"{ROW}\":{step}}}}}"),
                    notation,
                )
                .unwrap();
                seen.push(texts.0.values().cloned().collect::<String>());
            }
            let modified = if notation == Notation::Rows {
                r#"{"a":2}"#
            } else {
                r#"{"a":1}{"a":2}"#
            };
            assert_eq!(seen, [r#"{"a":1}"#, modified, ""]);
        }
    }

    #[test]
    fn a_peer_that_shows_more_rows_than_are_taken_is_refused() {
        let schema = serde_json::from_str(r#"{"name":"db","tables":{}}"#).unwrap();
        let sink = ReplicaSink {
            shared: std::sync::Arc::new(SharedReplica::<Texts>::default()),
            schema: std::sync::Arc::new(schema),
            row_limit: 2,
            share: None,
        };
        let row = |number: u32| {
            let uuid = Uuid::from_u128(number.into());
            let text = format!("{{\"T\":{{\"{uuid}\":{{\"initial\":{{}}}}}}}}");
            RawValue::from_string(text).unwrap()
        };
        sink.start(&row(1), Notation::Differences).unwrap();
        sink.update(&row(2), Notation::Differences).unwrap();
        let error = sink.update(&row(3), Notation::Differences).unwrap_err();
        let error = error.to_string();
        let words = "it shows 3 rows, and no more than 2 are taken from it";
        assert!(error.starts_with(words), "{error}");
    }

    #[test]
    fn a_row_error_names_table_and_row() {
        let mut texts = Texts::default();
        let text = format!("{{\"T\":{{\"{ROW}\":{{\"delete\":null}}}}}}");
        let error = feed(&mut texts, &text, Notation::Differences)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(ROW) && error.contains("of T: unknown"),
            "{error}"
        );
    }

    #[test]
    fn what_the_schema_lacks_is_not_asked_for() {
        let schema: DatabaseSchema = serde_json::from_str(
            r#"{"name":"db","tables":{"T":{"columns":{"b":{"type":"string"}}}}}"#,
        )
        .unwrap();
        let requests = serde_json::to_string(&monitor_requests::<Texts>(&schema)).unwrap();
        assert_eq!(requests, r#"{"T":[{"columns":["b"]}]}"#);
    }
}
