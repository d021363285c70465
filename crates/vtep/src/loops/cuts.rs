//! Which networks are cut off the WAN, since when, why, and until when.
//!
//! The list has one owner and is on disk before anybody acts on it: a restart of the daemon or of the host joins nothing.
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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use model::switch::LogicalSwitchName;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A hold time is doubled at most this often.
const MOST_DOUBLINGS: u32 = 6;

/// Who kept out of trouble for this many hold times is no repeat offender any more.
const FORGIVEN_AFTER_HOLDS: u32 = 10;

/// Signs of a loop come by the second while it lasts; what is on disk may lag this far behind.
const WRITE_EVERY_SECONDS: u64 = 10;

/// For how long networks are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// The first time; longer for repeat offenders.
    Hold(Duration),
    /// Until somebody joins them by hand.
    ByHand,
}

/// A network that is off the WAN. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    pub(crate) since: u64,
    /// Nothing: until somebody joins it by hand.
    pub(crate) until: Option<u64>,
    /// What is on disk for it.
    #[serde(skip)]
    kept: Option<u64>,
    pub(crate) cause: String,
}

/// How often a network was cut in a row, and when last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    cuts: u32,
    last_seen: u64,
}

/// What is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct List {
    #[serde(default)]
    cut: BTreeMap<String, Cut>,
    #[serde(default)]
    records: BTreeMap<String, Record>,
}

/// The list of cut networks. Shared by those that find loops, the one that acts on it, and those that tell of it.
#[derive(Debug)]
pub(crate) struct Cuts {
    path: PathBuf,
    terms: Terms,
    list: Mutex<List>,
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
            path,
            terms,
            list: Mutex::new(list),
            interrupt,
            changed: watch::Sender::new(()),
        })
    }

    /// Cuts a network off the WAN; if it is cut already, the loop is still there.
    pub(crate) fn cut(&self, network: &LogicalSwitchName, cause: &str) {
        let now = seconds(SystemTime::now());
        let outcome = self.lock().cut(network.as_str(), cause, self.terms, now);
        match outcome {
            Outcome::New => {
                tracing::warn!("loop: network {network} is cut off the WAN: {cause}");
                self.keep();
                self.interrupt.store(true, Ordering::Relaxed);
                self.changed.send_replace(());
            }
            Outcome::Prolonged => self.keep(),
            Outcome::Known => {}
        }
    }

    /// Joins a network to the WAN again and forgets what it did. Whether it was cut.
    pub(crate) fn release(&self, network: &str) -> bool {
        let was = self.lock().release(network);
        if was {
            tracing::info!("network {network} is joined to the WAN again, by hand");
            self.keep();
            self.changed.send_replace(());
        }
        was
    }

    /// Until the list has changed. May be dropped and called again at any time.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Until the hold time of a network is over; it is joined again then.
    pub(crate) async fn due(&self) {
        loop {
            let now = seconds(SystemTime::now());
            let (joined, next) = {
                let mut list = self.lock();
                (list.expire(now), list.next())
            };
            if !joined.is_empty() {
                for network in joined {
                    tracing::info!(
                        "network {network} is joined to the WAN again: no loop was seen for its hold time"
                    );
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

    /// What is cut, by network.
    pub(crate) fn all(&self) -> BTreeMap<String, Cut> {
        self.lock().cut.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self) {
        let list = self.lock();
        if let Err(error) = write(&self.path, &list) {
            let path = self.path.display();
            tracing::error!(%error, "{path} can't be written: what is cut is forgotten with the next restart");
        }
    }
}

/// What is cut according to the list of a state directory.
pub(crate) fn on_disk(state_dir: &Path) -> io::Result<BTreeMap<String, Cut>> {
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
    fn cut(&mut self, network: &str, cause: &str, terms: Terms, now: u64) -> Outcome {
        let record = self.records.entry(network.to_owned()).or_default();
        if let Some(cut) = self.cut.get_mut(network) {
            record.last_seen = now;
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
        };
        self.cut.insert(network.to_owned(), cut);
        Outcome::New
    }

    fn release(&mut self, network: &str) -> bool {
        self.records.remove(network);
        self.cut.remove(network).is_some()
    }

    fn expire(&mut self, now: u64) -> Vec<String> {
        let over = |cut: &Cut| cut.until.is_some_and(|until| until <= now);
        let over = self.cut.iter().filter(|(_, cut)| over(cut));
        let over: Vec<String> = over.map(|(network, _)| network.clone()).collect();
        for network in &over {
            self.cut.remove(network);
            // Its trial begins.
            if let Some(record) = self.records.get_mut(network) {
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
        self.records.retain(|network, record| {
            self.cut.contains_key(network) || !record.is_forgiven(terms, now)
        });
        for (network, cut) in &mut self.cut {
            cut.kept = Some(0);
            let cuts = self.records.get(network).map_or(1, |record| record.cuts);
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

/// What the switch complains about. The same words as long as the cut lasts.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut off the WAN because of a loop: {}", self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Terms = Terms::Hold(Duration::from_secs(60));

    #[test]
    fn a_cut_ends_a_hold_time_after_the_last_sign_of_the_loop() {
        let mut list = List::default();
        assert_eq!(list.cut("net", "why", HOLD, 1000), Outcome::New);
        assert_eq!(list.cut("net", "why", HOLD, 1001), Outcome::Known);
        assert_eq!(list.cut("net", "why", HOLD, 1030), Outcome::Prolonged);
        assert_eq!(list.cut("net", "why", HOLD, 1031), Outcome::Known);
        assert_eq!(list.expire(1090), Vec::<String>::new());
        assert_eq!(list.expire(1091), ["net"]);
        assert_eq!(list.next(), None);
    }

    #[test]
    fn repeat_offenders_are_held_longer_and_forgiven_in_the_end() {
        let mut list = List::default();
        let mut now = 0;
        let mut held = Vec::new();
        for _ in 0..9 {
            list.cut("net", "why", HOLD, now);
            let until = list.next().unwrap();
            held.push((until - now) / 60);
            now = until;
            list.expire(now);
        }
        assert_eq!(held, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        now += 60 * 64 * 10 + 1;
        list.cut("net", "why", HOLD, now);
        assert_eq!(list.next(), Some(now + 60));
    }

    #[test]
    fn what_is_released_by_hand_starts_with_a_clean_record() {
        let mut list = List::default();
        for _ in 0..3 {
            list.cut("net", "why", HOLD, 1000);
            list.expire(u64::MAX);
        }
        list.cut("net", "why", HOLD, 1000);
        assert!(list.release("net"));
        assert!(!list.release("net"));
        list.cut("net", "why", HOLD, 1000);
        assert_eq!(list.next(), Some(1060));
    }

    #[test]
    fn new_terms_and_a_clock_turned_back_hold_nobody_for_years() {
        let mut list = List::default();
        list.cut("net", "why", HOLD, 1_000_000);
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
        open().cut(&LogicalSwitchName::new("net"), "why");
        let kept = open().all();
        assert_eq!(kept["net"].cause, "why");
        assert!(release_on_disk(directory.path(), "net").unwrap());
        assert!(open().all().is_empty());
        fs::write(directory.path().join("cuts.json"), "{").unwrap();
        assert!(open().all().is_empty());
    }
}
