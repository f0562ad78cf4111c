//! Compiled components on disk: `<digest>-<engine>.cwasm` with a report beside each, and notes about components that cannot
//! be compiled.
//!
//! Security: a `.cwasm` is native code that this process maps and runs. The folder belongs to the gateway's user, and
//! nobody else may write to it; this is checked at the start. Each file is checked before it is mapped: a regular file of
//! this user, writable by nobody else, with the digest that was noted when it was created. In one process, the digest of a
//! file that does not change is computed once (by device, inode, size and times).

use std::collections::HashMap;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use super::compile::{CHILD_STACK_BYTES, CODE_BYTES_MAX, NAMES_BYTES_MAX, NAMES_MAX, REPORT_BYTES_MAX};
use super::compiler::CompileError;
use super::engine::{Calls, Each};
use crate::ids::Digest;

/// What compiling found out about a component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
    /// The kind of engine for which it was compiled.
    pub(super) calls: Calls,
    /// The interface by which it answers requests: `0.2` or `0.3` of wasi:http, `spin-1`, or nothing.
    pub(crate) handler: Option<String>,
    /// Imports that the gateway does not serve.
    pub(crate) unserved: Vec<String>,
    /// The linker's error, if it refused the component.
    pub(crate) link_error: Option<String>,
    /// Whether a message may start it.
    #[serde(default)]
    pub(crate) listens: bool,
    /// Whether a schedule may start it.
    #[serde(default)]
    pub(crate) is_timed: bool,
    /// What is wrong with the parameters and results of its handler's function.
    pub(crate) handler_error: Option<String>,
    /// Bytes of its largest memory at the start.
    pub(crate) memory_bytes_min: u64,
    /// The SHA-256 of the compiled code, in hexadecimal. The child leaves it empty.
    #[serde(default)]
    pub(crate) code_sha256: String,
}

/// The limits under which a component is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounds {
    memory: u64,
    processor_time: Duration,
    /// The limits that are not configurable.
    fixed: [usize; 5],
}

impl Bounds {
    pub(super) const fn of(memory: u64, processor_time: Duration) -> Self {
        let fixed = [CHILD_STACK_BYTES, CODE_BYTES_MAX, NAMES_MAX, NAMES_BYTES_MAX, REPORT_BYTES_MAX];
        Self { memory, processor_time, fixed }
    }
}

/// A component that was refused, and the limits. Under other limits it may be tried again.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    format: u32,
    error: CompileError,
    bounds: Bounds,
}

/// Increases when the rules or the texts of refusals change, so that the gateway compiles again instead of believing an old verdict. The
/// first format also recorded what the clock or the machine had caused; the second had texts in other words.
const REFUSAL_FORMAT: u32 = 3;

/// Identifies the file whose digest was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), bytes: file.len(), changed: (file.ctime(), file.ctime_nsec()) }
    }
}

/// An open file of compiled code that passed the checks.
pub(super) struct Code {
    file: fs::File,
    pub(super) bytes: u64,
    /// The kind of engine for which it is.
    pub(super) calls: Calls,
}

impl Code {
    /// A path to exactly the open file, whatever its name refers to by now.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/fd/{}", self.file.as_raw_fd()))
    }
}

/// Increased when a report's fields change or change their meaning, so that no older report is read as a current one.
const REPORT_FORMAT: u32 = 8;

/// The folder of compiled components.
#[derive(Clone, Debug)]
pub(crate) struct Artifacts {
    dir: PathBuf,
    vouched: Arc<Mutex<HashMap<Digest, (Stamp, Calls)>>>,
    /// Identifies the engines' version and settings: other ones produce other code.
    engines: String,
}

