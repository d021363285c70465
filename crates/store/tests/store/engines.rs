//! The engines, so that every behaviour is proven on each of them.

use std::sync::LazyLock;

use store::Store;
use tempfile::TempDir;
use testkit::postgres::Postgres;

/// One cluster for all tests of this run; each has a database of its own.
static CLUSTER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().expect("PostgreSQL"));

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// A database that does not exist yet, or is empty.
pub(crate) struct Place {
    pub(crate) url: String,
    _directory: Option<TempDir>,
}

impl Engine {
    /// A place for a database.
    pub(crate) fn place(self) -> Place {
        match self {
            Self::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                Place {
                    url: format!("sqlite://{}", directory.path().join("l2gw.db").display()),
                    _directory: Some(directory),
                }
            }
            Self::Postgres => Place {
                url: CLUSTER.create_database().unwrap(),
                _directory: None,
            },
        }
    }

    /// A new database.
    pub(crate) async fn open(self) -> Store {
        match self {
            Self::Sqlite => Store::open("sqlite::memory:").await.unwrap(),
            Self::Postgres => Store::open(&self.place().url).await.unwrap(),
        }
    }
}

/// Runs SQL in the database of this URL, past the store.
pub(crate) fn sql(url: &str, sql: &str) -> String {
    match url.strip_prefix("sqlite://") {
        Some(path) => {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute_batch(sql).unwrap();
            String::new()
        }
        None => psql(url, sql).unwrap(),
    }
}

/// Runs SQL in the PostgreSQL database of this URL in one transaction, past the store.
pub(crate) fn psql(url: &str, sql: &str) -> Result<String, String> {
    let (_, database) = url.rsplit_once('/').unwrap();
    CLUSTER
        .sql(database, sql)
        .map_err(|error| error.to_string())
}

/// Makes a test for each engine of functions that take one.
macro_rules! on_every_engine {
    ($($behaviour:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $behaviour() {
                    super::$behaviour(crate::engines::Engine::Sqlite).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $behaviour() {
                    super::$behaviour(crate::engines::Engine::Postgres).await;
                }
            )*
        }
    };
}
pub(crate) use on_every_engine;
