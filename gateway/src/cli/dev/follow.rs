//! Shows what components print, as it appears in the tenant's log.
//!
//! Limit: the log has its own limits; it is read every [`REST`], [`PIECE`] bytes at a time.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

const REST: Duration = Duration::from_millis(50);
const PIECE: u64 = 1 << 20;

/// Which components' lines are shown.
pub(super) enum Whose {
    All,
    Of(Vec<String>),
}

/// The position in the log.
struct Tail {
    path: PathBuf,
    /// The file's identity, and how far it was read.
    at: Option<(u64, u64)>,
    rest: Vec<u8>,
}

/// Starts to show new lines, for as long as the process lives.
///
/// # Errors
/// The thread cannot start.
pub(super) fn start(log: PathBuf, whose: Whose) -> std::io::Result<()> {
    let at = std::fs::metadata(&log).ok().map(|file| (file.ino(), file.len()));
    let mut tail = Tail { path: log, at, rest: Vec::new() };
    std::thread::Builder::new().name("follow".to_owned()).spawn(move || {
        loop {
            for line in tail.lines() {
                show(&line, &whose);
            }
            std::thread::sleep(REST);
        }
    })?;
    Ok(())
}

impl Tail {
    /// Whole lines since the last call.
    fn lines(&mut self) -> Vec<String> {
        let mut read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let number = file.metadata()?.ino();
            // The log is rotated when it is large; a new file is read from its start.
            let from = self.at.filter(|(known, _)| *known == number).map_or(0, |(_, from)| from);
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(PIECE).read_to_end(&mut bytes)?;
            self.at = Some((number, from + bytes.len() as u64));
            Ok(bytes)
        };
        // Before the first line there is no log.
        let Ok(bytes) = read() else { return Vec::new() };
        self.rest.extend(bytes);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

/// Shows one line of a component: its name, and what it wrote, on the stream to which it wrote.
fn show(line: &str, whose: &Whose) {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return };
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let component = text("component");
    if matches!(whose, Whose::Of(names) if names.iter().all(|name| name != component)) {
        return;
    }
    let clean: String = text("text").chars().map(|c| if c.is_control() && c != '\t' { '�' } else { c }).collect();
    let shown = format!("[{component}] {clean}\n");
    let _closed = if text("stream") == "stderr" {
        std::io::stderr().lock().write_all(shown.as_bytes())
    } else {
        std::io::stdout().lock().write_all(shown.as_bytes())
    };
}
