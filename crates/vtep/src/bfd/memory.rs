//! What a restart must know so that no other end notices it: kept in the state directory while sessions are up.
//!
//! It is no truth about anything: a session that is resumed and not answered is down after the detection time. So it is
//! written without waiting for the disk, and a file that can't be read is no file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::engine::Board;
use super::frame::Addresses;
use super::session::Memory;

/// Sessions that were up, by far end.
pub type Left = BTreeMap<Ipv4Addr, (Memory, Addresses)>;

#[derive(Serialize, Deserialize)]
struct Entry {
    local: Ipv4Addr,
    far: Ipv4Addr,
    session: Memory,
    to: Addresses,
}

/// What is kept of sessions in a directory.
#[derive(Debug)]
pub struct Keeper {
    file: PathBuf,
    kept: Option<Vec<u8>>,
}

impl Keeper {
    /// In this directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            file: directory.join("bfd.json"),
            kept: None,
        }
    }

    /// What an earlier run left, by local address.
    pub fn left(&self) -> BTreeMap<Ipv4Addr, Left> {
        let entries: Vec<Entry> = fs::read(&self.file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let mut left: BTreeMap<Ipv4Addr, Left> = BTreeMap::new();
        for entry in entries {
            let sessions = left.entry(entry.local).or_default();
            sessions.insert(entry.far, (entry.session, entry.to));
        }
        left
    }

    /// Keeps what the board says, if that is something new. `local` tells our end of a tunnel.
    ///
    /// # Errors
    /// The directory can't be written to.
    pub fn keep(
        &mut self,
        board: &Board,
        local: impl Fn(Ipv4Addr) -> Option<Ipv4Addr>,
    ) -> io::Result<()> {
        let entries: Vec<Entry> = board
            .iter()
            .filter_map(|(far, told)| {
                let (session, to) = told.memory?;
                Some(Entry {
                    local: local(*far)?,
                    far: *far,
                    session,
                    to,
                })
            })
            .collect();
        let text = serde_json::to_vec(&entries)?;
        if self.kept.as_ref() == Some(&text) {
            return Ok(());
        }
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, &text)?;
        fs::rename(&fresh, &self.file)?;
        self.kept = Some(text);
        Ok(())
    }
}
