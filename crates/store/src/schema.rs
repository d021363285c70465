//! The SQL schema, derived from the resource table as a list of numbered migrations.
//!
//! Version N creates the tables of the resources that are there since N, and adds to older tables the attributes that
//! are there since N. What a version once was must never change: databases out there have it. A golden freezes the text.
//!
//! Each table has, beside its resource's stored attributes, `key` (the order of insertion) and `revision` (the write that
//! last touched the row). Ids are 16 bytes, MAC addresses integers, IP addresses 4 or 16 bytes: that halves the time of
//! an insert against text.

use model::resource::{Attribute, Default, OnDelete, Post, Resource, Shape, Storage};

/// What version 1 has beside the resources: the revision of the database; the revision up to which deletions have been
/// forgotten; what was deleted since; the physical switches ever seen.
const BESIDES: &str = r#"CREATE TABLE "state" ("revision" INTEGER NOT NULL, "forgotten" INTEGER NOT NULL) STRICT;
INSERT INTO "state" VALUES (0, 0);
CREATE TABLE "tombstones" (
  "revision" INTEGER NOT NULL,
  "kind" TEXT NOT NULL,
  "id" BLOB NOT NULL,
  PRIMARY KEY ("revision", "kind", "id")
) STRICT, WITHOUT ROWID;
CREATE TABLE "seen_devices" ("name" TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"#;

/// What version 2 adds beside the resources: one row for every time that the database was opened to be written, see
/// [`model::lineage`].
const TIMELINES: &str = r#"CREATE TABLE "timelines" (
  "key" INTEGER PRIMARY KEY,
  "id" BLOB NOT NULL,
  "revision" INTEGER NOT NULL
) STRICT;
"#;

/// The statements that lead from version `version - 1` to `version`.
pub(crate) fn migration(table: &[&Resource], version: u32) -> String {
    let mut sql = String::new();
    match version {
        1 => sql.push_str(BESIDES),
        2 => sql.push_str(TIMELINES),
        _ => {}
    }
    for resource in table {
        if resource.since == version {
            sql.push_str(&create_table(resource));
        } else {
            for attribute in columns_since(resource, version) {
                let column = column(resource, attribute);
                sql.push_str(&format!(
                    "ALTER TABLE \"{}\" ADD COLUMN {column};\n",
                    resource.collection
                ));
            }
        }
        sql.push_str(&create_indexes(resource, version));
    }
    sql
}

/// The attributes of a resource that the database keeps, each with its position in the resource.
pub(crate) fn stored(
    resource: &'static Resource,
) -> impl Iterator<Item = (usize, &'static Attribute)> + Clone {
    resource
        .attributes
        .iter()
        .enumerate()
        .filter(|(_, attribute)| attribute.is_stored())
}

fn introduced(resource: &Resource, attribute: &Attribute) -> u32 {
    attribute.since.max(resource.since)
}

fn columns_since(resource: &Resource, version: u32) -> impl Iterator<Item = &'static Attribute> {
    resource.attributes.iter().filter(move |attribute| {
        attribute.is_stored() && introduced(resource, attribute) == version
    })
}

fn create_table(resource: &Resource) -> String {
    let mut sql = format!(
        "CREATE TABLE \"{}\" (\n  \"key\" INTEGER PRIMARY KEY,\n  \"revision\" INTEGER NOT NULL",
        resource.collection
    );
    for attribute in columns_since(resource, resource.since) {
        sql.push_str(",\n  ");
        sql.push_str(&column(resource, attribute));
    }
    sql.push_str("\n) STRICT;\n");
    sql
}

