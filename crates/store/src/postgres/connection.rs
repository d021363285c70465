//! A session of PostgreSQL.
//!
//! The client library is asynchronous and work on the database is not, so each session has a runtime of its own, which
//! runs while we wait for an answer. Savepoints are not worth a round trip each: they wait and go out with the next
//! statement, in the same packet.

use std::collections::HashMap;
use std::pin::Pin;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt, join, join3};
use futures_util::stream::{Fuse, StreamExt, TryStreamExt};
use model::fault::{Fault, FaultKind};
use model::row::Row;
use model::table;
use tokio::runtime::{self, Runtime};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, RowStream, SimpleQueryMessage, Statement};

use super::fault::{fault, is_lost, refusal, told};
use super::schema;
use super::server::Server;
use super::statistics::Statistics;
use super::value::column_type;
use super::verdict::{Evidence, Verdict};
use crate::OpenError;
use crate::engine::{Connection, Each, Refusal, Savepoint};
use crate::job::unavailable;
use crate::schema::stored;
use crate::statement;
use crate::value::{Bound, bounds};

/// Statements kept prepared by a session.
const PREPARED: usize = 128;

/// How long an answer may take before the server is taken for lost. A million rows are copied in half of it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// How long the server may take to come back and tell whether it has committed.
const VERDICT_PATIENCE: Duration = Duration::from_secs(5);

/// What is said when it takes longer.
const NO_VERDICT: &str = "The database is not available right now. Whether the change was made is not known: look before you try again.";

/// From so many rows on, COPY is faster than INSERT.
const WORTH_A_COPY: usize = 8;

/// When a COPY is refused, so many rows are copied at once to find out which one it was.
const SUSPECTS: usize = 1000;

/// So many rows of an answer nobody wants are read to keep the session.
const UNWANTED: usize = 1000;

/// So many rows are taken from the wire before they are shown.
const BATCH: usize = 256;

const RELEASE: &str = "RELEASE statement;";
const UNDO: &str = "ROLLBACK TO statement; RELEASE statement;";
const STEP: &str = "SAVEPOINT step;";

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It cannot write.
    Read,
    /// It is the one that writes.
    Write,
}

/// A session, or one that was lost and is opened again with the next transaction.
pub(crate) struct Session {
    server: Server,
    access: Access,
    live: Option<Live>,
    /// What goes out with the next statement.
    waiting: String,
    in_transaction: bool,
    /// Whether the transaction has written, so that it matters whether it is committed.
    wrote: bool,
    /// Whether an answer is on the way that nobody wants.
    unwanted: bool,
    statistics: Statistics,
    /// Dropped last: the connection lives on it.
    runtime: Runtime,
}

