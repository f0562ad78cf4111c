//! A guest's standard output and error, which go line by line to the tenant's log.
//!
//! Limit: a line has [`LINE_BYTES_MAX`] bytes, and a JSON line [`JSON_BYTES_MAX`], which count as the instance's memory
//! while the guest prints it. A longer line is truncated, and its end says so. An instance may write [`LINES_MAX`] lines,
//! then one that says so. All instances of a tenant together write what its log quota allows; the rest is dropped and
//! counted.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::meter::{Account, Held};
use crate::fault::QuotaKind;
use crate::ids::ComponentName;
use crate::telemetry::{GuestLogs, Line, Record, Stream, cut_at};
use crate::tenant::Ledger;

/// The most lines that one instance may write to one stream.
const LINES_MAX: usize = 1000;
/// The longest line in bytes; the rest of it is dropped.
const LINE_BYTES_MAX: usize = 4096;
/// The longest line that begins as a JSON object, because a part of one is useless.
const JSON_BYTES_MAX: usize = 64 << 10;
/// The most bytes of one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

struct Lines {
    logs: GuestLogs,
    ledger: Arc<Ledger>,
    component: ComponentName,
    record: Arc<Record>,
    stream: Stream,
    partial: Vec<u8>,
    /// Bytes of the current line, including those that are dropped.
    line_bytes: usize,
    /// The part of a long line that counts as the instance's memory.
    held: Held,
    written: usize,
    /// What the guest wrote, until it is charged.
    bytes: Arc<AtomicU64>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.written > LINES_MAX {
            return;
        }
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.begin_line(&bytes[begin..end]);
            self.end_line();
            begin = end + 1;
        }
        self.begin_line(&bytes[begin..]);
    }

    fn begin_line(&mut self, text: &[u8]) {
        self.line_bytes = self.line_bytes.saturating_add(text.len());
        let is_json = self.partial.first().or(text.first()) == Some(&b'{');
        let is_long = self.partial.len() + text.len() > LINE_BYTES_MAX;
        // A growing text reserves twice its size, and the queue has a copy for a moment.
        let bytes_max = if is_json && is_long && self.held.set(2 * JSON_BYTES_MAX as u64) {
            JSON_BYTES_MAX
        } else {
            LINE_BYTES_MAX
        };
        let room = bytes_max.saturating_sub(self.partial.len());
        let fits = text.get(..room).unwrap_or(text);
        self.partial.extend_from_slice(fits);
    }

    fn end_line(&mut self) {
        let (line, bytes) = (std::mem::take(&mut self.partial), std::mem::take(&mut self.line_bytes));
        let text = if bytes > line.len() {
            // The cut may be inside a character.
            cut_at(String::from_utf8_lossy(&line).trim_end_matches('\u{FFFD}'), line.len(), bytes)
        } else {
            String::from_utf8_lossy(&line).into_owned()
        };
        self.line(text);
        let _less = self.held.set(0);
    }

    /// Writes a whole line, even while the guest is in the middle of one.
    fn line(&mut self, text: String) {
        self.written = self.written.saturating_add(1);
        match self.written.cmp(&LINES_MAX) {
            std::cmp::Ordering::Less => self.write(text),
            std::cmp::Ordering::Equal => {
                self.write(format!("(a request may write {LINES_MAX} lines; further lines are dropped)"));
            }
            std::cmp::Ordering::Greater => {}
        }
    }

    fn write(&self, text: String) {
        self.record.logged();
        if !self.ledger.log(text.len() as u64) {
            self.record.quota_refused(QuotaKind::LogBytes);
            return;
        }
        self.logs.write(Line {
            at: SystemTime::now(),
            tenant: self.ledger.id.clone(),
            component: self.component.clone(),
            request: self.record.id,
            stream: self.stream,
            text,
        });
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.end_line();
        }
    }
}

/// One of the two streams of one instance. Clones write to the same lines.
#[derive(Clone)]
pub(super) struct LogStream(Arc<Mutex<Lines>>);

impl LogStream {
    pub(super) fn new(
        logs: GuestLogs,
        ledger: Arc<Ledger>,
        component: ComponentName,
        record: Arc<Record>,
        (stream, bytes): (Stream, Arc<AtomicU64>),
        account: &Arc<Account>,
    ) -> Self {
        let (partial, held) = (Vec::new(), Held::nothing(account));
        let lines = Lines { logs, ledger, component, record, stream, partial, line_bytes: 0, held, written: 0, bytes };
        Self(Arc::new(Mutex::new(lines)))
    }

    /// Assigns further output to this request, and ends a line that was begun for another one.
    pub(super) fn belong_to(&self, record: &Arc<Record>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.partial.is_empty() {
            lines.end_line();
        }
        lines.written = 0;
        lines.record = Arc::clone(record);
    }

    /// Writes a line that the guest did not print.
    pub(super) fn line(&self, text: &str) {
        let text = cut_at(text, LINE_BYTES_MAX, text.len());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).line(text);
    }

    fn take(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
