//! Whether a transaction was committed whose session was lost with the answer.
//!
//! The number of a transaction alone does not tell. The record of one that had not reached the disk when the server
//! crashed is gone as if it had never been: its number is ahead of the server's, until another transaction gets it, in
//! whichever database of the cluster, and may commit. But each commit of ours raises the revision of the database, and
//! nobody writes it without the lock, so a revision that stayed behind says that ours was lost. Another server that had
//! the lock in between noted where it began.

use model::fault::Fault;

use super::connection::Session;

/// What tells one transaction from all others, as a row of SQL.
#[derive(Debug)]
pub(super) struct Evidence(String);

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Committed,
    Lost,
}

impl Evidence {
    /// Of the transaction that the session is in.
    pub(super) fn take(session: &mut Session) -> Result<Option<Self>, Fault> {
        let taken = session.simple(
            r#"SELECT format('%L::xid8, %s::bigint, %s::bigint', pg_current_xact_id(),
                 (SELECT "revision" FROM "state"), (SELECT coalesce(max("key"), 0) FROM "timelines"))"#,
        )?;
        Ok(taken.map(Self))
    }

    /// Asks on a session that has the lock: the one that had it before has ended, and its transaction with it.
    pub(super) fn judge(&self, session: &mut Session) -> Result<Verdict, Fault> {
        let Self(evidence) = self;
        let status = session.simple(&format!(
            r#"WITH "ours" ("transaction", "revision", "timeline") AS (VALUES ({evidence}))
               SELECT CASE
                 WHEN "transaction" >= pg_snapshot_xmax(pg_current_snapshot()) THEN 'never heard of'
                 WHEN "ours"."revision" > coalesce(
                   (SELECT "timelines"."revision" FROM "timelines" WHERE "key" > "timeline" ORDER BY "key" LIMIT 1),
                   (SELECT "state"."revision" FROM "state")) THEN 'somebody else has its number'
                 ELSE pg_xact_status("transaction")
               END FROM "ours""#
        ))?;
        Ok(match status.as_deref() {
            Some("committed") => Verdict::Committed,
            _ => Verdict::Lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use testkit::postgres::Postgres;

    use super::*;
    use crate::engine::Connection as _;
    use crate::postgres::{Access, Server};
    use crate::writer::Writer;

    /// A session that writes a database of its own, at revision 10.
    fn session(cluster: &Postgres) -> Session {
        let server: Server = cluster.create_database().unwrap().parse().unwrap();
        let session = Session::open(server, Access::Write).unwrap();
        let mut session = Writer::new(session).unwrap().connection;
        raise(&mut session, 10);
        session
    }

    fn raise(session: &mut Session, revision: u64) {
        let sql = format!("UPDATE \"state\" SET \"revision\" = {revision}");
        session.simple(&sql).unwrap();
    }

    fn evidence(transaction: &str, revision: u64, timeline: u64) -> Evidence {
        Evidence(format!(
            "'{transaction}'::xid8, {revision}::bigint, {timeline}::bigint"
        ))
    }

    /// The number of a transaction that was committed.
    fn somebody_commits(session: &mut Session) -> String {
        let number = session.simple("SELECT pg_current_xact_id()::text");
        number.unwrap().unwrap()
    }

    #[test]
    fn a_transaction_is_judged_by_what_it_left() {
        let cluster = Postgres::start().unwrap();
        let mut session = session(&cluster);

        session.begin().unwrap();
        raise(&mut session, 11);
        let ours = Evidence::take(&mut session).unwrap().unwrap();
        session.simple("COMMIT").unwrap();
        assert_eq!(ours.judge(&mut session), Ok(Verdict::Committed));

        session.begin().unwrap();
        raise(&mut session, 12);
        let undone = Evidence::take(&mut session).unwrap().unwrap();
        session.rollback().unwrap();
        assert_eq!(undone.judge(&mut session), Ok(Verdict::Lost));
    }

    #[test]
    fn a_transaction_whose_number_a_crash_gave_back_is_lost() {
        let cluster = Postgres::start().unwrap();
        let mut session = session(&cluster);
        // Not given to anybody since.
        let unknown = evidence("1000000", 11, 1);
        assert_eq!(unknown.judge(&mut session), Ok(Verdict::Lost));

        // Given to somebody who writes elsewhere in the cluster.
        let number = somebody_commits(&mut session);
        let reused = evidence(&number, 11, 1);
        assert_eq!(reused.judge(&mut session), Ok(Verdict::Lost));

        // Or to a server that had the lock meanwhile, and has come as far as we had.
        session
            .simple(
                "INSERT INTO \"timelines\" (\"id\", \"revision\") VALUES (gen_random_uuid(), 10)",
            )
            .unwrap();
        raise(&mut session, 11);
        assert_eq!(reused.judge(&mut session), Ok(Verdict::Lost));
        let earlier = evidence(&number, 10, 1);
        assert_eq!(earlier.judge(&mut session), Ok(Verdict::Committed));
    }
}
