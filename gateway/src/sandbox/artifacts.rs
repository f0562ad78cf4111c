//! Compiled components on disk: `<digest>-<engine>.cwasm`, and beside each what is known of it.
//!
//! Security: a `.cwasm` is native code that this process maps and runs. The folder belongs to the gateway's user and
//! nobody else may write to it; that is checked at start, and a folder that others may write to is refused.

use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use crate::ids::Digest;

/// What compiling found out about a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
    /// Which wasi:http it answers with, `0.2` or `0.3`, if it does.
    pub(crate) handler: Option<String>,
    /// Imports that nobody serves.
    pub(crate) unserved: Vec<String>,
    /// What the linker said, where it refused.
    pub(crate) link_error: Option<String>,
    /// Bytes of the largest memory at the start.
    pub(crate) memory_bytes_min: u64,
}

/// Moves on when a report's fields change or mean something else, so that none of before is taken for one of now.
const REPORT_FORMAT: u32 = 2;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Artifacts {
    dir: PathBuf,
    /// Names the engine's version and settings: other ones compile other code.
    engine: String,
}

/// A hasher that is the same in every process, which the standard library does not promise of its own.
#[derive(Default)]
struct Collect(Vec<u8>);

impl Hasher for Collect {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

impl Artifacts {
    /// # Errors
    /// The folder cannot be made, belongs to somebody else, or others may write to it.
    pub(crate) fn open(dir: &Path, engine: &Engine) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let folder = fs::metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
        let own = rustix::process::geteuid().as_raw();
        if folder.uid() != own || folder.mode() & 0o022 != 0 {
            bail!(
                "{} holds native code, but belongs to user {} with mode {:o}; it must belong to user {own} and be \
                 writable by nobody else (chmod 700)",
                dir.display(),
                folder.uid(),
                folder.mode() & 0o777,
            );
        }
        let mut collect = Collect::default();
        (env!("CARGO_PKG_VERSION"), REPORT_FORMAT).hash(&mut collect);
        engine.precompile_compatibility_hash().hash(&mut collect);
        let engine = Digest::of(&collect.0).to_string()[..16].to_owned();
        Ok(Self { dir: dir.to_owned(), engine })
    }

    pub(crate) fn code(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{digest}-{}.cwasm", self.engine))
    }

    fn report_path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{digest}-{}.json", self.engine))
    }

    /// What is known of a component that was compiled before, by this process or an earlier one.
    pub(crate) fn report(&self, digest: Digest) -> Option<Report> {
        let report = fs::read(self.report_path(digest)).ok()?;
        let report = serde_json::from_slice(&report).ok()?;
        self.code(digest).exists().then_some(report)
    }

    /// A place for code that is not whole yet, in the same folder.
    pub(crate) fn scratch(&self) -> std::io::Result<tempfile::TempPath> {
        Ok(tempfile::Builder::new().prefix("new-").tempfile_in(&self.dir)?.into_temp_path())
    }

    /// Puts finished code and its report in place: the code first, whole and on the disk, then what vouches for it.
    pub(crate) fn keep(&self, digest: Digest, code: tempfile::TempPath, report: &Report) -> anyhow::Result<()> {
        fs::File::open(&code)?.sync_all()?;
        code.persist(self.code(digest))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer(&mut file, report)?;
        file.as_file().sync_all()?;
        file.persist(self.report_path(digest))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let engine = super::super::engine::compiling().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Artifacts::open(dir.path(), &engine).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Artifacts::open(dir.path(), &engine).unwrap();
    }
}
