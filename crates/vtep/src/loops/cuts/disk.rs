//! The list of what is cut, on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use model::switch::LogicalSwitchName;
use serde::{Deserialize, Serialize};

use super::list::{Cut, List, Place, Record};

/// Puts lists on disk, in a thread of its own: a disk may take seconds, and meanwhile loops must be found.
#[derive(Debug)]
pub(super) struct Disk {
    lists: Option<mpsc::Sender<List>>,
    writer: Option<JoinHandle<()>>,
}

impl Disk {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let (lists, written) = mpsc::channel::<List>();
        let writer = std::thread::Builder::new().name("cuts".to_owned());
        let writer = writer.spawn(move || {
            while let Ok(list) = written.recv() {
                let list = written.try_iter().last().unwrap_or(list);
                if let Err(error) = write(&path, list) {
                    let path = path.display();
                    tracing::error!(%error, "{path} can't be written: what is cut is forgotten with the next restart");
                }
            }
        })?;
        Ok(Self {
            lists: Some(lists),
            writer: Some(writer),
        })
    }

    pub(super) fn write(&self, list: List) {
        if let Some(lists) = &self.lists {
            // The writer ends after us.
            let _ = lists.send(list);
        }
    }
}

/// What was sent is on disk then.
impl Drop for Disk {
    fn drop(&mut self) {
        self.lists = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// What is cut according to the list of a state directory.
pub(crate) fn on_disk(state_dir: &Path) -> io::Result<BTreeMap<Place, Cut>> {
    Ok(read(&path(state_dir))?.cut)
}

/// Takes a network off the list of a state directory that no daemon is using. Whether it was there.
pub(crate) fn release_on_disk(state_dir: &Path, network: &str) -> io::Result<bool> {
    let path = path(state_dir);
    let mut list = read(&path)?;
    let was = list.release(network);
    if was {
        write(&path, list)?;
    }
    Ok(was)
}

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("cuts.json")
}

pub(super) fn read(path: &Path) -> io::Result<List> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
        Err(error) => return Err(error),
    };
    let list = serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::error!(%error, "{} is damaged: taken for empty", path.display());
        OnDisk::default()
    });
    Ok(list.into())
}

/// In whole or not at all.
fn write(path: &Path, list: List) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&OnDisk::from(list))?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// The list as it is on disk.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct OnDisk {
    cut: Vec<Entry<Cut>>,
    records: Vec<Entry<Record>>,
}

#[derive(Serialize, Deserialize)]
struct Entry<T> {
    network: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<String>,
    #[serde(flatten)]
    what: T,
}

impl From<OnDisk> for List {
    fn from(disk: OnDisk) -> Self {
        fn read<T>(entries: Vec<Entry<T>>) -> BTreeMap<Place, T> {
            let read = |entry: Entry<T>| {
                let port = match entry.port {
                    Some(name) => Some(name.parse().ok()?),
                    None => None,
                };
                let network = LogicalSwitchName::new(entry.network);
                Some((Place { network, port }, entry.what))
            };
            entries.into_iter().filter_map(read).collect()
        }
        Self {
            cut: read(disk.cut),
            records: read(disk.records),
        }
    }
}

impl From<List> for OnDisk {
    fn from(list: List) -> Self {
        fn written<T>(entries: BTreeMap<Place, T>) -> Vec<Entry<T>> {
            let written = |(place, what): (Place, T)| Entry {
                network: place.network.to_string(),
                port: place.port.map(|port| port.to_string()),
                what,
            };
            entries.into_iter().map(written).collect()
        }
        Self {
            cut: written(list.cut),
            records: written(list.records),
        }
    }
}
