//! The disk's own answer to "is it safe now": append a page, fdatasync(2).

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// One page of SQLite's and of the disk's cache.
const PAGE: [u8; 4096] = [0; 4096];

/// A file that grows by one page at a time.
#[derive(Debug)]
pub(crate) struct Journal(File);

impl Journal {
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        Ok(Self(File::create(directory.join("journal"))?))
    }

    /// Appends a page and waits until it is on the disk.
    pub(crate) fn append(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.0.write_all(&PAGE)?;
        self.0.sync_data()?;
        Ok(start.elapsed())
    }
}
