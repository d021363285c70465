//! How often a peer is dialled that is not there, and one that does not stay.

use std::time::Duration;

use ovsdb::{Connection, ConnectionOptions, Endpoint, Link, SessionOptions};
use tempfile::TempDir;
use tokio::net::UnixListener;

use crate::fixture::{DB, Names, until};

/// Longer than any test waits.
const AGES: Duration = Duration::from_secs(3600);

fn socket(directory: &TempDir) -> (std::path::PathBuf, Endpoint) {
    let path = directory.path().join("db.sock");
    let endpoint = format!("unix:{}", path.display()).parse().unwrap();
    (path, endpoint)
}

/// Pauses up to so many milliseconds; rests have no end.
fn pausing(first: u64, longest: u64) -> ConnectionOptions {
    ConnectionOptions {
        session: SessionOptions::default(),
        first_pause: Duration::from_millis(first),
        longest_pause: Duration::from_millis(longest),
        longest_rest: AGES,
    }
}

#[tokio::test]
async fn who_is_away_is_dialled_at_the_longest_pause_however_long_that_takes() {
    let directory = tempfile::tempdir().unwrap();
    let (path, endpoint) = socket(&directory);
    let connection: Connection<Names> = Connection::start(endpoint, DB, pausing(1, 20));
    // Pauses that went on doubling would last for ages long before that.
    let mut in_vain = 0;
    until(&connection, |link| {
        in_vain += u32::from(matches!(link, Link::Down { .. }));
        (in_vain == 50).then_some(())
    })
    .await;
    let listener = UnixListener::bind(path).unwrap();
    let dialled = tokio::time::timeout(Duration::from_secs(60), listener.accept());
    dialled.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_hangs_up_again_and_again_is_given_longer_and_longer_rests() {
    let directory = tempfile::tempdir().unwrap();
    let (path, endpoint) = socket(&directory);
    let listener = UnixListener::bind(path).unwrap();
    let _connection: Connection<Names> = Connection::start(endpoint, DB, pausing(10, 10));
    let mut sessions = 0;
    let accepting = async {
        loop {
            drop(listener.accept().await.unwrap());
            sessions += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), accepting).await;
    // Half of 10, 20, 40 … ms at least; at 10 ms each there would be hundreds.
    assert!((2..=10).contains(&sessions), "{sessions}");
}
