//! The helper: a small process that the gateway starts before it confines itself, and that starts the compiling children.
//!
//! So the gateway itself needs no permission to start a process, on any kernel. It sends the helper a file name in the
//! folder of compiled code, and the file descriptors that the child reads and writes; everything else was fixed when the
//! helper started. The helper ends when the gateway's end of their socket closes.
//!
//! Security: an attacker who controls the gateway can make this program compile, but cannot execute another program. Limit:
//! [`CHILDREN_MAX`] children, and twice as many while some are being killed.

use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Component, Path};
use std::sync::Arc;

use anyhow::Context as _;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::child::LOOK;
use super::compiler::CHILDREN_MAX;
use super::spawn::{ENDED, ENDS, ORDER_BYTES_MAX, Order, USED, Work, processor_time};

/// Confines this process, then starts what the gateway at the other end of standard input asks for, until the gateway is
/// gone.
///
/// # Errors
/// In words for the operator: the system refuses what a helper needs.
pub(crate) fn help(work: Work) -> anyhow::Result<()> {
    // Children inherit it, as they do from a gateway.
    let _as_well = rustix::thread::disable_transparent_huge_pages(true);
    let work = Work { dir: std::fs::canonicalize(&work.dir)?, ..work };
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    // The gateway logs what the kernel cannot restrict, since it asks for the same.
    let _outcome = crate::confine::helper(&work.dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // A signal to all processes of a service, to end or to reopen log files, is meant for the gateway, which ends the
        // helper.
        let ends = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
        let asks = [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()];
        let others = [ends, asks].concat();
        let _heard: Vec<_> = others.into_iter().map(signal).collect();
        // The socket keeps messages apart, which a stream would not; otherwise it is used like a stream.
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        std::io::stdout().lock().write_all(b"\n").context("nobody waits for the helper")?;
        let (work, places) = (Arc::new(work), Arc::new(Semaphore::new(2 * CHILDREN_MAX)));
        loop {
            let asked = socket.async_io(Interest::READABLE, || receive(&socket)).await?;
            let Some((order, ends)) = asked else { break };
            // Without a place its file descriptors are closed, which tells the gateway that it failed.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let work = Arc::clone(&work);
            tokio::spawn(async move {
                // Nobody is there to receive an error.
                let _told = look_after(&work, &order, ends).await;
                drop(place);
            });
        }
        // The runtime ends the children that are still running.
        Ok(())
    })
}

/// The next message. Nothing if there will be none.
fn receive(socket: &UnixStream) -> std::io::Result<Option<(Order, [OwnedFd; ENDS])>> {
    let mut said = [0; ORDER_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ENDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let told = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut said)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if told.bytes == 0 {
        return Ok(None);
    }
    let ends = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(ends) => Some(ends),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    let ends: Vec<OwnedFd> = ends.flatten().collect();
    let order = Order::read(said.get(..told.bytes).unwrap_or_default()).filter(|order| file_name(&order.name));
    match (order, <[OwnedFd; ENDS]>::try_from(ends)) {
        (Some(order), Ok(ends)) => Ok(Some((order, ends))),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// Whether it is the name of a file in a folder, without any path.
fn file_name(name: &Path) -> bool {
    let mut parts = name.components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name.as_os_str())
}

/// Starts a child, and reports its processor time and its exit. Kills it if nobody wants to know any more.
async fn look_after(work: &Work, order: &Order, ends: [OwnedFd; ENDS]) -> std::io::Result<()> {
    let [stdin, stdout, stderr, tells] = ends;
    let tells = std::os::unix::net::UnixStream::from(tells);
    tells.set_nonblocking(true)?;
    let mut tells = UnixStream::from_std(tells)?;
    let mut words = std::fs::File::from(stderr.try_clone()?);
    let mut command = tokio::process::Command::from(work.child(&work.dir.join(&order.name), order));
    command.stdin(stdin).stdout(stdout).stderr(stderr).kill_on_drop(true);
    let started = command.spawn();
    // The command holds our ends of the pipes.
    drop(command);
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            writeln!(words, "{error}")?;
            drop(words);
            // The status of a child that exited with 1 (wait(2)).
            return tell(&mut tells, ENDED, 1 << 8).await;
        }
    };
    drop(words);
    let id = child.id();
    let mut nothing = [0];
    loop {
        tokio::select! {
            status = child.wait() => return tell(&mut tells, ENDED, i64::from(status?.into_raw())).await,
            _closed = tells.read(&mut nothing) => return child.kill().await,
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Some(used) = id.and_then(processor_time) {
            tell(&mut tells, USED, i64::try_from(used.as_millis()).unwrap_or(i64::MAX)).await?;
        }
    }
}

/// Sends one message in one piece, as it is read.
async fn tell(to: &mut UnixStream, what: u8, value: i64) -> std::io::Result<()> {
    let mut message = [what; 9];
    message[1..].copy_from_slice(&value.to_be_bytes());
    to.write_all(&message).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_writes_to_the_compiled_folder_and_nowhere_else() {
        assert!(file_name(Path::new("new-a1B2")));
        for bad in ["", ".", "..", "/", "/etc", "a/b", "../a", "a/..", "a/", "./a"] {
            assert!(!file_name(Path::new(bad)), "{bad}");
        }
    }
}
