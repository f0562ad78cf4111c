//! Words to the service manager that started this process (sd_notify(3), `Type=notify`): that it serves, that it ends, and that it is
//! the service's main process from now on, where it takes over from another.
//!
//! The socket is opened before the gateway confines itself, and nobody waits for it.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who is told; nobody where nobody asked.
#[derive(Debug, Default)]
pub(super) struct Notify(Option<UnixDatagram>);

impl Notify {
    /// Of the environment's `NOTIFY_SOCKET`: a path, or a name without a file after an `@`.
    pub(super) fn of_environment() -> Self {
        let open = || -> Option<UnixDatagram> {
            let named = std::env::var_os("NOTIFY_SOCKET")?.into_encoded_bytes();
            let address = match named.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(String::from_utf8(named).ok()?),
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect_addr(&address.ok()?).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        };
        Self(open())
    }

    /// This process takes over. It is said before the other one is let go, whose end would else be the service's.
    pub(super) fn is_main(&self) {
        self.say(&format!("MAINPID={}\nSTATUS=taking over\n", std::process::id()));
    }

    pub(super) fn serves(&self, takes_over: bool) {
        let main = if takes_over { format!("MAINPID={}\n", std::process::id()) } else { String::new() };
        self.say(&format!("READY=1\n{main}STATUS=serving\n"));
    }

    pub(super) fn ends(&self) {
        self.say("STOPPING=1\nSTATUS=draining\n");
    }

    fn say(&self, words: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|socket| socket.send(words.as_bytes())) {
            tracing::warn!(target: "gateway", %error, "the service manager cannot be notified");
        }
    }
}
