//! The thread that writes the audit log: records that wait are written together and synced once.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Entry, Record, Shared};

/// When a log that cannot be written is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// As many bytes are written at once, or a little more.
const CHUNK: usize = 1 << 20;
/// As many records are synced together at most.
const GROUP: usize = 256;

/// Opens the file for appending, readable by its owner alone if it is made. A line that a crash cut short is ended, so
/// that the next one is whole.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.open(path)?;
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [b'\n'];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// Starts the thread. It ends when nobody can ask it any more.
pub(super) fn start(
    file: File,
    shared: Arc<Shared>,
    entries: mpsc::Receiver<Entry>,
) -> io::Result<()> {
    let mut log = Log {
        file,
        shared,
        buffer: Vec::new(),
        written: 0,
    };
    let thread = thread::Builder::new().name("audit".to_owned());
    thread.spawn(move || log.run(entries))?;
    Ok(())
}

struct Log {
    file: File,
    shared: Arc<Shared>,
    /// Lines that are not written yet.
    buffer: Vec<u8>,
    /// How much of them is.
    written: usize,
}

impl Log {
    fn run(&mut self, mut entries: mpsc::Receiver<Entry>) {
        while let Some(first) = entries.blocking_recv() {
            let mut waiting = Vec::new();
            let mut next = Some(first);
            let mut count = 0;
            while let Some(entry) = next {
                count += 1;
                self.take(entry, &mut waiting);
                next = match count < GROUP {
                    true => entries.try_recv().ok(),
                    false => None,
                };
            }
            self.flush();
            if !waiting.is_empty() {
                self.until_it_works(|log| log.sync());
            }
            for durable in waiting {
                // A client that did not wait so long does not want to know.
                let _ = durable.send(());
            }
        }
    }

    fn take(&mut self, entry: Entry, waiting: &mut Vec<oneshot::Sender<()>>) {
        match entry {
            Entry::Write(record, durable) => {
                self.append(&record);
                waiting.extend(durable);
            }
            Entry::Wake => self.change_over(),
        }
    }

    fn append(&mut self, record: &Record) {
        record.lines(|line| {
            self.buffer.extend_from_slice(line);
            self.buffer.push(b'\n');
            self.shared.written.fetch_add(1, Ordering::Relaxed);
            if self.buffer.len() >= CHUNK {
                self.flush();
            }
        });
    }

    /// Writes what is in the buffer.
    fn flush(&mut self) {
        self.until_it_works(|log| {
            log.change_over();
            while let Some(rest @ [_, ..]) = log.buffer.get(log.written..) {
                match log.file.write(rest) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(count) => log.written += count,
                    Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                    Err(cause) => return Err(cause),
                }
            }
            Ok(())
        });
        self.buffer.clear();
        self.written = 0;
    }

    /// What is no file, such as a terminal or a pipe, has no disk to be on.
    fn sync(&mut self) -> io::Result<()> {
        match self.file.metadata()?.is_file() {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }

    /// Goes on with the next file, if there is one. A line that is only begun is written there anew.
    fn change_over(&mut self) {
        let Some(next) = self.shared.next().take() else {
            return;
        };
        // What the old file has of its last records may be all there is of them.
        if let Err(cause) = self.sync() {
            tracing::error!(%cause, "the audit log that was closed may lack its last records");
        }
        self.file = next;
        let done = self.buffer.get(..self.written).unwrap_or_default();
        self.written = done
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
    }

    /// Tries until it works, or until nobody waits any more.
    fn until_it_works(&mut self, mut attempt: impl FnMut(&mut Self) -> io::Result<()>) {
        while let Err(cause) = attempt(self) {
            if !self.shared.failing.swap(true, Ordering::Relaxed) {
                tracing::error!(%cause, "the audit log cannot be written; no change is accepted until it can");
            }
            if self.shared.ending.load(Ordering::Relaxed) {
                let lost = self.buffer.get(self.written..).unwrap_or_default();
                for line in String::from_utf8_lossy(lost).lines() {
                    tracing::error!(line, "not in the audit log");
                }
                return;
            }
            thread::sleep(AGAIN);
        }
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            tracing::warn!("the audit log is written again");
        }
    }
}
