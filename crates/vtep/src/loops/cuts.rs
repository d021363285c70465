//! What is cut off, since when, why, and until when: networks off the WAN, ports off their networks.
//!
//! The list has one owner and is on disk: a restart of the daemon or of the host joins nothing. What cannot wait for the disk
//! is done in the kernel before; a daemon that ends between the two finds the loop again.
//! Whether a network is cut in the kernel follows from it by desired state and plan, as everything else does.
//!
//! A cut ends by hand, or after a hold time that begins anew with each sign of the loop and doubles with each cut that
//! follows soon after the last one ended.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use model::switch::LogicalSwitchName;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::kernel::name::InterfaceName;

/// A hold time is doubled at most this often.
const MOST_DOUBLINGS: u32 = 6;

/// Who kept out of trouble for this many hold times is no repeat offender any more.
const FORGIVEN_AFTER_HOLDS: u32 = 10;

/// Signs of a loop come by the second while it lasts; what is on disk may lag this far behind.
const WRITE_EVERY_SECONDS: u64 = 10;

/// What is cut off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) network: LogicalSwitchName,
    /// The device of the port that is off the network; nothing: the network is off the WAN.
    pub(crate) port: Option<InterfaceName>,
}

/// For how long something is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// The first time; longer for repeat offenders.
    Hold(Duration),
    /// Until somebody joins them by hand.
    ByHand,
}

/// That something is cut off. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    pub(crate) since: u64,
    /// Nothing: until somebody joins it by hand.
    pub(crate) until: Option<u64>,
    /// What is on disk for it.
    #[serde(skip)]
    kept: Option<u64>,
    pub(crate) cause: String,
    /// No probe came back: stations were seen to flap, and nobody knows where the ring closes.
    #[serde(default)]
    suspected: bool,
}

/// How often something was cut in a row, and when last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    cuts: u32,
    last_seen: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OnDisk", into = "OnDisk")]
struct List {
    cut: BTreeMap<Place, Cut>,
    records: BTreeMap<Place, Record>,
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

/// Puts lists on disk, in a thread of its own: a disk may take seconds, and meanwhile loops must be found.
#[derive(Debug)]
struct Disk {
    lists: Option<mpsc::Sender<List>>,
    writer: Option<JoinHandle<()>>,
}

impl Disk {
    fn open(path: PathBuf) -> io::Result<Self> {
        let (lists, written) = mpsc::channel::<List>();
        let writer = std::thread::Builder::new().name("cuts".to_owned());
        let writer = writer.spawn(move || {
            while let Ok(list) = written.recv() {
                let list = written.try_iter().last().unwrap_or(list);
                if let Err(error) = write(&path, &list) {
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

    fn write(&self, list: List) {
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
        write(&path, &list)?;
    }
    Ok(was)
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("cuts.json")
}

fn read(path: &Path) -> io::Result<List> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
        Err(error) => return Err(error),
    };
    Ok(serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::error!(%error, "{} is damaged: taken for empty", path.display());
        List::default()
    }))
}

/// In whole or not at all.
fn write(path: &Path, list: &List) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(list)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    New,
    Prolonged,
    Known,
}

impl List {
    fn cut(
        &mut self,
        place: &Place,
        cause: &str,
        suspected: bool,
        terms: Terms,
        now: u64,
    ) -> Outcome {
        let record = self.records.entry(place.clone()).or_default();
        if let Some(cut) = self.cut.get_mut(place) {
            record.last_seen = now;
            cut.suspected &= suspected;
            cut.until = terms.end(record.cuts, now);
            let lag = cut
                .until
                .zip(cut.kept)
                .map(|(until, kept)| until.saturating_sub(kept));
            if lag.is_none_or(|lag| lag < WRITE_EVERY_SECONDS) {
                return Outcome::Known;
            }
            cut.kept = cut.until;
            return Outcome::Prolonged;
        }
        if record.is_forgiven(terms, now) {
            record.cuts = 0;
        }
        record.cuts += 1;
        record.last_seen = now;
        let until = terms.end(record.cuts, now);
        let cut = Cut {
            since: now,
            until,
            kept: until,
            cause: cause.to_owned(),
            suspected,
        };
        self.cut.insert(place.clone(), cut);
        Outcome::New
    }

    fn release(&mut self, network: &str) -> bool {
        let of_it = |place: &Place| place.network.as_str() == network;
        self.records.retain(|place, _| !of_it(place));
        let before = self.cut.len();
        self.cut.retain(|place, _| !of_it(place));
        self.cut.len() < before
    }

    fn clear(&mut self, network: &LogicalSwitchName) -> bool {
        let place = Place {
            network: network.clone(),
            port: None,
        };
        let suspected = self.cut.get(&place).is_some_and(|cut| cut.suspected);
        if suspected {
            self.cut.remove(&place);
            self.records.remove(&place);
        }
        suspected
    }

    fn expire(&mut self, now: u64) -> Vec<Place> {
        let over = |cut: &Cut| cut.until.is_some_and(|until| until <= now);
        let over = self.cut.iter().filter(|(_, cut)| over(cut));
        let over: Vec<Place> = over.map(|(place, _)| place.clone()).collect();
        for place in &over {
            self.cut.remove(place);
            // Its trial begins.
            if let Some(record) = self.records.get_mut(place) {
                record.last_seen = now;
            }
        }
        over
    }

    fn next(&self) -> Option<u64> {
        self.cut.values().filter_map(|cut| cut.until).min()
    }

