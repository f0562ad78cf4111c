//! One file of lines for each tenant, in one folder.
//!
//! Limit: at [`FILE_BYTES_MAX`] a file is renamed to `.1`, which replaces an older one. At most [`FILES_MAX`] files are
//! open at once.
//!
//! Security: the file's name is the tenant's id, whose alphabet has no `/` and no dot.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::ids::TenantId;

const FILE_BYTES_MAX: u64 = 10 << 20;
const FILES_MAX: usize = 64;

/// The files of one folder, written by one thread.
pub(super) struct TenantFiles {
    dir: PathBuf,
    open: HashMap<TenantId, Open>,
}

struct Open {
    file: BufWriter<File>,
    bytes: u64,
}

impl TenantFiles {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: HashMap::new() }
    }

    /// Writes a whole line, or logs why it cannot.
    pub(super) fn write(&mut self, tenant: &TenantId, line: &str) {
        if let Err(error) = self.try_write(tenant, line) {
            tracing::warn!(target: "telemetry", %tenant, %error, "a tenant's log cannot be written");
        }
    }

    fn try_write(&mut self, tenant: &TenantId, line: &str) -> std::io::Result<()> {
        if !self.open.contains_key(tenant) && self.open.len() >= FILES_MAX {
            self.open.clear();
        }
        let path = self.dir.join(format!("{tenant}.log"));
        let file = match self.open.entry(tenant.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(open(&path)?),
        };
        if file.bytes > FILE_BYTES_MAX {
            file.file.flush()?;
            std::fs::rename(&path, path.with_extension("log.1"))?;
            *file = open(&path)?;
        }
        file.bytes += line.len() as u64;
        file.file.write_all(line.as_bytes())
    }

    /// Closes all files. Each is opened again for its next line.
    pub(super) fn reopen(&mut self) {
        self.flush();
        self.open.clear();
    }

    pub(super) fn flush(&mut self) {
        for open in self.open.values_mut() {
            // The tenant's next line reports the problem with its file.
            let _later = open.file.flush();
        }
    }
}

fn open(path: &Path) -> std::io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file: BufWriter::new(file), bytes })
}
