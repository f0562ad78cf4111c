//! Listening sockets from systemd, or from the gateway that this process takes over from.
//!
//! A running gateway offers its listening sockets on a Unix socket in the state folder, to processes of the same user. The
//! new process takes them (`SCM_RIGHTS`, unix(7)), starts, and reports that it is ready. Then the old process drains. A
//! connection that arrives in between waits in the socket's queue, so that no client is refused.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::{Family, bind};

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Https,
    Http,
    Admin,
}

/// The most sockets that are handed over, and the most bytes for their names.
const SOCKETS_MAX: usize = 64;
const NAMES_MAX: usize = 1024;
/// What the new process sends when it serves.
const READY: &[u8] = b"ready\n";
/// Time limit for the other side's part of the exchange. The new process may take longer to become ready.
const EXCHANGE: Duration = Duration::from_secs(10);
const READY_WITHIN: Duration = Duration::from_mins(30);
/// How long after its drain the old process has to exit.
const END_WITHIN: Duration = Duration::from_mins(10);

impl Role {
    const ALL: [(Self, &str); 3] = [(Self::Https, "https"), (Self::Http, "http"), (Self::Admin, "admin")];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, of)| *of == name).map(|(role, _)| *role)
    }
}

/// Sockets that already listen.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// The sockets that no listener has taken yet, with their role if it is known.
    free: Vec<(Option<Role>, OwnedFd)>,
    /// The process that had them before.
    pub(crate) old: Option<Predecessor>,
}

impl Sockets {
    /// The sockets that systemd opened for this process, if any. Each goes to the listener with its address.
    pub(crate) fn of_systemd() -> Self {
        let mut given = listenfd::ListenFd::from_env();
        let taken = (0..given.len().min(SOCKETS_MAX)).filter_map(|at| given.take_tcp_listener(at).ok().flatten());
        Self { free: taken.map(|listener| (None, OwnedFd::from(listener))).collect(), old: None }
    }

    /// Takes the sockets from the gateway that offers them at `path`.
    ///
    /// # Errors
    /// In words for the operator: no gateway offers sockets, or the exchange fails.
    pub(crate) async fn of_running(path: &Path) -> anyhow::Result<Self> {
        let exchange = async {
            let stream = UnixStream::connect(path).await?;
            let taken = receive(&stream).await?;
            Ok::<_, io::Error>((stream, taken))
        };
        let exchanged =
            tokio::time::timeout(EXCHANGE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (stream, free) = exchanged.with_context(|| {
            format!("no gateway offers its sockets at {}: is one running with this state folder?", path.display())
        })?;
        Ok(Self { free: free.into_iter().map(|(role, fd)| (Some(role), fd)).collect(), old: Some(Predecessor(stream)) })
    }

    /// Takes the socket for this address, if there is one. Port 0 takes any socket of its role and family.
    fn take(&mut self, role: Role, address: SocketAddr) -> Option<OwnedFd> {
        let own = |fd: &OwnedFd| rustix::net::getsockname(fd).ok().and_then(|own| SocketAddr::try_from(own).ok());
        let is_it = |(of, fd): &(Option<Role>, OwnedFd)| match of {
            Some(of) if *of != role => false,
            Some(_) if address.port() == 0 => own(fd).is_some_and(|own| own.is_ipv4() == address.is_ipv4()),
            _ => own(fd) == Some(address),
        };
        let at = self.free.iter().position(is_it)?;
        Some(self.free.swap_remove(at).1)
    }

    /// A listener at this address: an inherited socket, or a new one. Port 0 takes a free port; see
    /// [`TcpListener::local_addr`].
    ///
    /// # Errors
    /// In words for the operator, with the address.
    pub(crate) fn bind(&mut self, role: Role, address: SocketAddr, family: Family) -> anyhow::Result<TcpListener> {
        let made = match self.take(role, address) {
            Some(fd) => {
                let listener = std::net::TcpListener::from(fd);
                listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener))
            }
            None => bind::tcp(address, family),
        };
        made.with_context(|| format!("cannot listen on {address}"))
    }
}

/// The gateway from which the sockets were taken.
#[derive(Debug)]
pub(crate) struct Predecessor(UnixStream);

impl Predecessor {
    /// Tells the old process to drain.
    ///
    /// # Errors
    /// The old process is gone.
    pub(crate) async fn relieve(&mut self) -> io::Result<()> {
        tokio::time::timeout(EXCHANGE, self.0.write_all(READY)).await?
    }

    /// Waits for the old process to exit, which releases what only one process may have open.
    ///
    /// # Errors
    /// The old process does not exit.
    pub(crate) async fn ended(&mut self, drain: Duration) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(drain + END_WITHIN, self.0.read_to_end(&mut Vec::new())).await;
        // An error on the socket also means that the process has ended.
        let _whichever = ended.context("the previous gateway does not end")?;
        Ok(())
    }
}

