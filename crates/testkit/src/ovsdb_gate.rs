//! Between a client and its ovsdb-server: a connection that stops at the N-th transaction, so that the client can be
//! killed just there; or on which the server seems to say something else.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// A socket beside the server's own. Everything passes, up to a number of requests to transact; after those nothing
/// passes in any direction.
#[derive(Debug)]
pub struct Gate {
    socket: PathBuf,
    carried: Arc<Carried>,
    shut: Receiver<()>,
}

#[derive(Debug)]
struct Carried {
    transactions: AtomicUsize,
    limit: usize,
    /// Held while something is passed on.
    open: Mutex<bool>,
    /// The clients that there were.
    clients: Mutex<Vec<UnixStream>>,
}

impl Gate {
    /// Listens beside the socket `server`, and lets through so many transactions, of all connections together.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(server: &Path, limit: usize) -> Result<Self> {
        let socket = server.with_extension("gate");
        // One of an earlier gate.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let carried = Arc::new(Carried {
            transactions: AtomicUsize::new(0),
            limit,
            open: Mutex::new(true),
            clients: Mutex::default(),
        });
        let (shutting, shut) = channel();
        let (server, passing) = (server.to_owned(), Arc::clone(&carried));
        // The threads end with the connections; the one that accepts them ends with the process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let (server, carried, shut) =
                    (server.clone(), Arc::clone(&passing), shutting.clone());
                thread::spawn(move || carry(&client, &server, &carried, &shut));
            }
        });
        Ok(Self {
            socket,
            carried,
            shut,
        })
    }

    /// The socket in OVS notation.
    #[must_use]
    pub fn target(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Says this to all clients that are connected, wherever in what the server says.
    pub fn say(&self, words: &[u8]) {
        let mut clients = (self.carried.clients.lock()).unwrap_or_else(PoisonError::into_inner);
        // One that hung up does not listen any more.
        clients.retain_mut(|client| client.write_all(words).is_ok());
    }

    /// How many transactions were passed on.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.carried.transactions.load(Ordering::SeqCst)
    }

    /// Waits until the last transaction has been passed on; false if that is not so after this time.
    #[must_use]
    pub fn is_shut_within(&self, limit: Duration) -> bool {
        match self.shut.recv_timeout(limit) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }
}

/// Carries both directions of a connection.
fn carry(client: &UnixStream, server: &Path, carried: &Carried, shut: &Sender<()>) {
    let Ok(server) = UnixStream::connect(server) else {
        return;
    };
    if let Ok(own) = client.try_clone() {
        let mut clients = (carried.clients.lock()).unwrap_or_else(PoisonError::into_inner);
        clients.push(own);
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            // Either end is gone: so is the connection.
            let _ = requests(client, &server, carried, shut);
            let _ = server.shutdown(Shutdown::Both);
        });
        let _ = replies(&server, client, carried);
        let _ = client.shutdown(Shutdown::Both);
    });
}

fn requests(
    mut client: &UnixStream,
    mut server: &UnixStream,
    carried: &Carried,
    shut: &Sender<()>,
) -> std::io::Result<()> {
    let mut messages = Messages::default();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let length = client.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        for message in messages.cut(chunk.get(..length).unwrap_or_default()) {
            let mut open = carried.open.lock().unwrap_or_else(PoisonError::into_inner);
            if !*open {
                continue;
            }
            server.write_all(&message)?;
            let parsed: serde_json::Value = serde_json::from_slice(&message).unwrap_or_default();
            if parsed
                .get("method")
                .is_some_and(|method| method == "transact")
            {
                let passed = carried.transactions.fetch_add(1, Ordering::SeqCst) + 1;
                if passed == carried.limit {
                    *open = false;
                    // Nobody may wait for it.
                    let _ = shut.send(());
                }
            }
        }
    }
}

fn replies(
    mut server: &UnixStream,
    mut client: &UnixStream,
    carried: &Carried,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let length = server.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        let open = *carried.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open {
            client.write_all(chunk.get(..length).unwrap_or_default())?;
        }
    }
}

/// Cuts a stream of JSON objects (RFC 7047 section 4) into its objects.
#[derive(Debug, Default)]
struct Messages {
    begun: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Messages {
    fn cut(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for byte in bytes {
            self.begun.push(*byte);
            match (self.in_string, self.escaped, byte) {
                (true, true, _) => self.escaped = false,
                (true, false, b'\\') => self.escaped = true,
                (_, _, b'"') => self.in_string = !self.in_string,
                (false, _, b'{') => self.depth += 1,
                (false, _, b'}') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        whole.push(std::mem::take(&mut self.begun));
                    }
                }
                _ => {}
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_cut_whatever_their_strings_hold() {
        let first = br#"{"a":{"b":"}\"{"}}"#;
        let second = br#"{"c":1}"#;
        let stream = [&first[..], &second[..]].concat();
        let mut messages = Messages::default();
        let cut: Vec<_> = stream
            .iter()
            .flat_map(|byte| messages.cut(&[*byte]))
            .collect();
        assert_eq!(cut, [first.to_vec(), second.to_vec()]);
    }
}
