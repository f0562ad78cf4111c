//! Large instances and components nobody asks for are cleared away elsewhere than in a turn.

use std::sync::mpsc;

/// Clears away what is large, on a thread to which the kernel prefers all others: giving back the pages of 64 MiB takes
/// milliseconds, which would be somebody's turn. What it has not got to yet holds its permits and its memory.
#[derive(Clone)]
pub(super) struct Reaper(mpsc::SyncSender<Box<dyn Send>>);

/// What may wait to be cleared away; the next one clears itself away.
const REAPED_MAX: usize = 1024;
const REAPER_NICENESS: i32 = 10;

impl Reaper {
    pub(super) fn start() -> std::io::Result<Self> {
        let (reaper, waiting) = mpsc::sync_channel(REAPED_MAX);
        std::thread::Builder::new().name("guests-reaper".to_owned()).spawn(move || {
            let _nicer = rustix::process::nice(REAPER_NICENESS);
            waiting.into_iter().for_each(drop);
        })?;
        Ok(Self(reaper))
    }

    pub(super) fn clear_away(&self, what: Box<dyn Send>) {
        // What does not fit comes back with the error, and is dropped here.
        let _here = self.0.try_send(what);
    }
}
