//! The tasks of a session.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::dispatch::{ENVELOPE, Shared};
use super::{Disconnected, SessionOptions};
use crate::budget::Held;
use crate::framing::Framer;
use crate::message::{self, Message};

/// Bytes of received messages that may wait for the decoder before the reader stops reading.
const BACKLOG_LIMIT: usize = 64 << 20;

/// Longest message, in bytes, that the reader looks into for an echo; real ones have about 40.
const ECHO_LIMIT: usize = 4 << 10;

/// Shortest message, in bytes, that is decoded on a thread of its own, so that other tasks go on.
const BULKY: usize = 64 << 10;

/// What is read at once, in bytes: little, until there is more to be had. Most callers say little.
const CHUNK: usize = 4 << 10;
const LARGE_CHUNK: usize = 64 << 10;

const PROBE: &[u8] = br#"{"id":"probe","method":"echo","params":[]}"#;

/// Starts the tasks of a session; aborting the handle stops them all.
pub(super) fn spawn<S: AsyncRead + AsyncWrite + Send + 'static>(
    stream: S,
    options: &SessionOptions,
    requests: mpsc::UnboundedReceiver<Vec<u8>>,
    shared: Arc<Shared>,
) -> AbortHandle {
    let (read_half, write_half) = tokio::io::split(stream);
    let (inbox, frames) = mpsc::unbounded_channel();
    let reader = Reader {
        stream: read_half,
        options: options.clone(),
        shared: Arc::clone(&shared),
        inbox,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(reader.run());
    tasks.spawn(write(write_half, requests, Arc::clone(&shared)));
    tasks.spawn(decode(Arc::clone(&shared), frames));
    tokio::spawn(supervise(shared, tasks)).abort_handle()
}

/// What the reader hands to the decoder.
enum Inbound {
    /// A message, its share of the backlog, and what is counted of it.
    Frame(Vec<u8>, OwnedSemaphorePermit, Held),
    /// Nothing more will come.
    End(Disconnected),
}

/// How far a peer that says nothing is doubted.
#[derive(Clone, Copy)]
enum Waiting {
    /// Not at all: it has nothing to say.
    Quiet,
    /// It was asked.
    Probed,
    /// It was asked, and its silence was told.
    Silent,
}

impl Waiting {
    /// The silence after which it is doubted more.
    fn patience(self, options: &SessionOptions) -> Duration {
        match self {
            Self::Quiet => options.probe_interval,
            Self::Probed => options.silence_notice.min(options.probe_timeout),
            Self::Silent => options.probe_timeout,
        }
    }
}

struct Reader<S> {
    stream: S,
    options: SessionOptions,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedSender<Inbound>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Returns no reason: the decoder does, when it has seen all that came before the end.
    async fn run(mut self) -> Option<Disconnected> {
        let reason = self.read().await;
        let _ = self.inbox.send(Inbound::End(reason));
        None
    }

    async fn read(&mut self) -> Disconnected {
        let share = self.shared.share().cloned();
        let (mut unfinished, mut buffer) = (Held::by(share.as_ref()), Held::by(share.as_ref()));
        let mut framer = Framer::new(self.options.message_limit);
        let backlog = Arc::new(Semaphore::new(BACKLOG_LIMIT));
        let mut chunk = vec![0; CHUNK];
        let mut heard = Instant::now();
        let mut waiting = Waiting::Quiet;
        loop {
            let patience = waiting.patience(&self.options);
            let length = match timeout_at(heard + patience, self.stream.read(&mut chunk)).await {
                Err(_) => {
                    waiting = match waiting {
                        Waiting::Quiet => {
                            self.shared.post(PROBE.to_vec());
                            Waiting::Probed
                        }
                        Waiting::Probed => {
                            self.shared.set_silence(true);
                            Waiting::Silent
                        }
                        Waiting::Silent => return Disconnected::Silent(heard.elapsed()),
                    };
                    continue;
                }
                Ok(Ok(0)) => return Disconnected::Closed,
                Ok(Ok(length)) => length,
                Ok(Err(error)) => return Disconnected::Broken(Arc::new(error)),
            };
            let mut rest = chunk.get(..length).unwrap_or_default();
            loop {
                match framer.next_message(&mut rest) {
                    Ok(Some(frame)) => {
                        match self.answered(&frame) {
                            Ok(true) => continue,
                            Ok(false) => {}
                            Err(reason) => return reason,
                        }
                        let bytes = frame.capacity() + ENVELOPE;
                        let mut held = Held::by(share.as_ref());
                        if let Err(reason) = unfinished.set(0).and_then(|()| held.set(bytes)) {
                            return Disconnected::Abandoned(reason);
                        }
                        let part = u32::try_from(bytes.min(BACKLOG_LIMIT)).unwrap_or(u32::MAX);
                        let Ok(permit) = Arc::clone(&backlog).acquire_many_owned(part).await else {
                            return Disconnected::Closed;
                        };
                        let _ = self.inbox.send(Inbound::Frame(frame, permit, held));
                    }
                    Ok(None) => break,
                    Err(error) => return Disconnected::Framing(error),
                }
            }
            if length == chunk.len() && length < LARGE_CHUNK {
                chunk.resize(LARGE_CHUNK, 0);
            }
            let counted = unfinished.set(framer.unfinished());
            if let Err(reason) = counted.and_then(|()| buffer.set(chunk.len())) {
                return Disconnected::Abandoned(reason);
            }
            if let Some(share) = &share {
                share.room().await;
            }
            heard = Instant::now();
            waiting = Waiting::Quiet;
            self.shared.set_silence(false);
        }
    }

    /// Answers the message if it is the peer's echo, ahead of all that waits for the decoder.
    fn answered(&self, frame: &[u8]) -> Result<bool, Disconnected> {
        if frame.len() > ECHO_LIMIT {
            return Ok(false);
        }
        match Message::parse(frame) {
            Ok(Message {
                id: Some(id),
                method: Some(method),
                params,
                ..
            }) if method == "echo" => {
                if let Ok(reply) = message::reply(id, params, None) {
                    self.shared.answer(reply)?;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(
    mut stream: S,
    mut requests: mpsc::UnboundedReceiver<Vec<u8>>,
    shared: Arc<Shared>,
) -> Option<Disconnected> {
    let outcome: io::Result<()> = async {
        while let Some(request) = requests.recv().await {
            stream.write_all(&request).await?;
            shared.posted(request.len());
            while let Ok(request) = requests.try_recv() {
                stream.write_all(&request).await?;
                shared.posted(request.len());
            }
            // A TLS stream keeps what the socket does not take at once.
            stream.flush().await?;
        }
        Ok(())
    }
    .await;
    // Without an error the requests ended because the session did.
    outcome
        .err()
        .map(|error| Disconnected::Broken(Arc::new(error)))
}

async fn decode(
    shared: Arc<Shared>,
    mut frames: mpsc::UnboundedReceiver<Inbound>,
) -> Option<Disconnected> {
    loop {
        match frames.recv().await? {
            Inbound::Frame(frame, permit, held) => {
                let outcome = if frame.len() < BULKY {
                    let outcome = shared.dispatch(frame);
                    drop(held);
                    outcome
                } else {
                    let shared = Arc::clone(&shared);
                    let work = tokio::task::spawn_blocking(move || {
                        let outcome = shared.dispatch(frame);
                        drop(held);
                        outcome
                    });
                    work.await
                        .unwrap_or_else(|error| Err(Disconnected::Malformed(error.to_string())))
                };
                drop(permit);
                if let Err(reason) = outcome {
                    return Some(reason);
                }
            }
            Inbound::End(reason) => return Some(reason),
        }
    }
}

/// Ends the session with the reason of the first task that has one, or with the one why the peer has to go; dropping the set
/// stops the others.
async fn supervise(shared: Arc<Shared>, mut tasks: JoinSet<Option<Disconnected>>) {
    loop {
        let task = tokio::select! {
            // What a task makes of it is no reason.
            biased;
            reason = has_to_go(&shared) => return shared.end(Disconnected::Abandoned(reason)),
            task = tasks.join_next() => task,
        };
        let Some(task) = task else {
            return shared.end(Disconnected::Closed);
        };
        match task {
            Ok(Some(reason)) => return shared.end(reason),
            Ok(None) => {}
            Err(error) => return shared.end(Disconnected::Malformed(error.to_string())),
        }
    }
}

async fn has_to_go(shared: &Shared) -> Arc<str> {
    match shared.share() {
        Some(share) => share.closed().await,
        None => std::future::pending().await,
    }
}
