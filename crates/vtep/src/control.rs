//! What an operator tells the running daemon: a socket in its state directory, a line each way.
//!
//! A request is a verb and its object, `release NETWORK`; the answer is `ok` or why not. Who may write to the socket is
//! who may write to the directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::loops::{Cuts, release_on_disk};
use crate::options::ReleaseOptions;
use crate::state_dir::{self, Lock};

/// A daemon answers at once; it does not wait for the kernel.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The longest request: a name of a logical switch is any text.
const LONGEST: u64 = 16 * 1024;

const OK: &str = "ok";

fn socket(directory: &Path) -> PathBuf {
    directory.join("op.sock")
}

/// The daemon's end. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Control {
    _task: JoinSet<()>,
}

impl Control {
    /// Listens in a state directory whose lock we hold: what is there of a socket was left by somebody who is gone.
    pub(crate) fn listen(directory: &Path, cuts: Arc<Cuts>) -> Result<Self, Error> {
        let path = socket(directory);
        let failed = |source| Error::StateDir {
            path: path.clone(),
            source,
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut talks = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            let cuts = Arc::clone(&cuts);
                            talks.spawn(tokio::time::timeout(ANSWER_WITHIN, talk(stream, cuts)));
                        }
                        // Out of descriptors, for a while.
                        Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                    },
                    Some(_) = talks.join_next() => {}
                }
            }
        });
        Ok(Self { _task: task })
    }
}

async fn talk(stream: UnixStream, cuts: Arc<Cuts>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST))
        .read_line(&mut line)
        .await?;
    let answer = answer(line.trim_end_matches('\n'), &cuts);
    write.write_all(format!("{answer}\n").as_bytes()).await
}

fn answer(request: &str, cuts: &Cuts) -> String {
    match request.split_once(' ') {
        Some(("release", network)) if cuts.release(network) => OK.to_owned(),
        Some(("release", network)) => Error::NotCut(network.to_owned()).to_string(),
        _ => format!("{request}: not understood"),
    }
}

/// Joins a network to the WAN again: tells the daemon, or where none is running takes it off the list.
///
/// # Errors
/// It is not cut, or the daemon does not answer.
pub(crate) async fn release(options: &ReleaseOptions) -> Result<String, Error> {
    let directory = state_dir::absolute(&options.state_dir)?;
    let network = &options.network;
    let failed = |source| Error::StateDir {
        path: directory.clone(),
        source,
    };
    let began = Instant::now();
    let said = loop {
        if let Ok(_lock) = Lock::take(&directory) {
            if !release_on_disk(&directory, network).map_err(failed)? {
                return Err(Error::NotCut(network.clone()));
            }
            return Ok(format!(
                "network {network} is joined again when the switch is started\n"
            ));
        }
        let asked = tokio::time::timeout(ANSWER_WITHIN, ask(&directory, network)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(said) => break said,
            // It is just starting, or ending.
            Err(_) if began.elapsed() < ANSWER_WITHIN => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(source) => {
                let path = socket(&directory);
                return Err(Error::NoAnswer { path, source });
            }
        }
    };
    match said.trim_end() {
        OK => Ok(format!("network {network} is joined again\n")),
        why => Err(Error::Refused(why.to_owned())),
    }
}

async fn ask(directory: &Path, network: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket(directory)).await?;
    stream
        .write_all(format!("release {network}\n").as_bytes())
        .await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}
