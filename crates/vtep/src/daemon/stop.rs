//! The end of the switch, asked for by a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::Error;

/// Raised once, by a signal.
pub(super) struct Stop {
    /// For threads that block.
    pub(super) flag: Arc<AtomicBool>,
    /// For those that wait.
    pub(super) raised: watch::Receiver<bool>,
}

impl Stop {
    /// Raises `halt` too, which ends what is under way.
    pub(super) fn on_signals(halt: Arc<AtomicBool>) -> Result<Self, Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        let flag = Arc::new(AtomicBool::new(false));
        let (raise, raised) = watch::channel(false);
        let raised_flag = Arc::clone(&flag);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            raised_flag.store(true, Ordering::SeqCst);
            halt.store(true, Ordering::SeqCst);
            raise.send_replace(true);
        });
        Ok(Self { flag, raised })
    }
}
