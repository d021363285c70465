//! The audit log of a running server: rotated, on a disk that is full, and of one that is killed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::place::Place;

/// How long something may take on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn audited() -> (Place, PathBuf) {
    let mut log = PathBuf::new();
    let place = Place::with(|directory| {
        log = directory.join("audit.log");
        vec!["--audit-log".into(), log.clone().into()]
    });
    (place, log)
}

/// The names of what was created, as the log has them. The last line may be cut short by a kill.
fn recorded(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let records = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let changes = records.flat_map(|record| match record.get("changes") {
        Some(Value::Array(changes)) => changes.clone(),
        _ => Vec::new(),
    });
    changes
        .filter_map(|change| change.pointer("/after/name")?.as_str().map(str::to_owned))
        .collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let given_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < given_up, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn on_sighup_the_log_goes_on_in_a_new_file() {
    let (place, log) = audited();
    place.succeed(&["network", "create", "first"]);
    let old = log.with_extension("log.1");
    std::fs::rename(&log, &old).unwrap();
    place.succeed(&["network", "create", "second"]);
    place.hang_up();
    until("the file is there again", || log.exists());
    until("a record is in it", || {
        place.succeed(&["network", "create", "third"]);
        !recorded(&log).is_empty()
    });
    let old = recorded(&old);
    assert_eq!(old[..2], ["first", "second"]);
    assert!(recorded(&log).iter().all(|name| name == "third"));
}

#[test]
fn while_the_log_cannot_be_written_no_change_is_accepted_and_none_is_lost() {
    let mut log = PathBuf::new();
    let place = Place::with(|directory| {
        log = directory.join("audit.log");
        symlink("/dev/full", &log).unwrap();
        vec!["--audit-log".into(), log.clone().into()]
    });
    // The record of the start has met the full disk.
    until("changes are refused", || {
        place
            .types(&["network", "create", "refused"])
            .err
            .contains("audit log")
    });
    assert_eq!(place.succeed(&["network", "list"]).trim(), "");
    std::fs::remove_file(&log).unwrap();
    place.hang_up();
    until("changes are accepted again", || {
        place.types(&["network", "create", "accepted"]).code == Some(0)
    });
    assert_eq!(recorded(&log), ["accepted"]);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("\"action\":\"start\""),
        "kept until it could be written: {text}"
    );
}

#[test]
fn whatever_was_answered_before_a_kill_is_in_the_log() {
    let (place, log) = audited();
    let answered = Mutex::new(Vec::new());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (place, answered, over) = (&place, &answered, &over);
            scope.spawn(move || {
                for number in 0.. {
                    let name = format!("{client}-{number}");
                    let made = place.types(&["network", "create", &name]).code == Some(0);
                    if made {
                        answered.lock().unwrap().push(name);
                    }
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        until("some are answered", || answered.lock().unwrap().len() > 20);
        place.kill();
        over.store(true, Ordering::Relaxed);
    });
    let recorded = recorded(&log);
    for name in answered.into_inner().unwrap() {
        assert!(
            recorded.contains(&name),
            "{name} was answered and is not recorded"
        );
    }
}
