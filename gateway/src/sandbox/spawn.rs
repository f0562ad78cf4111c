//! Starts compiling children: this process does it itself, or asks the helper that it started before it confined itself.

use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};

use super::Settings;

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
}

impl Work {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            dir: settings.compiled.clone(),
            memory: settings.compile_memory,
            seconds: settings.compile_time.as_secs().max(1),
            metering: settings.metering,
            confine: settings.confine,
        }
    }

    /// This program with a subcommand and what both of them take.
    fn command(&self, name: &str) -> std::process::Command {
        let mut command = std::process::Command::new(PROGRAM);
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
    pub(super) fn child(&self, out: &Path) -> std::process::Command {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let mut command = self.command("compile-component");
        // Its compiler's own threads; the other half is for what serves.
        command.arg("--out").arg(out).env("RAYON_NUM_THREADS", threads.to_string());
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
        said.context("the helper that starts compilers did not come up")?;
        Ok(Self { socket, _process: process })
    }

    /// Asks for a child whose file in the compiled folder has this name.
    fn ask(&self, name: &[u8], ends: &[OwnedFd]) -> std::io::Result<()> {
        let fds: Vec<_> = ends.iter().map(|end| end.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ENDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        // As few are asked for at once as there are places, so there is room.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(name)], &mut control, flags)?;
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

impl Starter {
    /// Starts a child that compiles into `out`, a file that is there.
    ///
    /// # Errors
    /// The system refuses, or the helper is gone.
    pub(super) fn start(&self, work: &Work, out: &Path) -> std::io::Result<Child> {
        let (stdin, ours_in) = std::io::pipe()?;
        let (ours_out, stdout) = std::io::pipe()?;
        let (ours_err, stderr) = std::io::pipe()?;
        let end = match self {
            Self::Here => {
                let mut command = tokio::process::Command::from(work.child(out));
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                End::Here(command.kill_on_drop(true).spawn()?)
            }
            Self::Helper(helper) => {
                let name = out.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
                let (told, tells) = UnixStream::pair()?;
                let ends = [stdin.into(), stdout.into(), stderr.into(), OwnedFd::from(tells.into_std()?)];
                helper.ask(name.as_encoded_bytes(), &ends).map_err(gone)?;
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
    /// Waits for it.
    ///
    /// # Errors
    /// The helper is gone, and the child with it.
    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        match self {
            Self::Here(child) => child.wait().await,
            Self::Helper(told) => Ok(ExitStatus::from_raw(told.read_i32().await.map_err(gone)?)),
        }
    }
}

fn gone(error: std::io::Error) -> std::io::Error {
    std::io::Error::new(
        error.kind(),
        format!("the helper that starts compilers is gone ({error}): the gateway needs a restart"),
    )
}
