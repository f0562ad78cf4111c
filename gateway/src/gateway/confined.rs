//! What a gateway does before its first thread: it takes the given sockets, starts its helper, and confines itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::notify::Notify;
use crate::config::{self, Boot};
use crate::confine::{self, Outcome, Reach};
use crate::listener::Sockets;
use crate::sandbox::{Helper, Machine, Starter};
use crate::store;
use crate::telemetry::AccessTo;

/// What is prepared before the first thread. By default nothing is confined.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(super) starter: Starter,
    /// The sockets that systemd opened.
    pub(super) sockets: Sockets,
    /// Who is notified that the gateway serves.
    pub(super) notify: Notify,
    /// What the kernel could restrict. Nothing if it was not asked.
    pub(super) outcome: Option<Outcome>,
}

impl Prepared {
    /// Confines this process, unless the configuration forbids it. The process must have a single thread.
    ///
    /// # Errors
    /// In words for the operator: a folder cannot be created, or the helper does not start.
    pub(crate) fn confined(boot: &Boot, takeover: bool) -> anyhow::Result<Self> {
        // The helper must not inherit them.
        let sockets = if takeover { Sockets::default() } else { Sockets::of_systemd() };
        let notify = Notify::of_environment();
        if !boot.sandbox.confine {
            return Ok(Self { sockets, notify, ..Self::default() });
        }
        let reach = reach(boot);
        for folder in reach.write.iter().filter(|folder| **folder != boot.sandbox.compiled) {
            // If it cannot be created, the code that needs it reports the error.
            let _made = std::fs::create_dir_all(folder);
        }
        let starter = Starter::Helper(Helper::start(&boot.sandbox)?);
        let outcome = Some(confine::gateway(&reach));
        Ok(Self { starter, sockets, notify, outcome })
    }

    /// Logs once what could not be restricted.
    pub(crate) fn tell(&self) {
        let Some(outcome) = &self.outcome else { return };
        match outcome.missing() {
            None => tracing::info!(target: "confine", "the gateway confined itself by {}", outcome.had()),
            Some(missing) => tracing::warn!(
                target: "confine", "the gateway confined itself by {}; this kernel lacks: {missing}", outcome.had()
            ),
        }
    }
}

/// When all sockets exist, new listening sockets are forbidden.
pub(super) fn started(is_confined: bool) {
    if is_confined && let Err(error) = confine::started() {
        tracing::debug!(target: "confine", %error, "new listening sockets cannot be forbidden");
    }
}

/// The files and ports that this gateway needs.
fn reach(boot: &Boot) -> Reach {
    let mut reach = Reach { read: config::reach(boot), ..Reach::default() };
    let of = |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::port).collect::<Vec<_>>();
    let listen = &boot.listen;
    reach.ports = [of(&listen.https), of(&listen.http), vec![listen.admin.port()]].concat().into_iter().collect();
    reach.write = [boot.state.clone(), boot.sandbox.compiled.clone()].into();
    if let store::Kind::Embedded(folder) = &boot.storage.kind {
        reach.write.insert(folder.clone());
    }
    reach.write.extend(boot.telemetry.access.as_ref().and_then(|access| match &access.to {
        AccessTo::Stdout => None,
        AccessTo::File { path, .. } => folder_of(path),
        AccessTo::Tenants(dir) => Some(dir.clone()),
    }));
    reach.write.extend(boot.operators.socket.as_deref().and_then(folder_of));
    reach.write.extend(Machine::stand_in());
    reach
}

/// The folder of a file. For a bare name, the present folder.
fn folder_of(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}