struct Live {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Session {
    /// Opens one. The one that writes takes the lock and brings the schema up to date. Blocks.
    pub(crate) fn open(server: Server, access: Access) -> Result<Self, OpenError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| OpenError::engine(&server.name, cause))?;
        let mut session = Self {
            server,
            access,
            live: None,
            waiting: String::new(),
            in_transaction: false,
            wrote: false,
            unwanted: false,
            statistics: Statistics::default(),
            runtime,
        };
        session.connect()?;
        Ok(session)
    }

    /// The version of the schema.
    pub(crate) fn version(&mut self) -> Result<u32, OpenError> {
        schema::version(self)
    }

    /// What the database is called.
    pub(super) fn name(&self) -> &str {
        &self.server.name
    }

    fn connect(&mut self) -> Result<(), OpenError> {
        self.lose();
        let connecting = self.server.config.connect(self.server.tls.clone());
        let connected = self.runtime.block_on(connecting);
        let (client, connection) =
            connected.map_err(|error| OpenError::engine(&self.server.name, told(&error)))?;
        self.runtime.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = told(&error), "a connection to the database ended");
            }
        });
        self.live = Some(Live {
            client,
            statements: HashMap::new(),
        });
        let entered = self.enter();
        if entered.is_err() {
            self.lose();
        }
        entered
    }

    /// Makes the session ours.
    fn enter(&mut self) -> Result<(), OpenError> {
        // Keepalives: the lock of a server that went away without a word is free again soon. The time limit is for
        // somebody's ALTER TABLE. The replication of a cluster may ask for more than `on`, but not for less.
        self.ask(
            "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
             SET lock_timeout = '2s'; SET client_min_messages = warning;
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        )?;
        match self.access {
            Access::Read => self.ask("SET default_transaction_read_only = on").map(drop),
            Access::Write => {
                schema::lock(self)?;
                schema::migrate(self, table::ALL, table::SCHEMA_VERSION)?;
                if self.ask("SHOW fsync")?.as_deref() == Some("off") {
                    tracing::warn!(
                        "the database runs with fsync off: a power cut can lose what was answered"
                    );
                }
                Ok(())
            }
        }
    }

    /// The first column of the first row of the last of some statements.
    pub(super) fn ask(&mut self, sql: &str) -> Result<Option<String>, OpenError> {
        let answer = self.simple(sql);
        answer.map_err(|error| {
            OpenError::engine(&self.server.name, error.detail.unwrap_or(error.message))
        })
    }

    /// As [`Self::ask`], behind what waits.
    pub(super) fn simple(&mut self, sql: &str) -> Result<Option<String>, Fault> {
        let sql = std::mem::take(&mut self.waiting) + sql;
        let messages = self.wait(async |client| client.simple_query(&sql).await)?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(rows.last().map(str::to_owned))
    }

    /// Waits for an answer. A session that is lost or does not answer is given up.
    fn wait<T>(
        &mut self,
        question: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Fault> {
        match self.attempt(question)? {
            Ok(answer) => Ok(answer),
            Err(error) => Err(fault(&error)),
        }
    }

    /// As [`Self::wait`], with errors of the server that leave the session as they are.
    fn attempt<T>(
        &mut self,
        question: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, Fault> {
        let Some(live) = &self.live else {
            return Err(unavailable("the connection is lost"));
        };
        let answer = self.runtime.block_on(async {
            tokio::time::timeout(ANSWER_PATIENCE, question(&live.client)).await
        });
        match answer {
            Ok(Err(error)) if is_lost(&error) => {
                self.lose();
                Err(fault(&error))
            }
            Ok(answer) => Ok(answer),
            Err(_) => {
                self.lose();
                Err(unavailable("it does not answer"))
            }
        }
    }

    fn lose(&mut self) {
        self.live = None;
        self.waiting.clear();
        self.in_transaction = false;
        self.unwanted = false;
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement, Fault> {
        let known = self.live.as_ref().and_then(|live| live.statements.get(sql));
        if let Some(statement) = known {
            return Ok(statement.clone());
        }
        let statement = self.wait(async |client| client.prepare(sql).await)?;
        if let Some(Live { statements, .. }) = &mut self.live {
            if statements.len() >= PREPARED {
                statements.clear();
            }
            statements.insert(sql.to_owned(), statement.clone());
        }
        Ok(statement)
    }

    fn start(&mut self) -> Result<(), Fault> {
        self.simple(match self.access {
            Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Access::Write => "BEGIN",
        })?;
        self.in_transaction = true;
        self.wrote = false;
        Ok(())
    }

    /// Whether a transaction was committed whose session was lost with the answer.
    fn verdict(&mut self, evidence: &Evidence) -> Result<(), Fault> {
        let begun = Instant::now();
        while let Err(error) = self.connect() {
            if begun.elapsed() > VERDICT_PATIENCE {
                let fault = Fault::new(FaultKind::Unavailable, NO_VERDICT);
                return Err(fault.with_detail(error.to_string()));
            }
            thread::sleep(Duration::from_millis(100));
        }
        match evidence.judge(self)? {
            Verdict::Committed => Ok(()),
            Verdict::Lost => Err(unavailable("the connection was lost before the commit")),
        }
    }

    /// COPY, all rows or none.
    fn copy(&mut self, rows: &[Row]) -> Result<(), Refusal> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let mut columns = vec![Type::INT8];
        columns.extend(stored(first.resource).map(|(_, attribute)| column_type(attribute.shape)));
        let values: Vec<_> = rows
            .iter()
            .map(|row| bounds(row, stored(row.resource)))
            .collect::<Result<_, _>>()?;
        let sql = format!(
            "COPY \"{}\" ({}) FROM STDIN BINARY",
            first.resource.collection,
            statement::columns(first.resource)
        );
        self.simple("SAVEPOINT statement")?;
        self.wrote = true;
        let copied = self.attempt(async |client| {
            let sink = client.copy_in(&sql).await?;
            let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &columns));
            for row in &values {
                writer.as_mut().write_raw(row.iter().copied()).await?;
            }
            writer.finish().await
        })?;
        match copied {
            Ok(_) => {
                self.statistics
                    .copied(first.resource.collection, rows.len());
                self.waiting.push_str(RELEASE);
                Ok(())
            }
            Err(error) => {
                self.simple(UNDO)?;
                Err(refusal(&error))
            }
        }
    }

    /// The next rows of an answer; none at its end.
    fn next(
        &mut self,
        rows: &mut Fuse<Pin<Box<RowStream>>>,
    ) -> Result<Vec<tokio_postgres::Row>, Fault> {
        self.wait(async |_| {
            let mut batch = Vec::new();
            batch.extend(rows.try_next().await?);
            // What has arrived already, without waiting for more.
            while batch.len() < BATCH
                && !batch.is_empty()
                && let Some(Some(row)) = rows.next().now_or_never()
            {
                batch.push(row?);
            }
            Ok(batch)
        })
    }
}

impl Connection for Session {
    fn begin(&mut self) -> Result<(), Fault> {
        // It may have been lost while nobody looked.
        if self.live.is_some() && self.start().is_ok() {
            return Ok(());
        }
        self.connect().map_err(unavailable)?;
        self.start()
    }

