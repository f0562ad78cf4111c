//! Starts compiling children: this process does it itself, or asks the helper that it started before it confined itself.

use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};

use super::Settings;
use super::child::LOOK;
use crate::deadline::Deadline;

/// How long the end of a child that was killed is waited for.
const REAP: Duration = Duration::from_secs(5);

/// This very program, even where another one was put in its place meanwhile: that one's compiled code would not fit.
const PROGRAM: &str = "/proc/self/exe";

/// What every child of this process is told.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Where compiled code goes.
    pub(crate) dir: PathBuf,
    pub(crate) memory: u64,
    pub(crate) seconds: u64,
    pub(crate) metering: bool,
    /// Whether it confines itself.
    pub(crate) confine: bool,
    /// What is run.
    pub(crate) program: PathBuf,
}

impl Default for Work {
    fn default() -> Self {
        let (dir, memory, seconds, metering, confine) = Default::default();
        Self { dir, memory, seconds, metering, confine, program: PROGRAM.into() }
    }
}

/// What one child is told beside that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Of the file in the folder of compiled code that it compiles into.
    pub(super) name: PathBuf,
    pub(super) nice: u8,
    /// For tests.
    pub(super) pretend: Option<String>,
}

/// The most bytes of a file's name (NAME_MAX in the kernel's limits.h).
const NAME_MAX: usize = 255;
/// The most bytes of an order as it is sent: how nice, how long the name is, the name, and what to pretend.
pub(super) const ORDER_BYTES_MAX: usize = 2 + NAME_MAX + 32;

impl Order {
    fn write(&self) -> Option<Vec<u8>> {
        let name = self.name.as_os_str().as_encoded_bytes();
        let mut said = vec![self.nice, u8::try_from(name.len()).ok()?];
        said.extend_from_slice(name);
        said.extend_from_slice(self.pretend.as_deref().unwrap_or_default().as_bytes());
        (said.len() <= ORDER_BYTES_MAX).then_some(said)
    }

    pub(super) fn read(said: &[u8]) -> Option<Self> {
        let [nice, length, rest @ ..] = said else { return None };
        let (name, pretend) = rest.split_at_checked(usize::from(*length))?;
        let pretend = std::str::from_utf8(pretend).ok()?;
        let pretend = (!pretend.is_empty()).then(|| pretend.to_owned());
        Some(Self { name: std::ffi::OsStr::from_bytes(name).into(), nice: *nice, pretend })
    }
}

impl Work {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            dir: settings.compiled.clone(),
            memory: settings.compile_memory,
            seconds: settings.compile_time.as_secs().max(1),
            metering: settings.metering,
            confine: settings.confine,
            ..Self::default()
        }
    }

    /// This program with a subcommand and what both of them take.
    fn command(&self, name: &str) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command
            .arg0("tollgate")
            .arg(name)
            .arg("--memory")
            .arg(self.memory.to_string())
            .arg("--seconds")
            .arg(self.seconds.to_string());
        command.arg("--metering").arg(self.metering.to_string()).arg("--confine").arg(self.confine.to_string());
        command.env_clear();
        command
    }

    /// A child that compiles into this file, with nothing of our environment.
    pub(super) fn child(&self, out: &Path, order: &Order) -> std::process::Command {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let mut command = self.command("compile-component");
        // Its compiler's own threads; the other half is for what serves.
        command.arg("--out").arg(out).env("RAYON_NUM_THREADS", threads.to_string());
        command.arg("--nice").arg(order.nice.to_string()).arg("--parent").arg(std::process::id().to_string());
        order.pretend.iter().for_each(|what| _ = command.args(["--pretend", what]));
        command
    }
}

/// What starts children.
#[derive(Debug, Default)]
pub(crate) enum Starter {
    /// This process.
    #[default]
    Here,
    Helper(Helper),
}

/// The helper's end of a conversation, which ends with us.
#[derive(Debug)]
pub(crate) struct Helper {
    socket: OwnedFd,
    /// Held so that what becomes of the process can be looked at from outside.
    _process: std::process::Child,
}

impl Helper {
    /// Starts it, which has to be before this process confines itself.
    ///
    /// # Errors
    /// In words for the operator.
    pub(crate) fn start(settings: &Settings) -> anyhow::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let work = Work::of(settings);
        super::artifacts::make_folder(&work.dir)?;
        // One message is one child to start.
        let (socket, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = work.command("compile-helper");
        command.arg("--dir").arg(&work.dir).stdin(Stdio::from(its)).stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot start the helper that starts compilers")?;
        // It says so once it has confined itself; from then on it is as it will be.
        let mut ready = [0];
        let said = process.stdout.take().context("the helper has no pipe")?.read_exact(&mut ready);
        said.context("the helper that starts compilers did not start")?;
        Ok(Self { socket, _process: process })
    }

