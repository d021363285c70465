//! What is cut off, since when, why, and until when: networks off the WAN, ports off their networks.
//!
//! The list has one owner and is on disk: a restart of the daemon or of the host joins nothing. What cannot wait for the disk
//! is done in the kernel before; a daemon that ends between the two finds the loop again.
//! Whether a network is cut in the kernel follows from it by desired state and plan, as everything else does.
//!
//! A cut ends by hand, or after a hold time that begins anew with each sign of the loop and doubles with each cut that
//! follows soon after the last one ended.

mod disk;
mod list;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use model::switch::LogicalSwitchName;
use tokio::sync::watch;

use self::disk::{Disk, path, read};
use self::list::{List, Outcome};

pub(crate) use self::disk::{on_disk, release_on_disk};
pub(crate) use self::list::{Cut, Place, Terms};

/// The list of what is cut. Shared by those that find loops, the one that acts on it, and those that tell of it.
#[derive(Debug)]
pub(crate) struct Cuts {
    terms: Terms,
    list: Mutex<List>,
    disk: Disk,
    /// Ends a pass under way: a long one must not keep a cut waiting.
    interrupt: Arc<AtomicBool>,
    changed: watch::Sender<()>,
}

impl Cuts {
    /// The list of a state directory.
    ///
    /// # Errors
    /// It can't be read. That it says nonsense is told in the log, and taken for an empty one.
    pub(crate) fn open(
        state_dir: &Path,
        terms: Terms,
        interrupt: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let path = path(state_dir);
        let mut list = read(&path)?;
        let now = seconds(SystemTime::now());
        list.set_terms(terms, now);
        Ok(Self {
            terms,
            list: Mutex::new(list),
            disk: Disk::open(path)?,
            interrupt,
            changed: watch::Sender::new(()),
        })
    }

    /// Cuts something off; if it is cut already, the loop is still there. Waits for nobody. Who does it in the kernel at once
    /// does so after this: then nobody who looks at the list undoes it.
    pub(crate) fn cut(&self, place: &Place, cause: &str) {
        self.cut_for(place, cause, false);
    }

    /// The same, where no probe has proven that the ring closes there.
    pub(crate) fn suspect(&self, place: &Place, cause: &str) {
        self.cut_for(place, cause, true);
    }

    fn cut_for(&self, place: &Place, cause: &str, suspected: bool) {
        let now = seconds(SystemTime::now());
        let outcome = self.lock().cut(place, cause, suspected, self.terms, now);
        match outcome {
            Outcome::New => {
                self.interrupt.store(true, Ordering::Relaxed);
                self.changed.send_replace(());
                tracing::warn!("loop: {place}: {cause}");
                self.keep();
            }
            Outcome::Prolonged => self.keep(),
            Outcome::Known => {}
        }
    }

    /// Joins a network to the WAN, and its ports to it, again and forgets what it did. Whether anything was cut.
    pub(crate) fn release(&self, network: &str) -> bool {
        let was = self.lock().release(network);
        if was {
            tracing::info!("network {network} is joined again, by hand");
            self.keep();
            self.changed.send_replace(());
        }
        was
    }

    /// Joins a network to the WAN again that was cut off on suspicion: the ring was found to close elsewhere.
    pub(crate) fn clear(&self, network: &LogicalSwitchName) {
        if self.lock().clear(network) {
            tracing::info!("network {network} is joined to the WAN again: the loop is beside it");
            self.keep();
            self.changed.send_replace(());
        }
    }

    /// Until the list has changed. May be dropped and called again at any time.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Until a hold time is over; what was cut is joined again then.
    pub(crate) async fn due(&self) {
        loop {
            let now = seconds(SystemTime::now());
            let (joined, next) = {
                let mut list = self.lock();
                (list.expire(now), list.next())
            };
            if !joined.is_empty() {
                for place in joined {
                    tracing::info!("no longer {place}: no loop was seen for its hold time");
                }
                self.keep();
                self.changed.send_replace(());
            }
            match next {
                // The wall clock may be turned meanwhile, and signs of the loop prolong it.
                Some(until) => {
                    let pause = until.saturating_sub(now).clamp(1, 10);
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                }
                None => {
                    let mut changes = self.changes();
                    if changes.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
            }
        }
    }

    /// What is cut.
    pub(crate) fn all(&self) -> BTreeMap<Place, Cut> {
        self.lock().cut.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self) {
        // Under the lock, so that the last one sent is the last one.
        let list = self.lock();
        self.disk.write(list.clone());
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_outlives_its_daemon_and_a_damaged_one_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let hold = Terms::Hold(Duration::from_secs(60));
            let interrupt = Arc::new(AtomicBool::new(false));
            Cuts::open(directory.path(), hold, interrupt).unwrap()
        };
        let net = Place {
            network: LogicalSwitchName::new("net"),
            port: None,
        };
        let port = Place {
            port: Some("eth8".parse().unwrap()),
            ..net.clone()
        };
        for place in [&net, &port] {
            open().cut(place, "why");
        }
        let kept = open().all();
        assert!(kept.keys().eq([&net, &port]));
        assert_eq!(kept[&net].cause, "why");
        assert!(release_on_disk(directory.path(), "net").unwrap());
        assert!(open().all().is_empty());
        std::fs::write(directory.path().join("cuts.json"), "{").unwrap();
        assert!(open().all().is_empty());
    }
}