    fn commit(&mut self) -> Result<(), Fault> {
        let mut evidence = None;
        if self.wrote {
            evidence = Evidence::take(self)?;
        }
        let committed = self.simple("COMMIT");
        self.in_transaction = false;
        match (committed, evidence) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(evidence)) if self.live.is_none() => self.verdict(&evidence),
            (Err(fault), _) => Err(fault),
        }
    }

    fn rollback(&mut self) -> Result<(), Fault> {
        self.waiting.clear();
        if self.unwanted {
            // A new session is cheaper than to read on.
            self.lose();
        }
        if !self.in_transaction {
            return Ok(());
        }
        self.in_transaction = false;
        self.simple("ROLLBACK").map(drop)
    }

    fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    fn savepoint(&mut self, step: Savepoint) -> Result<(), Fault> {
        if !self.in_transaction {
            return Err(unavailable("the transaction is lost"));
        }
        // Between the two there was nothing that could be undone.
        let nothing = self.waiting.strip_suffix(STEP).map(str::len);
        match (step, nothing) {
            (Savepoint::Set, _) => self.waiting.push_str(STEP),
            (_, Some(before)) => self.waiting.truncate(before),
            (Savepoint::Release, None) => self.waiting.push_str("RELEASE step;"),
            (Savepoint::Undo, None) => {
                self.simple("ROLLBACK TO step; RELEASE step")?;
            }
        }
        Ok(())
    }

    fn execute(&mut self, sql: &str, binds: &[Bound<'_>]) -> Result<u64, Refusal> {
        let statement = self.prepared(sql)?;
        let before = std::mem::take(&mut self.waiting) + "SAVEPOINT statement";
        self.wrote = true;
        let outcome = self.attempt(async |client| {
            let all = join3(
                client.batch_execute(&before),
                client.execute_raw(&statement, binds.iter().copied()),
                client.batch_execute(RELEASE),
            );
            let (set, done, released) = all.await;
            match done {
                Err(error) if is_lost(&error) => Err(error),
                done => Ok((set, done, released)),
            }
        })?;
        let (set, done, released) = outcome.map_err(|error| fault(&error))?;
        match done {
            Ok(rows) => {
                set.and(released).map_err(|error| fault(&error))?;
                Ok(rows)
            }
            Err(error) => {
                self.simple(UNDO)?;
                Err(refusal(&error))
            }
        }
    }

    fn query(&mut self, sql: &str, binds: &[Bound<'_>], each: &mut Each<'_>) -> Result<(), Fault> {
        let statement = self.prepared(sql)?;
        let before = std::mem::take(&mut self.waiting);
        let rows = self.wait(async |client| {
            let rows = client.query_raw(&statement, binds.iter().copied());
            if before.is_empty() {
                return rows.await;
            }
            let (set, rows) = join(client.batch_execute(&before), rows).await;
            set.and(rows)
        })?;
        let mut rows = Box::pin(rows).fuse();
        let mut wanted = true;
        let mut unwanted = 0;
        loop {
            let batch = self.next(&mut rows)?;
            if batch.is_empty() {
                return Ok(());
            }
            if !wanted {
                unwanted += batch.len();
                if unwanted > UNWANTED {
                    self.unwanted = true;
                    return Ok(());
                }
                continue;
            }
            for row in &batch {
                if each(row)?.is_break() {
                    wanted = false;
                    break;
                }
            }
        }
    }

    fn insert(&mut self, rows: &[Row]) -> Result<(), (usize, Refusal)> {
        if rows.len() >= WORTH_A_COPY {
            match self.copy(rows) {
                Ok(()) => return Ok(()),
                Err(Refusal::Fault(fault)) if fault.kind.status() >= 500 => {
                    return Err((0, fault.into()));
                }
                Err(_) => {}
            }
        }
        if rows.len() > SUSPECTS {
            for (place, suspects) in rows.chunks(SUSPECTS).enumerate() {
                self.insert(suspects)
                    .map_err(|(offset, refusal)| (place * SUSPECTS + offset, refusal))?;
            }
            return Ok(());
        }
        for (place, row) in rows.iter().enumerate() {
            let sql = statement::insert(row.resource);
            let values = bounds(row, stored(row.resource));
            let values = values.map_err(|fault| (place, fault.into()))?;
            self.execute(&sql, &values)
                .map_err(|refusal| (place, refusal))?;
        }
        Ok(())
    }

    fn tidy(&mut self) {
        for table in self.statistics.due() {
            if let Err(fault) = self.simple(&format!("ANALYZE \"{table}\"")) {
                tracing::debug!(%fault, table, "the database did not look at a table");
            }
        }
    }

    fn finish(&mut self) {
        // The lock is free before anybody is told that the database is closed.
        let _ = self.simple("SELECT pg_advisory_unlock_all()");
        self.lose();
    }
}
