//! What guests write to their standard output and error: one file a tenant, one JSON object a line.
//!
//! Limit: [`QUEUE`] lines wait for the one writer, further ones are dropped and counted; a file is set aside as `.1` at [`FILE_BYTES_MAX`], and that one replaces the one before;
//! [`FILES_MAX`] files are open at once.
//!
//! Security: the file's name is a tenant's identity, whose alphabet has no `/` and no dot; control bytes are escaped.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::Metrics;
use crate::ids::{ComponentName, RequestId, TenantId};

const QUEUE: usize = 8192;
/// Between two looks at the queue.
const REST: Duration = Duration::from_millis(5);
const FILE_BYTES_MAX: u64 = 10 << 20;
const FILES_MAX: usize = 64;

/// Which of its two streams a guest wrote to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// One line of one guest.
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
    queue: mpsc::Sender<Line>,
    metrics: Arc<Metrics>,
}

impl GuestLogs {
    /// Starts the writer, which ends when the last handle is dropped.
    ///
    /// # Errors
    /// The folder cannot be made, or no thread can be had.
    pub(crate) fn open(dir: &Path, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (queue, lines) = mpsc::channel(QUEUE);
        let dir = dir.to_owned();
        std::thread::Builder::new().name("guest-logs".to_owned()).spawn(move || {
            // Whoever serves goes first; what does not fit the queue meanwhile is dropped and counted.
            let _nicer = rustix::process::nice(10);
            write_lines(&dir, lines);
        })?;
        Ok(Self { queue, metrics })
    }

    /// Never waits: a full queue costs the line and not the request.
    pub(crate) fn write(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.metrics.log_lines_dropped(1);
        }
    }
}

struct Open {
    file: BufWriter<File>,
    bytes: u64,
}

fn write_lines(dir: &Path, mut lines: mpsc::Receiver<Line>) {
    let mut files: HashMap<TenantId, Open> = HashMap::new();
    while let Some(line) = lines.blocking_recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            if let Err(error) = write_line(dir, &mut files, &line) {
                tracing::warn!(target: "telemetry", tenant = %line.tenant, %error, "a tenant's log cannot be written");
            }
            next = lines.try_recv().ok();
        }
        for open in files.values_mut() {
            // The next line of this tenant reports what is wrong with its file.
            let _later = open.file.flush();
        }
        // A line costs whoever serves no wake-up of this thread; the queue has room for what comes meanwhile.
        std::thread::sleep(REST);
    }
}

fn write_line(dir: &Path, files: &mut HashMap<TenantId, Open>, line: &Line) -> std::io::Result<()> {
    if !files.contains_key(&line.tenant) && files.len() >= FILES_MAX {
        files.clear();
    }
    let path = dir.join(format!("{}.log", line.tenant));
    let open = match files.entry(line.tenant.clone()) {
        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::hash_map::Entry::Vacant(entry) => entry.insert(open(&path)?),
    };
    if open.bytes > FILE_BYTES_MAX {
        open.file.flush()?;
        std::fs::rename(&path, rotated(&path))?;
        *open = self::open(&path)?;
    }
    let text = format(line);
    open.bytes += text.len() as u64;
    open.file.write_all(text.as_bytes())
}

fn open(path: &Path) -> std::io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file: BufWriter::new(file), bytes })
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// JSON's own escapes keep a guest's control bytes from the operator's terminal.
fn format(line: &Line) -> String {
    let since = line.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let value = serde_json::json!({
        "unix_ms": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        "component": line.component.as_str(),
        "request_id": line.request.to_string(),
        "stream": match line.stream { Stream::Stdout => "stdout", Stream::Stderr => "stderr" },
        "text": line.text,
    });
    format!("{value}\n")
}