/// A hasher with the same result in every process. The standard library does not promise that of its own.
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
    /// The folder cannot be created, belongs to another user, or others may write to it.
    pub(super) fn open(dir: &Path, engines: &Each<Engine>) -> anyhow::Result<Self> {
        make_folder(dir)?;
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
        engines.single.precompile_compatibility_hash().hash(&mut collect);
        engines.concurrent.precompile_compatibility_hash().hash(&mut collect);
        // A report depends on the interfaces that are served.
        (crate::host::SERVED, crate::host::DENIED).hash(&mut collect);
        // It also depends on which interface belongs to which capability, because that decides what a part is denied.
        crate::host::CAPABILITIES.hash(&mut collect);
        let engines = Digest::of(&collect.0).to_string()[..16].to_owned();
        Ok(Self { dir: dir.to_owned(), vouched: Arc::default(), engines })
    }

    fn path(&self, digest: Digest, kind: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{}.{kind}", self.engines))
    }

    /// The report about a component that this process or an earlier one compiled, if its code is valid.
    pub(super) fn report(&self, digest: Digest) -> Option<Report> {
        let report = self.read_report(digest)?;
        match self.open_code(digest) {
            Ok(_good) => Some(report),
            Err(error) => {
                if self.path(digest, "cwasm").exists() {
                    tracing::error!(target: "sandbox", %digest, "compiled code is not used: {error:#}; the gateway \
                        compiles the component again");
                }
                None
            }
        }
    }

    fn read_report(&self, digest: Digest) -> Option<Report> {
        serde_json::from_slice(&fs::read(self.path(digest, "json")).ok()?).ok()
    }

    /// Opens the compiled code and checks it.
    ///
    /// # Errors
    /// The file does not exist, or this gateway did not create it.
    pub(super) fn open_code(&self, digest: Digest) -> anyhow::Result<Code> {
        let path = self.path(digest, "cwasm");
        let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits())?;
        let file = fs::OpenOptions::new().read(true).custom_flags(no_links).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let found = file.metadata()?;
        let own = rustix::process::geteuid().as_raw();
        if !found.is_file() || found.uid() != own || found.mode() & 0o022 != 0 {
            let (owner, mode) = (found.uid(), found.mode() & 0o777);
            bail!(
                "{} belongs to user {owner} with mode {mode:o}; it must belong to user {own} and be writable by \
                nobody else",
                path.display()
            );
        }
        let stamp = Stamp::of(&found);
        let vouched = self.vouched.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied();
        let calls = match vouched {
            Some((known, calls)) if known == stamp => calls,
            _ => {
                let noted = self.read_report(digest).context("its digest is not recorded")?;
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut &file, &mut bytes)?;
                if Digest::of(&bytes).to_string() != noted.code_sha256 {
                    bail!("{} has another digest than when it was written", path.display());
                }
                let mut vouched = self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
                vouched.insert(digest, (stamp, noted.calls));
                noted.calls
            }
        };
        Ok(Code { file, bytes: stamp.bytes, calls })
    }

    /// Why a component is refused under these limits, if that is known.
    pub(super) fn refusal(&self, digest: Digest, bounds: &Bounds) -> Option<CompileError> {
        let refusal: Refusal = serde_json::from_slice(&fs::read(self.path(digest, "refused")).ok()?).ok()?;
        let is_believed = refusal.format == REFUSAL_FORMAT && refusal.bounds == *bounds;
        (is_believed && refusal.error.is_of_component()).then_some(refusal.error)
    }

    pub(super) fn keep_refusal(&self, digest: Digest, error: &CompileError, bounds: &Bounds) -> anyhow::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        let refusal = Refusal { format: REFUSAL_FORMAT, error: error.clone(), bounds: bounds.clone() };
        serde_json::to_writer(&mut file, &refusal)?;
        file.persist(self.path(digest, "refused"))?;
        Ok(())
    }

    /// A temporary file in the same folder, for code that is not complete yet.
    pub(super) fn scratch(&self) -> std::io::Result<tempfile::TempPath> {
        Ok(tempfile::Builder::new().prefix("new-").tempfile_in(&self.dir)?.into_temp_path())
    }

    /// Stores finished code and its report: first the code, complete and synced to disk, then the report that vouches for
    /// it.
    pub(super) fn keep(&self, digest: Digest, code: tempfile::TempPath, report: Report) -> anyhow::Result<Report> {
        let bytes = fs::read(&code)?;
        fs::File::open(&code)?.sync_all()?;
        code.persist(self.path(digest, "cwasm"))?;
        let report = Report { code_sha256: Digest::of(&bytes).to_string(), ..report };
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer(&mut file, &report)?;
        file.as_file().sync_all()?;
        file.persist(self.path(digest, "json"))?;
        Ok(report)
    }
}

/// Creates the folder of compiled code, for this user alone, if it does not exist.
///
/// # Errors
/// In words for the operator.
pub(super) fn make_folder(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the folder {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn engines() -> Each<Engine> {
        Each::try_from(|calls| super::super::engine::compiling(calls, true)).unwrap()
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let engines = engines();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Artifacts::open(dir.path(), &engines).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Artifacts::open(dir.path(), &engines).unwrap();
    }

    #[test]
    fn code_that_somebody_else_may_have_written_is_refused() {
        let engines = engines();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let open = || Artifacts::open(dir.path(), &engines).unwrap();
        let artifacts = open();
        let digest = Digest::of(b"some wasm");
        let code = artifacts.scratch().unwrap();
        fs::write(&code, b"some code").unwrap();
        artifacts.keep(digest, code, Report::default()).unwrap();
        assert!(artifacts.report(digest).is_some());
        let path = artifacts.path(digest, "cwasm");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(artifacts.open_code(digest).is_err(), "others may write to it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(artifacts.open_code(digest).is_ok());
        fs::write(&path, b"evil code").unwrap();
        assert!(artifacts.open_code(digest).is_err(), "changed since it was vouched for");
        assert!(open().report(digest).is_none(), "by another process as well");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/bin/true", &path).unwrap();
        assert!(artifacts.open_code(digest).is_err(), "a link");
    }

    #[test]
    fn a_refusal_is_believed_only_under_its_limits_and_only_about_the_component() {
        let engines = engines();
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(&dir.path().join("compiled"), &engines).unwrap();
        let digest = Digest::of(b"a slow one");
        let time = Duration::from_secs(10);
        let bounds = Bounds::of(1, time);
        let slow = CompileError::TookTooLong(time);
        artifacts.keep_refusal(digest, &slow, &bounds).unwrap();
        assert_eq!(artifacts.refusal(digest, &bounds), Some(slow.clone()));
        assert_eq!(artifacts.refusal(digest, &Bounds::of(1, time * 2)), None, "more time may do");
        assert_eq!(artifacts.refusal(digest, &Bounds::of(2, time)), None, "more memory may do");
        assert_eq!(
            artifacts.refusal(digest, &Bounds { fixed: [0; 5], ..bounds.clone() }),
            None,
            "other bounds of ours"
        );
        // Notes of another version, and notes that blame the machine.
        let note = |text: String| fs::write(artifacts.path(digest, "refused"), text).unwrap();
        note(serde_json::json!({ "error": { "TimedOut": time }, "memory": 1, "time": time }).to_string());
        assert_eq!(artifacts.refusal(digest, &bounds), None, "of the first format");
        for (format, error) in [(1, slow), (REFUSAL_FORMAT, CompileError::Killed("signal: 9 (SIGKILL)".to_owned()))] {
            note(serde_json::to_string(&Refusal { format, error, bounds: bounds.clone() }).unwrap());
            assert_eq!(artifacts.refusal(digest, &bounds), None, "format {format}");
        }
    }
}
