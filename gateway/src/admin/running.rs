//! Where the running gateway listens, in a file in its state folder, so that commands find it by themselves.
//!
//! Security: only this user can read the file, and the token in it may only read and ends with the process. So a process
//! that takes over can ask which tenants the gateway serves, whatever token the operators have by now.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    /// The operators' Unix socket, if there is one.
    pub(crate) socket: Option<PathBuf>,
    /// A token of this process that may only read. Anyone who can read this folder needs no other token to query the
    /// gateway's state. An earlier version wrote none.
    #[serde(default)]
    pub(crate) looks_by: Option<String>,
}

fn path(state: &Path) -> PathBuf {
    state.join("running.json")
}

impl Running {
    /// Reads what the gateway of this state folder wrote. Nothing if none runs, or if it cannot be read.
    pub(crate) fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(state)).ok()?).ok()
    }

    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, state: &Path) -> io::Result<()> {
        let path = path(state);
        let whole = path.with_extension("new");
        // A file that a killed process left may be readable by others.
        match std::fs::remove_file(&whole) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&whole)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(whole, path)
    }

    /// Removes the file, unless another process has written its own.
    pub(crate) fn end(state: &Path) {
        if Self::read(state).is_some_and(|running| running.pid == std::process::id()) {
            // A command that still reads it finds no gateway there.
            let _removed = std::fs::remove_file(path(state));
        }
    }
}
