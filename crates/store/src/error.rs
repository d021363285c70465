//! Why a database cannot be opened.

use std::path::PathBuf;

/// Why a database cannot be opened: one line for whoever starts the server.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names an engine or a form that does not exist.
    #[error(
        "'{0}' is no database: use sqlite:///absolute/path, sqlite:relative/path or a plain path"
    )]
    Url(String),
    /// PostgreSQL is not supported yet.
    #[error("PostgreSQL is not built yet: use sqlite:///absolute/path or a plain path")]
    Postgres,
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
    InUse(PathBuf),
    /// It is locked by a process that is no server of ours.
    #[error("database {0} is locked by another process")]
    Locked(PathBuf),
    /// It is some other file.
    #[error("{0} is not an l2gw database")]
    Foreign(PathBuf),
    /// A later version of l2gw has migrated it.
    #[error(
        "database {path} has schema version {found}, this l2gw knows {known}: it needs a newer l2gw"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The engine refused it otherwise.
    #[error("cannot open database {path}: {cause}")]
    Engine {
        /// Which file.
        path: PathBuf,
        /// What the engine said.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}
