//! Where the gateway that runs listens, as a file in its state folder: commands beside it need not be told.
//!
//! Security: the file is this user's alone, and the token in it may only look and ends with the process. So a process that takes over
//! sees whom the gateway serves, whatever token its operators have by now.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What stands there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    /// The operators' Unix socket, where there is one.
    pub(crate) socket: Option<PathBuf>,
    /// A token of this process alone, which may look: whoever can read this folder needs no other to see how the gateway stands. An
    /// earlier version wrote none.
    #[serde(default)]
    pub(crate) looks_by: Option<String>,
}

fn path(state: &Path) -> PathBuf {
    state.join("running.json")
}

impl Running {
    /// What the gateway of this state folder wrote; nothing where none runs, or where it cannot be read.
    pub(crate) fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(state)).ok()?).ok()
    }

    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, state: &Path) -> io::Result<()> {
        let path = path(state);
        let whole = path.with_extension("new");
        // One that a process left that was killed may be anybody's to read.
        match std::fs::remove_file(&whole) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&whole)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(whole, path)
    }

    /// Takes the file away, unless another process has written its own.
    pub(crate) fn end(state: &Path) {
        if Self::read(state).is_some_and(|running| running.pid == std::process::id()) {
            // Whoever reads it finds nobody there.
            let _removed = std::fs::remove_file(path(state));
        }
    }
}