    /// What was cut under other terms, or before the clock was turned back, is not held longer than these allow.
    fn set_terms(&mut self, terms: Terms, now: u64) {
        self.records.retain(|place, record| {
            self.cut.contains_key(place) || !record.is_forgiven(terms, now)
        });
        for (place, cut) in &mut self.cut {
            cut.kept = Some(0);
            let cuts = self.records.get(place).map_or(1, |record| record.cuts);
            cut.until = match (terms.end(cuts, now), cut.until) {
                (Some(longest), Some(until)) => Some(longest.min(until)),
                (end, _) => end,
            };
        }
    }
}

impl Record {
    fn is_forgiven(&self, terms: Terms, now: u64) -> bool {
        match terms {
            Terms::Hold(hold) => {
                let probation = hold * FORGIVEN_AFTER_HOLDS * (1 << self.doublings());
                now.saturating_sub(self.last_seen) > probation.as_secs()
            }
            Terms::ByHand => true,
        }
    }

    fn doublings(&self) -> u32 {
        self.cuts.saturating_sub(1).min(MOST_DOUBLINGS)
    }
}

impl Terms {
    /// When the hold time of the n-th cut in a row is over.
    fn end(self, cuts: u32, now: u64) -> Option<u64> {
        match self {
            Self::Hold(hold) => {
                let doublings = cuts.saturating_sub(1).min(MOST_DOUBLINGS);
                Some(now + hold.as_secs() * (1 << doublings))
            }
            Self::ByHand => None,
        }
    }
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = &self.network;
        match self.port {
            None => write!(f, "network {network} is cut off the WAN"),
            Some(port) => write!(f, "port {port} is cut off network {network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Terms = Terms::Hold(Duration::from_secs(60));

    fn net() -> Place {
        Place {
            network: LogicalSwitchName::new("net"),
            port: None,
        }
    }

    fn port() -> Place {
        Place {
            port: Some("eth8".parse().unwrap()),
            ..net()
        }
    }

    #[test]
    fn a_cut_ends_a_hold_time_after_the_last_sign_of_the_loop() {
        let mut list = List::default();
        assert_eq!(list.cut(&net(), "why", false, HOLD, 1000), Outcome::New);
        assert_eq!(list.cut(&net(), "why", false, HOLD, 1001), Outcome::Known);
        assert_eq!(
            list.cut(&net(), "why", false, HOLD, 1030),
            Outcome::Prolonged
        );
        assert_eq!(list.cut(&net(), "why", false, HOLD, 1031), Outcome::Known);
        assert_eq!(list.expire(1090), []);
        assert_eq!(list.expire(1091), [net()]);
        assert_eq!(list.next(), None);
    }

    #[test]
    fn repeat_offenders_are_held_longer_and_forgiven_in_the_end() {
        let mut list = List::default();
        let mut now = 0;
        let mut held = Vec::new();
        for _ in 0..9 {
            list.cut(&net(), "why", false, HOLD, now);
            let until = list.next().unwrap();
            held.push((until - now) / 60);
            now = until;
            list.expire(now);
        }
        assert_eq!(held, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        now += 60 * 64 * 10 + 1;
        list.cut(&net(), "why", false, HOLD, now);
        assert_eq!(list.next(), Some(now + 60));
    }

    #[test]
    fn what_is_released_by_hand_starts_with_a_clean_record() {
        let mut list = List::default();
        for _ in 0..3 {
            list.cut(&net(), "why", false, HOLD, 1000);
            list.expire(u64::MAX);
        }
        list.cut(&net(), "why", false, HOLD, 1000);
        list.cut(&port(), "why", false, HOLD, 1000);
        assert!(list.release("net"));
        assert!(!list.release("net"));
        list.cut(&net(), "why", false, HOLD, 1000);
        assert_eq!(list.next(), Some(1060));
    }

    #[test]
    fn what_was_cut_on_suspicion_is_joined_when_the_ring_is_found_elsewhere_and_what_is_proven_is_not()
     {
        let mut list = List::default();
        list.cut(&net(), "why", true, HOLD, 1000);
        assert!(list.clear(&net().network));
        assert!(!list.clear(&net().network));
        list.cut(&net(), "why", true, HOLD, 1000);
        list.cut(&net(), "why", false, HOLD, 1001);
        list.cut(&net(), "why", true, HOLD, 1002);
        assert!(!list.clear(&net().network));
        assert_eq!(list.next(), Some(1062));
    }

    #[test]
    fn new_terms_and_a_clock_turned_back_hold_nobody_for_years() {
        let mut list = List::default();
        list.cut(&net(), "why", false, HOLD, 1_000_000);
        list.set_terms(HOLD, 10);
        assert_eq!(list.next(), Some(70));
        list.set_terms(Terms::ByHand, 10);
        assert_eq!(list.next(), None);
        list.set_terms(HOLD, 20);
        assert_eq!(list.next(), Some(80));
    }

    #[test]
    fn a_list_outlives_its_daemon_and_a_damaged_one_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let interrupt = Arc::new(AtomicBool::new(false));
            Cuts::open(directory.path(), HOLD, interrupt).unwrap()
        };
        for place in [net(), port()] {
            open().cut(&place, "why");
        }
        let kept = open().all();
        assert!(kept.keys().eq([&net(), &port()]));
        assert_eq!(kept[&net()].cause, "why");
        assert!(release_on_disk(directory.path(), "net").unwrap());
        assert!(open().all().is_empty());
        fs::write(directory.path().join("cuts.json"), "{").unwrap();
        assert!(open().all().is_empty());
    }
}
