//! What the process may still do while it serves: files by landlock(7), system calls by seccomp(2).
//!
//! A guest that breaks out of its sandbox finds a process that can open only the files that it needs, starts no process,
//! and cannot inspect another process. Each of the three kinds of process has its own restrictions:
//! - the gateway ([`gateway`]) reads what its configuration names and writes to the state folder;
//! - its helper ([`helper`]) starts before that, has no sockets of its own, and executes this program and no other;
//! - a compiling child ([`child`]) opens no file, no socket and no process: it has three pipes and its output.
//!
//! Each function restricts the calling thread and every thread and process that this thread starts. So the gateway calls it
//! before it starts another thread: before ABI version 8 (Linux 7.0), landlock cannot restrict threads that already exist.
//! Security: only the kernel's refusals count here. The [`Outcome`] lists what the kernel could not restrict; the log
//! states it once at the start.

mod calls;
mod files;
mod system;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use files::{Rights, Rules};

/// What a gateway needs while it serves, beside the files that system libraries read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// Folders and files to read.
    pub(crate) read: BTreeSet<PathBuf>,
    /// Folders in which the gateway creates, changes and removes files.
    pub(crate) write: BTreeSet<PathBuf>,
    /// TCP ports to listen on; 0 stands for any free port.
    pub(crate) ports: BTreeSet<u16>,
}

/// Which restrictions the kernel accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The version of landlock's ABI, or why there is no landlock.
    landlock: Result<u32, String>,
    seccomp: Result<(), String>,
}

/// What landlock learnt to restrict since its first version, and in which version.
const LEARNT: [(u32, &str); 4] = [
    (3, "truncating a file (version 3, Linux 6.2)"),
    (4, "listening on a port (version 4, Linux 6.7)"),
    (5, "commands to devices (version 5, Linux 6.10)"),
    (6, "signals and abstract sockets (version 6, Linux 6.12)"),
];

impl Outcome {
    /// The restrictions in force, in words.
    pub(crate) fn had(&self) -> String {
        let landlock = self.landlock.as_ref().map(|version| format!("landlock (version {version})"));
        let seccomp = self.seccomp.as_ref().map(|()| "seccomp".to_owned());
        let had: Vec<String> = landlock.into_iter().chain(seccomp).collect();
        if had.is_empty() { "nothing".to_owned() } else { had.join(" and ") }
    }

    /// What the kernel does not restrict, in words. Nothing if it restricts everything.
    pub(crate) fn missing(&self) -> Option<String> {
        let mut missing = Vec::new();
        match &self.landlock {
            Ok(version) => {
                let later = LEARNT.iter().filter(|(since, _)| since > version);
                missing.extend(later.map(|(_, what)| format!("landlock does not restrict {what}")));
            }
            Err(why) => missing.push(format!("no landlock: any file can be opened ({why})")),
        }
        if let Err(why) = &self.seccomp {
            missing.push(format!("no seccomp: every system call is possible ({why})"));
        }
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

/// How this process is confined, for explaining a refusal later.
static CONFINED: OnceLock<Confined> = OnceLock::new();

struct Confined {
    /// Canonical paths below which files may be read.
    read: Vec<PathBuf>,
    /// Keeps the kernel's entry for `/proc/self` alive. The landlock rule refers to this entry; another lookup could create
    /// a new one.
    _proc: Option<landlock::PathFd>,
}

/// Confines the gateway, from this thread on.
pub(crate) fn gateway(reach: &Reach) -> Outcome {
    let read = system::read_by_libraries().into_iter().chain(reach.read.iter().cloned());
    let read: BTreeSet<PathBuf> = read.collect();
    let rules = Rules {
        files: vec![
            (Rights::Read, read.iter().cloned().collect()),
            (Rights::ReadFiles, system::etc()),
            (Rights::Change, reach.write.iter().cloned().collect()),
            (Rights::Use, system::devices()),
        ],
        ports: Some(reach.ports.iter().copied().collect()),
        whole: false,
    };
    let proc = landlock::PathFd::new("/proc/self").ok();
    let outcome = Outcome { landlock: files::restrict(&rules), seccomp: calls::gateway() };
    if outcome.landlock.is_ok() {
        let real = |path: &PathBuf| path.canonicalize().ok();
        let read = read.iter().chain(&reach.write).chain(&system::etc()).filter_map(real).collect();
        // Each process does this once.
        let _first = CONFINED.set(Confined { read, _proc: proc });
    }
    outcome
}

/// Forbids new listening sockets on every thread of this process. After the start, the process has all that it needs.
///
/// # Errors
/// In words for the operator: the kernel refused the filter.
pub(crate) fn started() -> Result<(), String> {
    calls::started()
}

/// Confines the helper, which executes only this program, to compile into `dir`.
pub(crate) fn helper(dir: &Path) -> Outcome {
    let rules = Rules {
        files: vec![
            (Rights::Execute, system::program()),
            (Rights::Read, system::libraries().into_iter().collect()),
            // The child reads its own size in `/proc`, under a process id that is not known in advance.
            (
                Rights::Read,
                ["/proc", "/sys/devices/system", "/sys/fs/cgroup", "/etc/ld.so.cache"].map(Into::into).into(),
            ),
            (Rights::Change, vec![dir.to_owned()]),
            (Rights::Use, system::devices()),
        ],
        ports: Some(Vec::new()),
        whole: false,
    };
    Outcome { landlock: files::restrict(&rules), seccomp: calls::helper() }
}

/// Confines a compiling child to the files that it has open.
pub(crate) fn child() -> Outcome {
    let rules = Rules { files: Vec::new(), ports: Some(Vec::new()), whole: true };
    Outcome { landlock: files::restrict(&rules), seccomp: calls::child() }
}

/// What this kernel can restrict, tested in a thread that then ends.
pub(crate) fn ability() -> Outcome {
    let tried = std::thread::spawn(|| Outcome {
        landlock: files::restrict(&Rules { files: Vec::new(), ports: Some(Vec::new()), whole: false }),
        seccomp: calls::gateway(),
    });
    let failed = |_panicked| Outcome { landlock: Err("it failed".to_owned()), seccomp: Err("it failed".to_owned()) };
    tried.join().unwrap_or_else(failed)
}

/// Explains in words why a file cannot be opened. If this process confined itself, says what to do.
pub(crate) fn refused(path: &Path, error: &std::io::Error) -> String {
    let told = format!("{}: {error}", path.display());
    let is_outside = |confined: &Confined| {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        confined.read.iter().all(|dir| !real.starts_with(dir))
    };
    if error.kind() == ErrorKind::PermissionDenied && CONFINED.get().is_some_and(is_outside) {
        told + ": the gateway confined itself at its start, and no file named this folder then: restart the gateway, \
            add the folder to `sandbox.confine_read`, or set `sandbox.confine = false`"
    } else {
        told
    }
}
