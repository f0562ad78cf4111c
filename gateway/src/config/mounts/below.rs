//! Opens files below a folder, and refuses a link or `..` that leads elsewhere.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

pub(crate) const FILES_BYTES_MAX: u64 = 256 << 20;

/// Opens a file or folder below `root`, and refuses a link or `..` that leads elsewhere.
pub(super) fn open_below(root: &Path, name: &Path, flags: OFlags) -> Result<File, String> {
    let open = || {
        let folder = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        openat2(folder, name, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)
    };
    let opened = open().map_err(|error| match error {
        rustix::io::Errno::XDEV => format!("{} leads out of the application's folder", name.display()),
        rustix::io::Errno::ACCESS => crate::confine::refused(&root.join(name), &error.into()),
        error => format!("{}: {error}", name.display()),
    });
    opened.map(File::from)
}

pub(super) fn read_below(root: &Path, name: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let file = open_below(root, name, OFlags::NONBLOCK)?;
    let told = |error: std::io::Error| format!("{}: {error}", name.display());
    if !file.metadata().map_err(told)?.is_file() {
        return Err(format!("{} is neither a file nor a folder", name.display()));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{}: with this file, more than {} MiB of files", name.display(), FILES_BYTES_MAX >> 20));
    }
    Ok(bytes)
}
