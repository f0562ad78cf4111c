//! Tenants that an operator suspended. A suspension is in force at once, and kept as an empty file for each tenant, so that
//! a restart does not forget it.
//!
//! A tenant is stopped by such a file or by `enabled = false` in its own file; either is enough.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::TenantId;
use crate::tenant::Registry;

/// The folder of the files, and the tenants that they suspend.
#[derive(Clone, Debug)]
pub(crate) struct Suspension {
    dir: PathBuf,
    pub(super) registry: Arc<Registry>,
}

impl Suspension {
    /// Suspends every tenant that has a file.
    ///
    /// # Errors
    /// The folder cannot be created or read.
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

    /// Suspends the tenant before the file is written: an operator who suspends is in a hurry.
    ///
    /// # Errors
    /// The file cannot be written or removed. The change is in force anyway, until the next start.
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
