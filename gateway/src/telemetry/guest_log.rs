//! What guests write to standard output and standard error: one file for each tenant, one JSON object a line.
//!
//! Limit: at most [`QUEUE`] lines with [`WAITING_BYTES_MAX`] bytes wait for the one writer; further lines are dropped and
//! counted. `tenant_files` bounds the files.
//!
//! Security: the file's name is the tenant's id, whose alphabet has no `/` and no dot. Control bytes are escaped.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::escape::shown;
use super::tenant_files::TenantFiles;
use super::{Metrics, unix_ms};
use crate::ids::{ComponentName, RequestId, TenantId};

const QUEUE: usize = 8192;
/// 8,192 lines of 4 KiB each.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Pause between two looks at the queue.
const REST: Duration = Duration::from_millis(5);

/// The stream to which a guest wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// One line of a guest.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) at: SystemTime,
    pub(crate) tenant: TenantId,
    pub(crate) component: ComponentName,
    pub(crate) request: RequestId,
    pub(crate) stream: Stream,
    pub(crate) text: String,
}

/// The queue to the writer.
#[derive(Clone, Debug)]
pub(crate) struct GuestLogs {
    /// An empty message tells the writer to look up.
    queue: mpsc::Sender<Option<Line>>,
    /// Bytes of all texts in the queue.
    waiting: Arc<AtomicUsize>,
    /// Whether the writer has to reopen the files.
    reopens: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// Truncates a text to this many bytes. If the original had more than that, the end says so; `bytes` is its length.
pub(crate) fn cut_at(text: &str, bytes_max: usize, bytes: usize) -> String {
    if bytes <= bytes_max {
        return text.to_owned();
    }
    let begin = text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default();
    format!("{begin} … (truncated: the line has {bytes} bytes)")
}

impl GuestLogs {
    /// Starts the writer, which ends when the last handle is dropped.
    ///
    /// # Errors
    /// The folder cannot be created, or the thread cannot start.
    pub(crate) fn open(dir: &Path, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (queue, lines) = mpsc::channel(QUEUE);
        let (dir, waiting, reopens) = (dir.to_owned(), Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let there = (Arc::clone(&waiting), Arc::clone(&reopens));
        std::thread::Builder::new().name("guest-logs".to_owned()).spawn(move || {
            // Serving has priority. Lines that do not fit into the queue meanwhile are dropped and counted.
            let _nicer = rustix::process::nice(10);
            write_lines(&dir, lines, (&there.0, &there.1));
        })?;
        Ok(Self { queue, waiting, reopens, metrics })
    }

    /// Never blocks: if the queue is full, the line is lost and the request continues.
    pub(crate) fn write(&self, line: Line) {
        let bytes = line.text.len();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > WAITING_BYTES_MAX || self.queue.try_send(Some(line)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.log_lines_dropped(1);
        }
    }

    /// Reopens all files, because another program may have replaced them.
    pub(crate) fn reopen(&self) {
        self.reopens.store(true, Ordering::Relaxed);
        // If the queue is full, the writer is awake anyway.
        let _awake = self.queue.try_send(None);
    }
}

fn write_lines(dir: &Path, mut lines: mpsc::Receiver<Option<Line>>, (waiting, reopens): (&AtomicUsize, &AtomicBool)) {
    let mut files = TenantFiles::new(dir.to_owned());
    while let Some(line) = lines.blocking_recv() {
        if reopens.swap(false, Ordering::Relaxed) {
            files.reopen();
        }
        let mut next = Some(line);
        while let Some(line) = next {
            if let Some(line) = line {
                waiting.fetch_sub(line.text.len(), Ordering::Relaxed);
                files.write(&line.tenant, &format(&line));
            }
            next = lines.try_recv().ok();
        }
        files.flush();
        // So a line does not have to wake this thread. The queue has room for what arrives meanwhile.
        std::thread::sleep(REST);
    }
}

/// JSON's own escapes, and those of [`shown`], keep a guest's control characters away from the operator's terminal.
fn format(line: &Line) -> String {
    let value = serde_json::json!({
        "unix_ms": unix_ms(line.at),
        "component": line.component.as_str(),
        "request_id": line.request.to_string(),
        "stream": match line.stream { Stream::Stdout => "stdout", Stream::Stderr => "stderr" },
        "text": line.text,
    });
    let line = format!("{value}\n");
    match shown(line.as_bytes()) {
        Cow::Borrowed(_) => line,
        Cow::Owned(shown) => String::from_utf8(shown).unwrap_or(line),
    }
}
