//! The file of a database: there is one, we may write it, and no other server has it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::OpenError;

/// A database file that is ours until this is dropped.
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// Locked for as long as it is open. It is a file beside the database because closing any descriptor of the
    /// database itself would drop SQLite's own locks (POSIX fcntl(2), advisory record locking).
    lock: File,
    /// Where the file lies if it is to be gone afterwards.
    _directory: Option<TempDir>,
}

impl DatabaseFile {
    /// Takes the file, makes it where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |cause| OpenError::File {
            path: path.to_owned(),
            cause,
        };
        // The database is nobody's business but the server's; its WAL inherits the mode.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        options.open(path).map_err(failed)?;
        // However it was spelled: there is one lock for one file.
        let path = path.canonicalize().map_err(failed)?;
        if let Some(directory) = path.parent() {
            // The name of a new file is durable when its directory is (fsync(2)). Not every file system can.
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            if let Err(error) = synced {
                tracing::warn!(%error, directory = %directory.display(), "cannot sync the directory");
            }
        }
        let lock_path = with_suffix(&path, ".lock");
        let lock = options.open(&lock_path);
        let lock = lock.map_err(|cause| OpenError::File {
            path: lock_path.clone(),
            cause,
        })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path,
                lock,
                _directory: None,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.display().to_string())),
            Err(TryLockError::Error(cause)) => Err(OpenError::File {
                path: lock_path,
                cause,
            }),
        }
    }

    /// Makes a file that is gone when this is dropped.
    pub(super) fn temporary() -> Result<Self, OpenError> {
        let directory = tempfile::Builder::new().prefix("l2gw-").tempdir();
        let directory = directory.map_err(|cause| OpenError::File {
            path: std::env::temp_dir(),
            cause,
        })?;
        let mut file = Self::open(&directory.path().join("l2gw.db"))?;
        file._directory = Some(directory);
        Ok(file)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DatabaseFile {
    fn drop(&mut self) {
        // Closing it is not enough: a child that is being started just now has the same lock until it has left this program
        // behind (flock(2)), and whoever opens the database next would be refused. An error leaves it to the closing.
        let _ = self.lock.unlock();
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_given_back_is_free_whoever_has_a_copy_of_its_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l2gw.db");
        let file = DatabaseFile::open(&path).unwrap();
        assert!(matches!(
            DatabaseFile::open(&path),
            Err(OpenError::InUse(_))
        ));
        // As a child has it between fork(2) and execve(2).
        let _copy = file.lock.try_clone().unwrap();
        drop(file);
        DatabaseFile::open(&path).unwrap();
    }
}