fn column(resource: &Resource, attribute: &Attribute) -> String {
    let storage = match attribute.shape.storage() {
        Some(Storage::Integer) => "INTEGER",
        Some(Storage::Text) => "TEXT",
        Some(Storage::Uuid | Storage::Ip) | None => "BLOB",
    };
    let mut sql = format!("\"{}\" {storage}", attribute.name);
    if never_null(resource, attribute) {
        sql.push_str(" NOT NULL");
    }
    if attribute.shape == Shape::Id {
        sql.push_str(" UNIQUE");
    }
    if introduced(resource, attribute) > resource.since
        && let Some(default) = default(attribute)
    {
        sql.push_str(&format!(" DEFAULT {default}"));
    }
    if let Shape::Reference(target, on_delete) = attribute.shape {
        let action = match on_delete {
            OnDelete::Restrict => "RESTRICT",
            OnDelete::Cascade => "CASCADE",
        };
        let target = Resource::of(target).collection;
        sql.push_str(&format!(
            " REFERENCES \"{target}\" (\"id\") ON DELETE {action}"
        ));
    }
    sql
}

/// Whether every row has a value: POST demands it or fills it in, or it exists for the constraints of the database, from
/// which a null would be exempt. A column that is added to rows which exist has one only if it has a default.
fn never_null(resource: &Resource, attribute: &Attribute) -> bool {
    if introduced(resource, attribute) > resource.since {
        return default(attribute).is_some();
    }
    match attribute.post {
        Post::Required => true,
        Post::Refused => attribute.shape == Shape::Id || !attribute.visible,
        Post::Optional(Default::Null | Default::CallersProject) => false,
        Post::Optional(_) => true,
    }
}

/// The default as an SQL literal. A reference has none: no row has the empty id.
fn default(attribute: &Attribute) -> Option<String> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    match attribute.post {
        _ if matches!(attribute.shape, Shape::Reference(..)) => None,
        Post::Optional(Default::Text(text) | Default::Json(text)) => Some(quoted(text)),
        Post::Optional(Default::Integer(number)) => Some(number.to_string()),
        Post::Optional(Default::Bool(truth)) => Some(u8::from(truth).to_string()),
        Post::Optional(Default::Null | Default::CallersProject)
        | Post::Required
        | Post::Refused => None,
    }
}

/// One index for every constraint, every reference and the name, unless a constraint's index begins with it anyway;
/// and one for the revision.
fn create_indexes(resource: &Resource, version: u32) -> String {
    let mut sql = String::new();
    let mut index = |kind: &str, columns: &[&str]| {
        let table = resource.collection;
        sql.push_str(&format!(
            "CREATE {kind} \"{table}.{}\" ON \"{table}\" (\"{}\");\n",
            columns.join(","),
            columns.join("\", \"")
        ));
    };
    for unique in resource.unique {
        let attributes = unique.attributes.iter();
        let since = attributes.filter_map(|name| resource.attribute(name));
        let since = since.map(|attribute| introduced(resource, attribute)).max();
        if since == Some(version) {
            index("UNIQUE INDEX", unique.attributes);
        }
    }
    for attribute in columns_since(resource, version) {
        let name = attribute.name;
        let covered = resource
            .unique
            .iter()
            .any(|unique| unique.attributes.first() == Some(&name));
        let searched = matches!(attribute.shape, Shape::Reference(..)) || name == "name";
        if searched && !covered {
            index("INDEX", &[name]);
        }
    }
    if resource.since == version {
        index("INDEX", &["revision"]);
    }
    sql
}

#[cfg(test)]
mod tests {
    use model::table;

    use super::*;

    #[test]
    fn versions_of_the_schema_never_change() {
        for version in 1..=table::SCHEMA_VERSION {
            insta::assert_snapshot!(format!("v{version}"), migration(table::ALL, version));
        }
    }

    #[test]
    fn nothing_is_newer_than_the_schemas_version() {
        for resource in table::ALL {
            assert!(resource.since >= 1);
            for attribute in resource.attributes {
                assert!(introduced(resource, attribute) <= table::SCHEMA_VERSION);
            }
        }
    }

    #[test]
    fn references_are_for_life() {
        for resource in table::ALL {
            for attribute in resource.attributes {
                let reference = matches!(attribute.shape, Shape::Reference(..));
                assert!(!(reference && attribute.put), "{}", attribute.name);
            }
        }
    }

    #[test]
    fn no_attribute_takes_the_name_of_a_column_of_ours() {
        for resource in table::ALL {
            for own in ["key", "revision"] {
                assert!(resource.attribute(own).is_none_or(|a| !a.is_stored()));
            }
        }
    }
}
