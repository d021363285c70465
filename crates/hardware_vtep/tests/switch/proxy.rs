//! Between a session and its server: a connection that misbehaves on demand.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ovsdb::framing::Framer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How the connection misbehaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is cut after so many messages, counting both directions.
    CutAfter(usize),
    /// Every message takes this long.
    Delay(Duration),
    /// Every byte arrives alone.
    EveryByteAlone,
    /// Every reply comes twice.
    RepliesTwice,
    /// Each reply is overtaken by the next one that comes within a moment, but not by updates: those tell what happened in
    /// its order.
    RepliesOvertaken,
}

/// How long a reply waits to be overtaken.
const MOMENT: Duration = Duration::from_millis(5);

/// A connection through which one session reaches a server.
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    messages: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Course {
    fault: Fault,
    messages: Arc<AtomicUsize>,
    cut: Arc<Notify>,
}

impl Proxy {
    /// Listens beside the server's own socket.
    pub(crate) fn start(server: PathBuf, fault: Fault) -> Self {
        let socket = server.with_extension("proxy");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let messages = Arc::new(AtomicUsize::new(0));
        let course = Course {
            fault,
            messages: Arc::clone(&messages),
            cut: Arc::new(Notify::new()),
        };
        let task = tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = UnixStream::connect(server).await.unwrap();
            let (client_reads, client_writes) = client.into_split();
            let (server_reads, server_writes) = server.into_split();
            tokio::select! {
                () = course.clone().carry(client_reads, server_writes, false) => {}
                () = course.clone().carry(server_reads, client_writes, true) => {}
                () = course.cut.notified() => {}
            }
        });
        Self {
            socket,
            messages,
            task,
        }
    }

    /// How many messages were carried.
    pub(crate) fn messages(&self) -> usize {
        self.messages.load(Ordering::SeqCst)
    }
}

impl Course {
    async fn carry(
        self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        replies: bool,
    ) {
        let mut framer = Framer::default();
        let mut chunk = vec![0; 64 << 10];
        let mut late = None;
        loop {
            let length = match tokio::time::timeout(MOMENT, from.read(&mut chunk)).await {
                Ok(Ok(length @ 1..)) => length,
                Ok(_) => return,
                Err(_) => {
                    let late: Option<Vec<u8>> = late.take();
                    if to.write_all(&late.unwrap_or_default()).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let mut rest = &chunk[..length];
            while let Some(message) = framer.next_message(&mut rest).unwrap() {
                let passed = match self.fault {
                    Fault::RepliesOvertaken if replies && is_reply(&message) => match late.take() {
                        None => {
                            late = Some(message.to_vec());
                            Ok(())
                        }
                        Some(late) => to.write_all(&[&message, &late[..]].concat()).await,
                    },
                    _ => self.pass(&mut to, &message, replies).await,
                };
                if passed.is_err() {
                    return;
                }
                let carried = self.messages.fetch_add(1, Ordering::SeqCst) + 1;
                if matches!(self.fault, Fault::CutAfter(limit) if carried >= limit) {
                    self.cut.notify_one();
                    // Nothing passes any more.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    async fn pass(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        message: &[u8],
        replies: bool,
    ) -> std::io::Result<()> {
        match self.fault {
            Fault::CutAfter(_) | Fault::RepliesOvertaken => to.write_all(message).await,
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                to.write_all(message).await
            }
            Fault::EveryByteAlone => {
                for byte in message {
                    to.write_all(&[*byte]).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            Fault::RepliesTwice => {
                to.write_all(message).await?;
                if replies && is_reply(message) {
                    to.write_all(message).await?;
                }
                Ok(())
            }
        }
    }
}

fn is_reply(message: &[u8]) -> bool {
    let parsed: serde_json::Value = serde_json::from_slice(message).unwrap();
    parsed.get("method").is_none()
}
