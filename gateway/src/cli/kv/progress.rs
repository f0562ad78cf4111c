//! Prints the progress of long work on a terminal and nowhere else; the last line is always printed.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const BETWEEN: Duration = Duration::from_millis(200);

pub(super) struct Progress {
    verb: &'static str,
    keys: u64,
    bytes: u64,
    started: Instant,
    /// Nothing if there is no terminal.
    shown: Option<Instant>,
}

impl Progress {
    pub(super) fn new(verb: &'static str) -> Self {
        let now = Instant::now();
        Self { verb, keys: 0, bytes: 0, started: now, shown: std::io::stderr().is_terminal().then_some(now) }
    }

    pub(super) fn add(&mut self, keys: u64, bytes: u64) {
        self.keys += keys;
        self.bytes += bytes;
        if self.shown.is_some_and(|shown| shown.elapsed() >= BETWEEN) {
            self.shown = Some(Instant::now());
            // A failure to print must not stop the work.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", self.line());
        }
    }

    pub(super) fn done(&self) {
        let back = if self.shown.is_some() { "\r\x1b[K" } else { "" };
        let _ = writeln!(std::io::stderr(), "{back}{}", self.line());
    }

    fn line(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let bytes = if self.bytes > 0 { format!(" ({:.1} MB)", self.bytes as f64 / 1e6) } else { String::new() };
        format!("{} {} keys{bytes} in {seconds:.1} s", self.verb, self.keys)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new("done")
    }
}
