//! Tenants that an operator stopped: in force at once, and kept as an empty file a tenant, so that a restart forgets none.
//!
//! The files say who is stopped beside `enabled = false` in the tenants' own; either is enough.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::TenantId;
use crate::tenant::Registry;

/// Where the files are, and whom they stop.
#[derive(Clone, Debug)]
pub(crate) struct Suspension {
    dir: PathBuf,
    pub(super) registry: Arc<Registry>,
}

impl Suspension {
    /// Stops everybody whose file is there.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub(crate) fn load(dir: PathBuf, registry: Arc<Registry>) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        for entry in std::fs::read_dir(&dir)? {
            if let Some(id) = entry?.file_name().to_str().and_then(TenantId::parse) {
                tracing::warn!(target: "admin", tenant = %id, "suspended by an operator");
                registry.suspend(&id, true);
            }
        }
        Ok(Self { dir, registry })
    }

    /// The tenant is stopped before the file is written: whoever suspends is in a hurry.
    ///
    /// # Errors
    /// The file cannot be written or removed; the tenant is stopped, or goes on, until the next start all the same.
    pub(super) fn set(&self, id: &TenantId, suspended: bool) -> io::Result<()> {
        self.registry.suspend(id, suspended);
        let what = if suspended { "suspended by operator" } else { "resumed by operator" };
        tracing::warn!(target: "admin", tenant = %id, suspended, "{what}");
        let path = self.dir.join(id.as_str());
        if suspended {
            return std::fs::write(path, "");
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
