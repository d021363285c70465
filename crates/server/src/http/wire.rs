//! A connection as hyper uses it. It cuts off clients that take nothing, and keeps back the bare answer that hyper gives
//! to what it cannot read: a status line and no body, under no request id. Nothing in hyper lets one say it otherwise.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::api::REQUEST_ID;

/// How much, and for how long, is still read of a client that was refused: one that is cut off while it sends often never
/// reads why.
const LINGER: (usize, Duration) = (1 << 20, Duration::from_secs(1));

pub(super) struct Wire<IO> {
    io: IO,
    /// Longest time in which the client takes nothing.
    stalled: Duration,
    /// When that is over, while there is something that it does not take.
    patience: Option<Pin<Box<Sleep>>>,
    /// The status of the answer that was kept back.
    kept_back: Option<u16>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    pub(super) fn new(io: IO, stalled: Duration) -> Self {
        Self {
            io,
            stalled,
            patience: None,
            kept_back: None,
        }
    }

    /// The status with which hyper refused what it could not read.
    pub(super) fn kept_back(&self) -> Option<u16> {
        self.kept_back
    }

    /// Says that there is no more to come.
    pub(super) async fn shut_down(&mut self) {
        // The client may be gone: then there is nothing to say.
        let _ = self.shutdown().await;
    }

    /// The same, and reads for a while what the client still sends.
    pub(super) async fn linger(&mut self) {
        self.shut_down().await;
        let (mut left, within) = LINGER;
        let mut buffer = [0; 4096];
        let drained = async {
            while let Ok(read @ 1..) = self.read(&mut buffer).await {
                left = match left.checked_sub(read) {
                    Some(left) => left,
                    None => return,
                };
            }
        };
        // Long enough for one who means well.
        let _ = tokio::time::timeout(within, drained).await;
    }

    /// What came of a write, unless the client has taken nothing for too long.
    fn patiently<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let deadline = Instant::now() + self.stalled;
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether these bytes are hyper's own answer, which then goes nowhere.
    fn keep_back(&mut self, bytes: &[u8]) -> bool {
        let status = bare_refusal(bytes);
        self.kept_back = self.kept_back.or(status);
        status.is_some()
    }
}

/// The status of a head that says 4xx without a request id. The API's own answers have one, and what stands in their
/// bodies never begins a write with a status line: they are JSON.
fn bare_refusal(head: &[u8]) -> Option<u16> {
    let status = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    if !status.starts_with(b"4") || !head.ends_with(b"\r\n\r\n") {
        return None;
    }
    let contains = |line: &[u8]| head.windows(line.len()).any(|found| found == line);
    if contains(REQUEST_ID.as_str().as_bytes()) || !contains(b"content-length: 0\r\n") {
        return None;
    }
    std::str::from_utf8(status).ok()?.parse().ok()
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.keep_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.patiently(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [head] = slices
            && self.keep_back(head)
        {
            return Poll::Ready(Ok(head.len()));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.patiently(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.patiently(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.io).poll_shutdown(cx);
        self.patiently(cx, shut_down)
    }
}

#[cfg(test)]
mod tests {
    use super::bare_refusal;

    #[test]
    fn only_a_bare_refusal_is_kept_back() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(bare_refusal(bare), Some(431));
        for other in [
            &b"HTTP/1.1 404 Not Found\r\nx-openstack-request-id: req-1\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\n\r\n{\"a\":\"b\\r\\n\"}",
            b"{\"name\":\"HTTP/1.1 400 \"}",
            b"",
        ] {
            assert_eq!(bare_refusal(other), None, "{}", String::from_utf8_lossy(other));
        }
    }
}
