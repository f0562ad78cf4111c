//! Starts compiling children: in this process, or through the helper that it started before it confined itself.

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

/// How long to wait for the exit of a killed child.
const REAP: Duration = Duration::from_secs(5);

/// This very program, even if its file was replaced meanwhile: another version's compiled code would not fit.
const PROGRAM: &str = "/proc/self/exe";

/// What every child of this process is told.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// The folder for compiled code.
    pub(crate) dir: PathBuf,
    pub(crate) memory: u64,
    pub(crate) seconds: u64,
    pub(crate) metering: bool,
    /// Whether the child confines itself.
    pub(crate) confine: bool,
    /// The program to execute.
    pub(crate) program: PathBuf,
}

impl Default for Work {
    fn default() -> Self {
        let (dir, memory, seconds, metering, confine) = Default::default();
        Self { dir, memory, seconds, metering, confine, program: PROGRAM.into() }
    }
}

/// What one child is told in addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The file in the folder of compiled code that it writes to.
    pub(super) name: PathBuf,
    pub(super) nice: u8,
    /// For tests.
    pub(super) pretend: Option<String>,
}

/// The most bytes of a file's name (NAME_MAX in the kernel's limits.h).
const NAME_MAX: usize = 255;
/// The most bytes of an encoded order: the nice value, the length of the name, the name, and what to pretend.
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

    /// This program with a subcommand, and the arguments that both subcommands take.
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
        // The compiler's own threads; the other half of the processors is for serving.
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

/// The connection to the helper, which ends when it closes.
#[derive(Debug)]
pub(crate) struct Helper {
    socket: OwnedFd,
    /// Kept so that the process can be inspected from outside.
    _process: std::process::Child,
}

impl Helper {
    /// Starts the helper. Call it before this process confines itself.
    ///
    /// # Errors
    /// In words for the operator.
    pub(crate) fn start(settings: &Settings) -> anyhow::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let work = Work::of(settings);
        super::artifacts::make_folder(&work.dir)?;
        // One message starts one child.
        let (socket, its) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = work.command("compile-helper");
        command.arg("--dir").arg(&work.dir).stdin(Stdio::from(its)).stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot start the helper that starts compilers")?;
        // The helper reports when it has confined itself.
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
        // There are no more requests at once than places, so the socket has room.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(&said)], &mut control, flags)?;
        Ok(())
    }
}

/// The file descriptors that are passed for one child: its input, its output, its complaints, and a socket for its exit
/// status.
pub(super) const ENDS: usize = 4;

/// A compiling child. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) stdin: Sender,
    pub(super) stdout: Receiver,
    pub(super) stderr: Receiver,
    pub(super) end: End,
}

/// How the exit of a child is observed.
#[derive(Debug)]
pub(super) enum End {
    Here(tokio::process::Child),
    /// The helper kills a child whose socket is closed.
    Helper(UnixStream),
}

/// News about a child.
#[derive(Debug)]
pub(super) enum Told {
    /// The processor time used until now.
    Used(Duration),
    Ended(ExitStatus),
}

/// The helper's message types, each followed by a 64-bit number: milliseconds, or a status (wait(2)).
pub(super) const USED: u8 = 0;
pub(super) const ENDED: u8 = 1;

impl Starter {
    /// Starts a child that compiles into the existing file that its order names.
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
    /// The next news: the child's exit, or every [`LOOK`] its processor time.
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

    /// Kills the child, and waits a little for its exit.
    pub(super) async fn kill(self) {
        if let Self::Here(mut child) = self {
            // It may have exited by itself.
            let _ended = child.start_kill();
            let _reaped = Deadline::after(REAP).run(child.wait()).await;
        }
    }
}

/// The processor time of a process, over all its threads (proc_pid_stat(5)).
pub(super) fn processor_time(id: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name is in parentheses, and may contain any characters.
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
