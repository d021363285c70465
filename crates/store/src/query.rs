//! Which rows, in which order, and what changed.

use model::resource::{Kind, Resource};
use model::row::{Row, Value};
use uuid::Uuid;

/// Asks for rows of one kind.
#[derive(Clone, Debug)]
pub struct Query {
    /// What is asked for.
    pub kind: Kind,
    /// A row must match them all.
    pub filters: Vec<Filter>,
    /// Positions in the resource's attributes, the most significant first. Rows that are equal in all of them stand in the
    /// order in which they were inserted, or in the opposite order where the last one descends; without any, in the order
    /// in which they were inserted. Null stands before everything else, texts and addresses compare byte by byte.
    pub sort: Vec<(usize, Direction)>,
    /// At most so many rows; `Some(0)` are none.
    pub limit: Option<u64>,
    /// Only rows behind the row of this id in the order of the query. Behind a row that does not exist there are none.
    pub marker: Option<Uuid>,
    /// The page before instead: only rows before the marker, and of these the last `limit` ones. The rows of the page
    /// stay in the order of the query.
    pub reverse: bool,
}

impl Query {
    /// All rows of a kind, in the order in which they were inserted.
    pub fn all(kind: Kind) -> Self {
        Self {
            kind,
            filters: Vec::new(),
            sort: Vec::new(),
            limit: None,
            marker: None,
            reverse: false,
        }
    }

    /// Only those whose attribute of this name has this value. A name that the resource does not have is answered by an
    /// internal fault.
    #[must_use]
    pub fn matching(self, name: &str, value: Value) -> Self {
        self.matching_any(name, vec![value])
    }

    /// Only those whose attribute of this name has one of these values.
    #[must_use]
    pub fn matching_any(mut self, name: &str, any_of: Vec<Value>) -> Self {
        let attribute = Resource::of(self.kind).position(name).unwrap_or(usize::MAX);
        self.filters.push(Filter { attribute, any_of });
        self
    }
}

/// What an attribute must be: one of some values.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Position in the resource's attributes. A mirror means the attribute it mirrors.
    pub attribute: usize,
    /// One of these. [`Value::Null`] matches null; a value of another shape than the attribute's matches nothing, and
    /// so does an empty list.
    pub any_of: Vec<Value>,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The smallest first.
    Ascending,
    /// The largest first.
    Descending,
}

/// What happened to one resource, see [`crate::Snapshot::changes`]. Deletions come before rows.
#[derive(Debug)]
pub enum Change<'r> {
    /// The deletions since then are no longer known: forget everything, all rows follow.
    Reset,
    /// It was deleted, and with it whatever cascades from it; that is not listed one by one.
    Deleted(Kind, Uuid),
    /// It was inserted or updated. A buffer: whoever keeps it clones it.
    Written(&'r Row),
}