/// Sockets that are offered to a process that takes over.
#[derive(Debug)]
pub(crate) struct Offer {
    path: PathBuf,
    listener: UnixListener,
    sockets: Vec<(Role, OwnedFd)>,
}

impl Offer {
    /// Offers the sockets at `path`, and replaces a former offer there.
    ///
    /// # Errors
    /// The Unix socket cannot be created.
    pub(crate) fn make(path: PathBuf, sockets: Vec<(Role, OwnedFd)>) -> io::Result<Self> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        Ok(Self { path, listener, sockets })
    }

    /// Waits for a process that took the sockets and is ready. It detects our exit when the returned stream closes.
    pub(crate) async fn taken(&self) -> UnixStream {
        loop {
            match self.exchange().await {
                Ok(stream) => return stream,
                Err(error) => {
                    tracing::warn!(target: "listener", path = %self.path.display(), %error, "the takeover did not happen");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn exchange(&self) -> anyhow::Result<UnixStream> {
        let (mut stream, _) = self.listener.accept().await?;
        let uid = stream.peer_cred()?.uid();
        if uid != rustix::process::geteuid().as_raw() && uid != 0 {
            bail!("a process of user {uid} asked for the sockets");
        }
        tokio::time::timeout(EXCHANGE, send(&stream, &self.sockets)).await??;
        tracing::info!(target: "listener", "another process received the sockets and prepares to serve");
        let mut said = [0; READY.len()];
        tokio::time::timeout(READY_WITHIN, stream.read_exact(&mut said)).await?.context("it ended")?;
        if said != READY {
            bail!("its answer was not `ready`");
        }
        Ok(stream)
    }
}

async fn send(stream: &UnixStream, sockets: &[(Role, OwnedFd)]) -> io::Result<()> {
    let names = sockets.iter().map(|(role, _)| role.name()).collect::<Vec<_>>().join(" ");
    let fds: Vec<_> = sockets.iter().map(|(_, fd)| fd.as_fd()).collect();
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(rustix::net::sendmsg(stream, &[IoSlice::new(names.as_bytes())], &mut control, SendFlags::NOSIGNAL)?)
    };
    stream.async_io(Interest::WRITABLE, send).await?;
    Ok(())
}

async fn receive(stream: &UnixStream) -> io::Result<Vec<(Role, OwnedFd)>> {
    let receive = || {
        let mut names = [0; NAMES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let told =
            rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut names)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            RecvAncillaryMessage::ScmCredentials(_) | _ => None,
        });
        let fds: Vec<OwnedFd> = fds.flatten().collect();
        let names = String::from_utf8_lossy(names.get(..told.bytes).unwrap_or_default()).into_owned();
        Ok((names, fds))
    };
    let (names, fds) = stream.async_io(Interest::READABLE, receive).await?;
    let roles = names.split_whitespace().map(Role::named).collect::<Option<Vec<_>>>();
    match roles {
        Some(roles) if roles.len() == fds.len() && !fds.is_empty() => Ok(roles.into_iter().zip(fds).collect()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} sockets came as {names:?}", fds.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_are_handed_over_and_no_client_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("takeover.sock");
        let (local, own) = ("127.0.0.1:0".parse().unwrap(), Family::Own);
        assert!(Sockets::of_running(&path).await.unwrap_err().to_string().contains("is one running"));
        let mut none = Sockets::default();
        let (https, admin) = (none.bind(Role::Https, local, own).unwrap(), none.bind(Role::Admin, local, own).unwrap());
        let address = https.local_addr().unwrap();
        let dup = |listener: &TcpListener| listener.as_fd().try_clone_to_owned().unwrap();
        let offer = Offer::make(path.clone(), vec![(Role::Https, dup(&https)), (Role::Admin, dup(&admin))]).unwrap();
        let old = tokio::spawn(async move {
            let stream = offer.taken().await;
            drop((https, admin, offer));
            stream
        });
        let mut new = Sockets::of_running(&path).await.unwrap();
        // An address at which no socket listens is bound.
        let listener = new.bind(Role::Https, address, own).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        assert_ne!(new.bind(Role::Https, local, own).unwrap().local_addr().unwrap(), address);
        let waits = tokio::net::TcpStream::connect(address);
        let mut of = new.old.take().unwrap();
        of.relieve().await.unwrap();
        drop(old.await.unwrap());
        of.ended(Duration::ZERO).await.unwrap();
        waits.await.unwrap();
        listener.accept().await.unwrap();
    }
}
