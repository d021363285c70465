//! Why a database cannot be opened.

use std::path::PathBuf;

/// Why a database cannot be opened: one line for whoever starts the server. Databases are named by the path of their
/// file, or by their URL without its password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names an engine or a form that does not exist.
    #[error(
        "'{0}' is no database: use sqlite:///absolute/path, sqlite:relative/path, a plain path or postgres://USER@HOST:PORT/NAME"
    )]
    Url(String),
    /// A URL of PostgreSQL has a part that does not fit.
    #[error("'{url}' is no database: {cause}")]
    Postgres {
        /// The URL.
        url: String,
        /// What does not fit.
        cause: String,
    },
    /// The file cannot be made, read or written.
    #[error("cannot open database {path}: {cause}")]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// Another server has it open.
    #[error("database {0} is in use by another l2gw server")]
    InUse(String),
    /// It is locked by a process that is no server of ours.
    #[error("database {0} is locked by another process")]
    Locked(String),
    /// It is something else's.
    #[error("{0} is not an l2gw database")]
    Foreign(String),
    /// A later version of l2gw has migrated it.
    #[error(
        "database {database} has schema version {found}, this l2gw knows {known}: it needs a newer l2gw"
    )]
    Newer {
        /// Which database.
        database: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The engine refused it otherwise.
    #[error("cannot open database {database}: {cause}")]
    Engine {
        /// Which database.
        database: String,
        /// What the engine said.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn engine(
        database: &str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Engine {
            database: database.to_owned(),
            cause: cause.into(),
        }
    }
}
