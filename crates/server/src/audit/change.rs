//! What was changed, as JSON: before and after.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use model::encode::{Projection, write_text};
use model::fault::Fault;
use model::resource::{Kind, OnDelete, Resource, Shape};
use model::row::{Row, Value};
use model::status::Report;
use model::table;
use store::{Query, Snapshot};
use uuid::Uuid;

/// So many resources stand in one line at most: a bulk of 100,000 MACs is a thousand lines of 40 kB. One line would be
/// more than any log shipper takes, and 100,000 lines would repeat who it was as often.
pub(super) const PER_RECORD: usize = 100;

/// What one request changed: the elements of JSON lists, each short enough for a line. Handlers leave it among the
/// extensions of their replies.
#[derive(Clone, Default)]
pub(crate) struct Changes(Arc<[Vec<u8>]>);

impl Changes {
    pub(super) fn parts(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// A change of what is no resource of the table.
    pub(crate) fn other(
        resource: &str,
        id: &str,
        before: &serde_json::Value,
        after: &serde_json::Value,
    ) -> Self {
        let change =
            serde_json::json!({"resource": resource, "id": id, "before": before, "after": after});
        Self(Arc::new([change.to_string().into_bytes()]))
    }
}

/// Writes changes down.
pub(crate) struct Recorder {
    parts: Vec<Vec<u8>>,
    /// In the last of the parts.
    count: usize,
    /// How the last one's resource is written.
    projection: Option<(Kind, Projection)>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            parts: Vec::new(),
            count: PER_RECORD,
            projection: None,
        }
    }

    /// The rows were created.
    pub(crate) fn created(mut self, rows: &[Row]) -> Changes {
        for row in rows {
            self.note(None, Some(row));
        }
        self.finish()
    }

    /// The row was updated; nothing is noted where nothing was changed.
    pub(crate) fn updated(mut self, before: &Row, after: &Row) -> Changes {
        if before.revision != after.revision {
            self.note(Some(before), Some(after));
        }
        self.finish()
    }

    /// The rows were deleted, one by itself and the others along with it.
    pub(crate) fn deleted(mut self, rows: &[Row]) -> Changes {
        for row in rows {
            self.note(Some(row), None);
        }
        self.finish()
    }

    fn finish(self) -> Changes {
        Changes(self.parts.into())
    }

    fn note(&mut self, before: Option<&Row>, after: Option<&Row>) {
        let Some(row) = after.or(before) else {
            return;
        };
        if self.count == PER_RECORD {
            self.parts.push(Vec::new());
            self.count = 0;
        }
        self.count += 1;
        let Some(out) = self.parts.last_mut() else {
            return;
        };
        let kind = row.resource.kind;
        let projection = match self.projection.take().filter(|(known, _)| *known == kind) {
            Some((_, projection)) => projection,
            None => Projection::of_record(row.resource),
        };
        let write = |out: &mut Vec<u8>, row: Option<&Row>| match row {
            // The status is no part of a record: it follows the switches.
            Some(row) => projection.write(out, row, &|_| Report::ACTIVE),
            None => out.extend_from_slice(b"null"),
        };
        out.extend_from_slice(match out.is_empty() {
            true => b"{\"resource\":",
            false => b",{\"resource\":",
        });
        write_text(out, row.resource.member);
        out.extend_from_slice(b",\"id\":");
        write_text(out, &row.id().to_string());
        out.extend_from_slice(b",\"before\":");
        write(out, before);
        out.extend_from_slice(b",\"after\":");
        write(out, after);
        out.push(b'}');
        self.projection = Some((kind, projection));
    }
}

/// The row, and all that goes with it when it is deleted.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn gone_with(tx: &mut dyn Snapshot, row: Row) -> Result<Vec<Row>, Fault> {
    let mut seen = HashSet::from([row.id()]);
    let mut parents = vec![(row.resource.kind, row.id())];
    let mut gone = vec![row];
    while let Some((kind, id)) = parents.pop() {
        for (resource, attribute) in cascades(kind) {
            let has_children = cascades(resource.kind).next().is_some();
            let query = Query::all(resource.kind).matching(attribute, Value::Uuid(id));
            tx.select(&query, &mut |row| {
                let id: Uuid = row.id();
                if seen.insert(id) {
                    gone.push(row.clone());
                    if has_children {
                        parents.push((resource.kind, id));
                    }
                }
                ControlFlow::Continue(())
            })?;
        }
    }
    Ok(gone)
}

/// The attributes by which resources go with one of this kind.
fn cascades(kind: Kind) -> impl Iterator<Item = (&'static Resource, &'static str)> {
    table::ALL.iter().flat_map(move |resource| {
        let attributes = resource.attributes.iter();
        attributes.filter_map(move |attribute| match attribute.shape {
            Shape::Reference(target, OnDelete::Cascade) if target == kind => {
                Some((*resource, attribute.name))
            }
            _ => None,
        })
    })
}
