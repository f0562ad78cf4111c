//! Log lines on their way to standard error, or to the destination of the access log.
//!
//! A caller puts its line into a buffer and continues. One thread writes everything in the buffer at once, and sleeps for
//! [`REST`]. So a request does not have to wake the thread. With a queue of lines it would, several times. (Measured: the
//! thread of `tracing-appender` yields before it sleeps, and was waiting for the processor most of the time.)
//!
//! Limit: [`WAITING_MAX`] bytes wait. If a reader stops reading, lines are lost, counted and reported; requests continue.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::escape::shown;

const WAITING_MAX: usize = 8 << 20;
/// The longest delay of a line that waits for others.
const REST: Duration = Duration::from_millis(5);

/// Problems that are reported to the reader of the lines.
pub(super) enum Trouble<'t> {
    /// This many lines did not fit into the buffer.
    Dropped(u64, &'t mut dyn Write),
    /// Writing failed, for the first time after it worked.
    Failed(&'t std::io::Error),
}

/// For standard error: tells the reader how many lines are missing. If standard error is closed, there is no reader to
/// tell.
pub(super) fn to_the_reader(trouble: Trouble<'_>) {
    if let Trouble::Dropped(dropped, to) = trouble {
        let _closed = writeln!(
            to,
            r#"{{"level":"WARN","target":"telemetry","message":"{dropped} log lines were dropped: the reader of standard error is too slow"}}"#
        );
    }
}

/// The final destination of lines.
pub(super) trait Sink: Write {
    /// Reopens the files, if there are any: another program may have replaced them.
    ///
    /// # Errors
    /// A file cannot be opened. The old one stays open.
    fn reopen(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink for std::io::Stderr {}
impl Sink for std::io::Stdout {}

/// The buffer for lines.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// On drop, writes the last lines and waits for that.
pub(crate) struct LinesToTheEnd {
    lines: Lines,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
    is_asleep: bool,
    reopens: bool,
    is_over: bool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Starts the writer.
    ///
    /// # Errors
    /// The thread cannot start.
    pub(super) fn start(
        to: impl Sink + Send + 'static,
        trouble: impl FnMut(Trouble<'_>) + Send + 'static,
    ) -> std::io::Result<(Self, LinesToTheEnd)> {
        let lines = Self(Arc::default());
        let shared = Arc::clone(&lines.0);
        let writer = std::thread::Builder::new()
            .name("log-lines".to_owned())
            .spawn(move || write_lines(&shared, to, trouble))?;
        Ok((lines.clone(), LinesToTheEnd { lines, writer: Some(writer) }))
    }

    /// Reopens the files, even if no line arrives.
    pub(super) fn reopen(&self) {
        self.0.waiting().reopens = true;
        self.0.came.notify_one();
    }
}

/// Each call is one line, as `tracing_subscriber` calls it.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let shown = shown(line);
        let mut waiting = self.0.waiting();
        if waiting.bytes.len() + shown.len() > WAITING_MAX {
            waiting.dropped += 1;
        } else {
            waiting.bytes.extend_from_slice(&shown);
        }
        if std::mem::take(&mut waiting.is_asleep) {
            drop(waiting);
            self.0.came.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LinesToTheEnd {
    fn drop(&mut self) {
        self.lines.0.waiting().is_over = true;
        self.lines.0.came.notify_one();
        // The thread ends after one more write. If it panicked, there is nobody to tell.
        let _ended = self.writer.take().map(JoinHandle::join);
    }
}

fn write_lines(shared: &Shared, mut to: impl Sink, mut trouble: impl FnMut(Trouble<'_>)) {
    let (mut taken, mut has_failed) = (Vec::new(), false);
    loop {
        let mut waiting = shared.waiting();
        while waiting.bytes.is_empty() && !waiting.is_over && !waiting.reopens {
            waiting.is_asleep = true;
            waiting = shared.came.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        taken.clear();
        std::mem::swap(&mut taken, &mut waiting.bytes);
        let (dropped, is_over) = (std::mem::take(&mut waiting.dropped), waiting.is_over);
        let reopens = std::mem::take(&mut waiting.reopens);
        drop(waiting);
        // Lines from before the request to reopen also go into the new files.
        let opened = if reopens { to.reopen() } else { Ok(()) };
        let written = opened.and(if taken.is_empty() { Ok(()) } else { to.write_all(&taken) });
        if let (Err(error), false) = (&written, has_failed) {
            trouble(Trouble::Failed(error));
        }
        has_failed = written.is_err();
        if dropped > 0 {
            trouble(Trouble::Dropped(dropped, &mut to));
        }
        if is_over {
            return;
        }
        std::thread::sleep(REST);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Passes on what it receives, and waits for permission to continue.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Sink for Slow {}

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_gone| std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_whole_and_in_order_up_to_the_last() -> std::io::Result<()> {
        let (sender, written) = mpsc::sync_channel(1024);
        let (mut lines, to_the_end) = Lines::start(Slow(sender), to_the_reader)?;
        for number in 0..1000 {
            lines.write_all(format!("line {number}\n").as_bytes())?;
        }
        drop(to_the_end);
        let text = String::from_utf8_lossy(&written.into_iter().flatten().collect::<Vec<u8>>()).into_owned();
        assert_eq!(text, (0..1000).map(|number| format!("line {number}\n")).collect::<String>());
        Ok(())
    }

    #[test]
    fn a_reader_that_stops_loses_lines_and_is_told_how_many() -> std::io::Result<()> {
        let (sender, written) = mpsc::sync_channel(0);
        let (mut lines, to_the_end) = Lines::start(Slow(sender), to_the_reader)?;
        let line = vec![b'x'; 1 << 20];
        lines.write_all(b"first")?;
        // The writer's first write takes as much as may wait, and blocks; then the same amount waits.
        for _ in 0..20 {
            lines.write_all(&line)?;
        }
        let reader = std::thread::spawn(move || written.into_iter().flatten().collect::<Vec<u8>>());
        drop(to_the_end);
        let Ok(read) = reader.join() else { return Err(std::io::ErrorKind::Other.into()) };
        assert!(read.len() <= 2 * WAITING_MAX + 200, "{} bytes came out", read.len());
        let text = String::from_utf8_lossy(&read);
        assert!(
            text.ends_with("log lines were dropped: the reader of standard error is too slow\"}\n"),
            "nobody was told"
        );
        Ok(())
    }
}
