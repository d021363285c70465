//! A request's body that tells whether it was read to its end. A connection on which it was not is good for no further
//! request, and the client is told so: otherwise it would send one into a connection that is about to be closed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};

/// Whether a body, or what is left of it, is still to be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    pub(super) fn is_left(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

pub(super) struct Watched {
    body: Incoming,
    unread: Unread,
}

impl Watched {
    pub(super) fn new(body: Incoming, unread: Unread) -> Self {
        unread.0.store(!body.is_end_stream(), Ordering::Release);
        Self { body, unread }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None) = frame {
            self.unread.0.store(false, Ordering::Release);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
