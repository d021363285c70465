//! The order of a list, and which rows of it are behind a marker.
//!
//! Every order ends with the order of insertion, in the direction of the last attribute: then one index serves it both
//! ways, and a page costs a page wherever in the list it is. Null stands before everything else.

use model::fault::Fault;
use model::resource::{Attribute, Resource, Shape};
use model::row::Row;

use crate::schema::never_null;
use crate::statement::{Statement, column};
use crate::value::{Bound, encode};
use crate::{Direction, Query};

/// The row of a marker: everything after it in the order of the query is behind it.
pub(crate) struct Marker {
    /// Its place in the order of insertion.
    pub(crate) key: i64,
    /// Its values.
    pub(crate) row: Row,
}

/// By what rows are sorted.
pub(crate) struct Order {
    keys: Vec<SortKey>,
    /// Whether the order of insertion runs backwards.
    newest_first: bool,
}

struct SortKey {
    attribute: &'static Attribute,
    descends: bool,
    nullable: bool,
}

impl Order {
    /// The order of a query, or that order from its end.
    pub(crate) fn new(query: &Query, backwards: bool) -> Result<Self, Fault> {
        let resource = Resource::of(query.kind);
        let keys = query.sort.iter().map(|(position, direction)| {
            let attribute = column(resource, *position)?;
            Ok(SortKey {
                attribute,
                descends: (*direction == Direction::Descending) != backwards,
                nullable: !never_null(resource, attribute),
            })
        });
        let keys: Vec<_> = keys.collect::<Result<_, Fault>>()?;
        let newest_first = keys.last().map_or(backwards, |key| key.descends);
        Ok(Self { keys, newest_first })
    }

    /// ` ORDER BY …`
    pub(crate) fn sql(&self) -> String {
        let mut sql = String::from(" ORDER BY ");
        for key in &self.keys {
            // Said aloud because PostgreSQL holds null for the largest. The index of an id is that of a constraint, which
            // says nothing of nulls: there are none.
            let word = match (key.attribute.shape == Shape::Id, key.descends) {
                (true, false) => "",
                (true, true) => " DESC",
                (false, false) => " NULLS FIRST",
                (false, true) => " DESC NULLS LAST",
            };
            sql.push_str(&format!("\"{}\"{word}, ", key.attribute.name));
        }
        sql.push_str(match self.newest_first {
            false => "\"key\"",
            true => "\"key\" DESC",
        });
        sql
    }

    /// Conditions, nearest rows first, of which a row fulfils exactly one if it is behind the marker, and none otherwise:
    /// equal to the marker in some keys and behind it in the next one. Each is one stretch of an index that begins with the
    /// keys, if there is one. Comparisons of whole rows would say it in one, but SQLite 3 seeks wrongly by them in a unique
    /// index.
    pub(crate) fn behind<'q>(
        &self,
        marker: &'q Marker,
        statement: &mut Statement<'q>,
    ) -> Vec<String> {
        let mut stretches = Vec::new();
        let mut equal = String::new();
        for SortKey {
            attribute,
            descends,
            nullable,
        } in &self.keys
        {
            let name = attribute.name;
            let value = encode(attribute.shape, marker.row.get(name)).unwrap_or(Bound::Null);
            let is = match value {
                Bound::Null if *descends => format!("\"{name}\" IS NULL"),
                Bound::Null => {
                    stretches.push(format!("{equal}\"{name}\" IS NOT NULL"));
                    format!("\"{name}\" IS NULL")
                }
                value => {
                    let place = statement.place(value);
                    if *descends && *nullable {
                        stretches.push(format!("{equal}\"{name}\" IS NULL"));
                    }
                    let sign = if *descends { '<' } else { '>' };
                    stretches.push(format!("{equal}\"{name}\" {sign} {place}"));
                    format!("\"{name}\" = {place}")
                }
            };
            equal.push_str(&is);
            equal.push_str(" AND ");
        }
        let place = statement.place(Bound::Integer(marker.key));
        let sign = if self.newest_first { '<' } else { '>' };
        stretches.push(format!("{equal}\"key\" {sign} {place}"));
        stretches.reverse();
        stretches
    }
}
