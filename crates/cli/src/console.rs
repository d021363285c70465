//! Where a command reads and writes.

use std::io::{BufRead, Write};

/// The streams of one command. The binary puts its own there, tests put buffers.
pub struct Console<'a> {
    /// For results.
    pub out: &'a mut dyn Write,
    /// For messages.
    pub err: &'a mut dyn Write,
    /// For `--file -`.
    pub input: &'a mut dyn BufRead,
    /// Columns of the terminal that results go to, if they go to one.
    pub width: Option<u16>,
    /// Whether a person watches the messages: progress is drawn for them alone.
    pub watched: bool,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("width", &self.width)
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}
