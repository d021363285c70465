//! References held by triggers that look once at all the rows of a statement.
//!
//! PostgreSQL's own foreign keys look at every row by itself: of the time that a bulk takes, half. Rows of a bulk refer to
//! few others, and a trigger with a transition table looks each of those up once. It does what a foreign key does: a row
//! that refers to nothing is refused, whoever writes it; what is referred to is locked (`FOR KEY SHARE`) until the commit;
//! a deletion is refused or taken along.
//!
//! Each table that refers has a trigger for insertions, each table that is referred to one for deletions, and each table
//! one against other ids and references for rows that exist. The functions find our tables wherever the session finds
//! them that migrates, so also under `pg_restore`, whose search path is empty.

use model::resource::{Attribute, OnDelete, Resource, Shape};

use super::{introduced, stored};

/// A reference: who has it, by which attribute, to whom.
struct Reference {
    from: &'static Resource,
    by: &'static Attribute,
    to: &'static Resource,
    on_delete: OnDelete,
}

impl Reference {
    /// All of a table that are there at a version.
    fn all<'t>(
        table: &'t [&'static Resource],
        version: u32,
    ) -> impl Iterator<Item = Self> + use<'t> {
        table.iter().flat_map(move |from| {
            stored(from).filter_map(move |(_, by)| match by.shape {
                Shape::Reference(to, on_delete) if introduced(from, by) <= version => Some(Self {
                    from,
                    by,
                    to: Resource::of(to),
                    on_delete,
                }),
                _ => None,
            })
        })
    }
}

/// What leads to `version`, where references are held by triggers from version `since` on.
pub(super) fn migration(table: &[&'static Resource], since: u32, version: u32) -> String {
    let mut sql = String::new();
    if version == since {
        for Reference { from, by, .. } in Reference::all(table, version - 1) {
            let (table, column) = (from.collection, by.name);
            sql.push_str(&format!(
                "ALTER TABLE \"{table}\" DROP CONSTRAINT \"{table}_{column}_fkey\";\n"
            ));
        }
        sql.push_str(&function("l2gw_for_life", "", FOR_LIFE));
    }
    let new = |reference: &Reference| {
        version == since || introduced(reference.from, reference.by) == version
    };
    for resource in table {
        let references = Reference::all(table, version);
        let (out, into): (Vec<_>, Vec<_>) = references
            .filter(|reference| reference.touches(resource))
            .partition(|reference| reference.from.kind == resource.kind);
        let name = resource.collection;
        if out.iter().any(new) {
            let body: String = out.iter().map(Reference::looked_up).collect();
            let function_name = format!("{name}_refer");
            sql.push_str(&function(&function_name, "DECLARE target uuid;\n", &body));
            let event = "AFTER INSERT";
            sql.push_str(&trigger(
                name,
                event,
                Some("NEW TABLE AS written"),
                &function_name,
            ));
        }
        if into.iter().any(new) {
            // What restricts comes first: nothing need be taken along for naught.
            let (restricting, cascading): (Vec<_>, Vec<_>) = into
                .iter()
                .partition(|reference| reference.on_delete == OnDelete::Restrict);
            let all = restricting.into_iter().chain(cascading);
            let body: String = all.map(Reference::left).collect();
            let function_name = format!("{name}_leave");
            sql.push_str(&function(&function_name, "", &body));
            let event = "AFTER DELETE";
            sql.push_str(&trigger(
                name,
                event,
                Some("OLD TABLE AS gone"),
                &function_name,
            ));
        }
        if resource.since == version || version == since || out.iter().any(new) {
            let columns = out.iter().map(|reference| reference.by.name);
            let columns: Vec<_> = std::iter::once("id").chain(columns).collect();
            let event = format!("BEFORE UPDATE OF \"{}\"", columns.join("\", \""));
            sql.push_str(&trigger(name, &event, None, "l2gw_for_life"));
        }
    }
    sql
}

impl Reference {
    fn touches(&self, resource: &Resource) -> bool {
        [self.from.kind, self.to.kind].contains(&resource.kind)
    }

    /// Looks up what new rows refer to.
    fn looked_up(&self) -> String {
        let (from, by, to) = (self.from.collection, self.by.name, self.to.collection);
        format!(
            r#"  FOR target IN SELECT DISTINCT "{by}" FROM written WHERE "{by}" IS NOT NULL LOOP
    PERFORM FROM "{to}" WHERE "id" = target FOR KEY SHARE;
    IF NOT FOUND THEN
      RAISE foreign_key_violation USING MESSAGE = format('{by} of {from}: there is no %s in {to}', target);
    END IF;
  END LOOP;
"#
        )
    }

    /// Does what a deletion of what is referred to asks for.
    fn left(&self) -> String {
        let (from, by, to) = (self.from.collection, self.by.name, self.to.collection);
        match self.on_delete {
            OnDelete::Restrict => format!(
                r#"  IF EXISTS (SELECT FROM "{from}" WHERE "{by}" IN (SELECT "id" FROM gone)) THEN
    RAISE foreign_key_violation USING MESSAGE = '{by} of {from}: something refers to what goes from {to}';
  END IF;
"#
            ),
            OnDelete::Cascade => {
                format!("  DELETE FROM \"{from}\" WHERE \"{by}\" IN (SELECT \"id\" FROM gone);\n")
            }
        }
    }
}

/// The rows that follow the database along [`crate::Snapshot::changes`] rely on it.
const FOR_LIFE: &str = r"  RAISE integrity_constraint_violation USING MESSAGE = format('ids and references of %s are for life', TG_TABLE_NAME);
";

fn function(name: &str, declarations: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION \"{name}\"() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
{declarations}BEGIN
{body}  RETURN NULL;
END $$;
"
    )
}

/// A trigger that is named by the first words of its event.
fn trigger(table: &str, event: &str, rows: Option<&str>, function: &str) -> String {
    let words: Vec<_> = event.split(' ').take(2).collect();
    let name = words.join("_").to_lowercase();
    let rows = rows.map_or_else(String::new, |rows| format!(" REFERENCING {rows}"));
    format!(
        "DROP TRIGGER IF EXISTS \"{name}\" ON \"{table}\";
CREATE TRIGGER \"{name}\" {event} ON \"{table}\"{rows} FOR EACH STATEMENT EXECUTE FUNCTION \"{function}\"();
"
    )
}
