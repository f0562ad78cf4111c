//! The compiling child from its parent's side: how it is started, what is read from it, and when it is killed.
//!
//! Its limit is its own processor time, so that a busy machine does not cause refusals. Two limits use the wall clock, and
//! neither says anything about a component: a child that used no processor time for [`IDLE_MAX`] is killed, and one that
//! got very little is restarted with a lower nice value.
//!
//! Invariant: nobody waits for a child that waits for us. Both of its pipes are read up to a limit; beyond it the child is
//! killed at once.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::artifacts::Report;
use super::compile::{INVALID, MISFIT, NO_HANDLER, REPORT_BYTES_MAX};
use super::compile_queue::CompilePermit;
use super::compiler::CompileError;
use super::spawn::{Child, End, Order, Starter, Told, Work};

/// The nice value of a child, by the number of restarts of it and of those before it. Serving has priority; but beside busy
/// neighbours, a child with the highest value gets four thousandths of a processor and never finishes. If only a gateway
/// keeps every processor busy, 5 is the last step that is needed: the child then gets a quarter of a processor.
pub(super) const NICENESS: [u8; 4] = [19, 10, 5, 0];
/// The most steps for a tenant that compiled a lot recently.
pub(super) const HEAVY_STEPS: usize = 2;
/// After this time, a child that got less than [`STARVED_PART`] of it is restarted.
pub(super) const STARVED_AFTER: Duration = Duration::from_secs(5);
const STARVED_PART: u32 = 8;
/// How long a child may use no processor time at all.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often its processor time is checked.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// How far a child may exceed its limit before its parent kills it. The kernel, which checks every second, acts first.
const GRACE: Duration = Duration::from_secs(3);

/// A child's instructions and limits.
#[derive(Debug)]
pub(super) struct Orders<'a> {
    pub(super) starter: &'a Starter,
    pub(super) work: &'a Work,
    pub(super) order: Order,
    /// Processor time.
    pub(super) time: Duration,
    /// After which time, if ever, the child is ended as [`Ended::Starved`] because it got too little processor time.
    pub(super) starved_after: Option<Duration>,
    pub(super) idle_max: Duration,
}

/// How a child ended that made no report.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    With(CompileError),
    /// It got too little processor time, and is worth another attempt.
    Starved,
}

impl From<CompileError> for Ended {
    fn from(error: CompileError) -> Self {
        Self::With(error)
    }
}

/// Runs a child to its end.
///
/// Cancel safety: if the run is dropped, the child is killed.
///
/// # Errors
/// [`Ended`]: the child made no report.
pub(super) async fn run(orders: &Orders<'_>, wasm: &[u8], place: &CompilePermit) -> Result<Report, Ended> {
    let Child { mut stdin, stdout, stderr, mut end } =
        orders.starter.start(orders.work, &orders.order).map_err(failed)?;
    let ended = {
        let send = async move {
            // A child that died has closed its end of the pipe. Its exit status tells why.
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

/// Reads a pipe to its end, or to the limit on what a child may say.
async fn read(pipe: impl AsyncRead + Unpin) -> Result<Vec<u8>, Ended> {
    let mut said = Vec::new();
    let most = REPORT_BYTES_MAX as u64;
    pipe.take(most + 1).read_to_end(&mut said).await.map_err(failed)?;
    if said.len() as u64 > most { Err(CompileError::TooMuchSaid.into()) } else { Ok(said) }
}

/// Waits for the child's exit, or for a reason to kill it.
async fn follow(end: &mut End, orders: &Orders<'_>, place: &CompilePermit) -> Result<ExitStatus, Ended> {
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

/// The result of a child that exited by itself.
fn judge(status: ExitStatus, said: &[u8], complained: &[u8], time: Duration) -> Result<Report, CompileError> {
    let complaint = String::from_utf8_lossy(complained).trim().to_owned();
    Err(match status.code() {
        Some(0) => return serde_json::from_slice(said).map_err(|error| failed(format!("no whole report: {error}"))),
        Some(INVALID) => CompileError::Invalid(printable(&complaint)),
        Some(NO_HANDLER) => CompileError::NoHandler(printable(&complaint)),
        // The composer's error is in the report.
        Some(MISFIT) => {
            let said = complaint.lines().last().unwrap_or_default();
            serde_json::from_str(said).map_or_else(failed, CompileError::Misfit)
        }
        Some(code) => failed(format!("exit code {code}: {}", printable(&complaint))),
        None => of_signal(status, time),
    })
}

/// Who is to blame for a signal. Signals that a compiler causes itself are the component's fault: out of stack, memory or
/// time. All others come from outside, for example because the machine is out of memory, and say nothing about the
/// component.
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

/// A complaint quotes names that the component chose, and operators read it in terminals.
fn printable(complaint: &str) -> String {
    complaint.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn failed(error: impl std::fmt::Display) -> CompileError {
    CompileError::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
