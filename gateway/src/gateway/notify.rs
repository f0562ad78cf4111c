//! Notifications to the service manager that started this process (sd_notify(3), `Type=notify`): that it serves, that it
//! ends, and, after a takeover, that it is the service's main process.
//!
//! The socket is opened before the gateway confines itself. Sending never blocks.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The receiver; nothing if there is none.
#[derive(Debug, Default)]
pub(super) struct Notify(Option<UnixDatagram>);

impl Notify {
    /// From the environment's `NOTIFY_SOCKET`: a path, or an abstract name after an `@`.
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

    /// Reports that this process takes over. It is sent before the other process is told to end, because that end would
    /// otherwise be the service's.
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