    /// Asks for a child.
    fn ask(&self, order: &Order, ends: &[OwnedFd]) -> std::io::Result<()> {
        let fds: Vec<_> = ends.iter().map(|end| end.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ENDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let said = order.write().ok_or(std::io::ErrorKind::InvalidInput)?;
        // As few are asked for at once as there are places, so there is room.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(&said)], &mut control, flags)?;
        Ok(())
    }
}

/// What goes over for one child: its input, its output, its complaints, and a socket on which its end is told.
pub(super) const ENDS: usize = 4;

/// A compiling child. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) stdin: Sender,
    pub(super) stdout: Receiver,
    pub(super) stderr: Receiver,
    pub(super) end: End,
}

/// How a child's end is heard of.
#[derive(Debug)]
pub(super) enum End {
    Here(tokio::process::Child),
    /// The helper ends a child whose socket is closed.
    Helper(UnixStream),
}

/// What is heard of a child.
#[derive(Debug)]
pub(super) enum Told {
    /// Of the processor, until now.
    Used(Duration),
    Ended(ExitStatus),
}

/// How the helper says which, before a number of 64 bits: milliseconds, or a status (wait(2)).
pub(super) const USED: u8 = 0;
pub(super) const ENDED: u8 = 1;

impl Starter {
    /// Starts a child that compiles into the file that its order names, which is there.
    ///
    /// # Errors
    /// The system refuses, or the helper is gone.
    pub(super) fn start(&self, work: &Work, order: &Order) -> std::io::Result<Child> {
        let (stdin, ours_in) = std::io::pipe()?;
        let (ours_out, stdout) = std::io::pipe()?;
        let (ours_err, stderr) = std::io::pipe()?;
        let end = match self {
            Self::Here => {
                let mut command = tokio::process::Command::from(work.child(&work.dir.join(&order.name), order));
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                End::Here(command.kill_on_drop(true).spawn()?)
            }
            Self::Helper(helper) => {
                let (told, tells) = UnixStream::pair()?;
                let ends = [stdin.into(), stdout.into(), stderr.into(), OwnedFd::from(tells.into_std()?)];
                helper.ask(order, &ends).map_err(|error| gone(&error))?;
                End::Helper(told)
            }
        };
        Ok(Child {
            stdin: Sender::from_owned_fd(ours_in.into())?,
            stdout: Receiver::from_owned_fd(ours_out.into())?,
            stderr: Receiver::from_owned_fd(ours_err.into())?,
            end,
        })
    }
}

impl End {
    /// What is to be heard next: its end, or every [`LOOK`] what it used.
    ///
    /// # Errors
    /// The helper is gone, and the child with it.
    pub(super) async fn next(&mut self) -> std::io::Result<Told> {
        match self {
            Self::Here(child) => loop {
                let looked = tokio::time::timeout(LOOK, child.wait()).await;
                if let Ok(status) = looked {
                    return status.map(Told::Ended);
                }
                if let Some(used) = child.id().and_then(processor_time) {
                    return Ok(Told::Used(used));
                }
            },
            Self::Helper(told) => {
                let mut message = [0; 9];
                told.read_exact(&mut message).await.map_err(|error| gone(&error))?;
                let [what, value @ ..] = message;
                let value = i64::from_be_bytes(value);
                Ok(match what {
                    ENDED => Told::Ended(ExitStatus::from_raw(i32::try_from(value).unwrap_or(i32::MAX))),
                    _ => Told::Used(Duration::from_millis(u64::try_from(value).unwrap_or(0))),
                })
            }
        }
    }

    /// Ends it, and waits a little for that.
    pub(super) async fn kill(self) {
        if let Self::Here(mut child) = self {
            // It may have ended by itself.
            let _ended = child.start_kill();
            let _reaped = Deadline::after(REAP).run(child.wait()).await;
        }
    }
}

/// What a process used of the processor, all of its threads together (proc_pid_stat(5)).
pub(super) fn processor_time(id: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Its name is in brackets, and may have any letters in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()?.saturating_add(ticks()?);
    let each = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis(ticks.saturating_mul(1000) / each))
}

fn gone(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(
        error.kind(),
        format!("the helper that starts compilers is gone ({error}): the gateway needs a restart"),
    )
}
