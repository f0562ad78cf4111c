//! The compiling child as its parent sees it: how it is started, what is read of it, and when it is ended.
//!
//! Its limit is its own processor time, so a machine that is busy refuses nobody. Of the clock there are two bounds, and neither
//! says anything about a component: a child that used no processor for [`IDLE_MAX`] is ended, and one that got very little is
//! begun anew as a less nice one.
//!
//! Invariant: nobody waits for a child that waits for us. Both of its pipes are read to a bound, past which it is ended at once.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::artifacts::Report;
use super::compile::{INVALID, MISFIT, NO_HANDLER, REPORT_BYTES_MAX};
use super::compiler::CompileError;
use super::places::Place;
use super::spawn::{Child, End, Order, Starter, Told, Work};

/// How nice a child is, by how often it or one before it was begun anew. Whoever serves goes first; but beside busy neighbours a
/// nicest one has four thousandths of a processor, and is never done. Beside a gateway alone that is busy on every processor, 5 is
/// the last that is come to: it has a quarter then.
pub(super) const NICENESS: [u8; 4] = [19, 10, 5, 0];
/// The most of them for a tenant that compiled a lot lately.
pub(super) const HEAVY_STEPS: usize = 2;
/// After which time a child that got less than [`STARVED_PART`] of it is begun anew.
pub(super) const STARVED_AFTER: Duration = Duration::from_secs(5);
const STARVED_PART: u32 = 8;
/// How long a child may use no processor at all.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);
/// Between two looks at its processor time.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// By how much a child may pass its limit before its parent ends it: the kernel, which looks once a second, comes first.
const GRACE: Duration = Duration::from_secs(3);

/// What a child is told, and held to.
#[derive(Debug)]
pub(super) struct Orders<'a> {
    pub(super) starter: &'a Starter,
    pub(super) work: &'a Work,
    pub(super) order: Order,
    /// Of the processor.
    pub(super) time: Duration,
    /// Whether it is ended as [`Ended::Starved`] where it gets too little of the processor, and after which time.
    pub(super) starved_after: Option<Duration>,
    pub(super) idle_max: Duration,
}

/// How a child that made no report ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    With(CompileError),
    /// It got too little of the processor, and is worth another try.
    Starved,
}

impl From<CompileError> for Ended {
    fn from(error: CompileError) -> Self {
        Self::With(error)
    }
}

/// Runs one to its end.
///
/// Cancel safety: a child whose run is dropped is killed.
///
/// # Errors
/// [`Ended`]: it made no report.
pub(super) async fn run(orders: &Orders<'_>, wasm: &[u8], place: &Place) -> Result<Report, Ended> {
    let Child { mut stdin, stdout, stderr, mut end } =
        orders.starter.start(orders.work, &orders.order).map_err(failed)?;
    let ended = {
        let send = async move {
            // A child that died has closed its end; its exit tells why.
            let _broken_pipe = stdin.write_all(wasm).await;
            Ok(())
        };
        let words = async { tokio::try_join!(send, read(stdout), read(stderr)) };
        let followed = tokio::try_join!(words, follow(&mut end, orders, place));
        followed.and_then(|(((), said, complained), status)| {
            judge(status, &said, &complained, orders.time).map_err(Ended::With)
        })
    };
    if ended.is_err() {
        end.kill().await;
    }
    ended
}

/// Reads a pipe to its end, or to where the child has said too much.
async fn read(pipe: impl AsyncRead + Unpin) -> Result<Vec<u8>, Ended> {
    let mut said = Vec::new();
    let most = REPORT_BYTES_MAX as u64;
    pipe.take(most + 1).read_to_end(&mut said).await.map_err(failed)?;
    if said.len() as u64 > most { Err(CompileError::TooMuchSaid.into()) } else { Ok(said) }
}

/// Waits for a child's end, or for why it has to be ended.
async fn follow(end: &mut End, orders: &Orders<'_>, place: &Place) -> Result<ExitStatus, Ended> {
    let began = Instant::now();
    let (mut used, mut busy_at) = (Duration::ZERO, began);
    loop {
        let time = match end.next().await.map_err(failed)? {
            Told::Ended(status) => return Ok(status),
            Told::Used(time) => time,
        };
        place.spent(time);
        let now = Instant::now();
        if time > used {
            (used, busy_at) = (time, now);
        }
        if time > orders.time + GRACE {
            return Err(CompileError::TookTooLong(orders.time).into());
        }
        if now.saturating_duration_since(busy_at) > orders.idle_max {
            return Err(CompileError::Idle(orders.idle_max).into());
        }
        let ran = now.saturating_duration_since(began);
        if orders.starved_after.is_some_and(|after| ran > after && time * STARVED_PART < ran) {
            return Err(Ended::Starved);
        }
    }
}

/// What became of a child that ended by itself.
fn judge(status: ExitStatus, said: &[u8], complained: &[u8], time: Duration) -> Result<Report, CompileError> {
    let complaint = String::from_utf8_lossy(complained).trim().to_owned();
    Err(match status.code() {
        Some(0) => return serde_json::from_slice(said).map_err(|error| failed(format!("no whole report: {error}"))),
        Some(INVALID) => CompileError::Invalid(printable(&complaint)),
        Some(NO_HANDLER) => CompileError::NoHandler(printable(&complaint)),
        // What the composer failed with stands before it.
        Some(MISFIT) => {
            let said = complaint.lines().last().unwrap_or_default();
            serde_json::from_str(said).map_or_else(failed, CompileError::Misfit)
        }
        Some(code) => failed(format!("exit code {code}: {}", printable(&complaint))),
        None => of_signal(status, time),
    })
}

/// Whose doing a signal is. What a compiler does to itself is its component's: out of stack or memory, or of time. The rest comes
/// from outside, as from a machine that is out of memory, and says nothing about a component.
fn of_signal(status: ExitStatus, time: Duration) -> CompileError {
    const OWN: [Signal; 5] = [Signal::ABORT, Signal::SEGV, Signal::ILL, Signal::TRAP, Signal::FPE];
    let signal = status.signal().unwrap_or_default();
    if signal == Signal::XCPU.as_raw() {
        CompileError::TookTooLong(time)
    } else if OWN.iter().any(|own| own.as_raw() == signal) {
        CompileError::Crashed(status.to_string())
    } else {
        CompileError::Killed(status.to_string())
    }
}

/// A complaint quotes names that the component chose, and ends in operators' terminals.
fn printable(complaint: &str) -> String {
    complaint.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn failed(error: impl std::fmt::Display) -> CompileError {
    CompileError::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
