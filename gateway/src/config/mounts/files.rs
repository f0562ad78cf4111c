//! The files that the mounts match, and their copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::below::{FILES_BYTES_MAX, read_below};
use crate::ids::{Digest, TenantId};

/// The files that were found, by the names that the component sees.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(super) root: PathBuf,
    pub(super) found: BTreeMap<PathBuf, (PathBuf, Digest)>,
    pub(crate) digest: Digest,
}

impl Files {
    /// The path of each file where it was found.
    pub(crate) fn sources(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.found.values().map(|(source, _)| self.root.join(source))
    }

    /// The folder of a tenant's copy, below the folder of all copies.
    pub(crate) fn place(&self, staged: &Path, tenant: &TenantId) -> PathBuf {
        staged.join(tenant.as_str()).join(self.digest.to_string())
    }

    /// Makes the copy, unless it exists.
    ///
    /// # Errors
    /// If a file changed since it was found, or cannot be copied.
    pub(crate) fn stage(&self, staged: &Path, tenant: &TenantId) -> anyhow::Result<()> {
        let place = self.place(staged, tenant);
        if place.is_dir() {
            return Ok(());
        }
        let parent = staged.join(tenant.as_str());
        std::fs::create_dir_all(&parent)?;
        let new = tempfile::Builder::new().prefix("new-").tempdir_in(&parent)?;
        for (name, (source, digest)) in &self.found {
            let bytes = read_below(&self.root, source, FILES_BYTES_MAX).map_err(anyhow::Error::msg)?;
            anyhow::ensure!(Digest::of(&bytes) == *digest, "{} was changed while it was loaded", source.display());
            let path = new.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(new.path()))?;
            File::create(&path)?.write_all(&bytes)?;
        }
        std::fs::rename(new.keep(), place)?;
        Ok(())
    }
}
