//! Restores a backup in place of a store that no gateway serves.
//!
//! Invariant: the existing store stays as it is until the new one is complete and synced to disk; then one rename replaces
//! it. Meanwhile the lock of the old store is held, so that no gateway opens it.

use std::fs::{self, DirBuilder, TryLockError};
use std::io::{BufReader, ErrorKind, Seek as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use redb::{Builder, Database, WriteTransaction};
use rustix::fs::{CWD, RenameFlags};

use super::super::entries::{CHUNKS, ENTRIES, Place as Key};
use super::super::expiry::DUE;
use super::super::layout::LAYOUTS;
use super::super::tables::{File, USAGE, WASTE};
use super::super::{CACHE_BYTES, FILE};
use super::format::{BackupReader, Summary, verify};
use super::{Record, Table};

/// Bytes that are written in one transaction.
const GROUP_BYTES: usize = 32 << 20;
const READ_BYTES: usize = 256 << 10;
/// The file's name beside the store, until it is complete.
const UNDER_WAY: &str = "tollgate.redb.restored";

/// Whether an existing store may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Kept,
    Replaced,
}

/// Reads a backup to its end.
///
/// # Errors
/// In words for the operator: it cannot be read, is not a backup, is truncated, or was altered.
pub(crate) fn verified(backup: &Path) -> anyhow::Result<(fs::File, Summary)> {
    let read = || {
        let file = fs::File::open(backup).context("cannot read it")?;
        let summary = verify(BufReader::with_capacity(READ_BYTES, &file))?;
        anyhow::Ok((file, summary))
    };
    read().with_context(|| backup.display().to_string())
}

/// Restores a backup in this folder.
///
/// # Errors
/// In words for the operator. The existing store is unchanged.
pub(crate) fn restore(backup: &Path, dir: &Path, existing: Existing) -> anyhow::Result<Summary> {
    let (mut file, summary) = verified(backup)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    let target = dir.join(FILE);
    let before = held(&target)?;
    ensure!(
        before.is_none() || existing == Existing::Replaced,
        "{} is there already: --replace puts the backup in its place, and what is in it is lost",
        target.display()
    );
    let new = Unfinished(dir.join(UNDER_WAY));
    file.rewind().with_context(|| format!("cannot read {}", backup.display()))?;
    let written = new.write(BufReader::with_capacity(READ_BYTES, &file));
    let written = written.with_context(|| format!("cannot write {}", new.0.display()))?;
    ensure!(written == summary, "{} changed while it was read", backup.display());
    owned_as(&new.0, dir).with_context(|| format!("cannot give {} to the owner of its folder", new.0.display()))?;
    let renamed = match before {
        Some(_) => fs::rename(&new.0, &target),
        // A gateway that started meanwhile has created a store.
        None => {
            rustix::fs::renameat_with(CWD, &new.0, CWD, &target, RenameFlags::NOREPLACE).map_err(std::io::Error::from)
        }
    };
    renamed.with_context(|| format!("cannot put the store at {}", target.display()))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot write {}", dir.display()))?;
    drop(before);
    Ok(summary)
}

/// The existing store, with its lock.
fn held(target: &Path) -> anyhow::Result<Option<fs::File>> {
    let file = match fs::File::options().read(true).write(true).open(target) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(|| format!("cannot open {}", target.display()))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            bail!("a gateway serves {}: stop it (`tollgate drain`), and restore then", target.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", target.display())),
    }
}

/// As root, gives the file to the user whose gateway has to open it.
fn owned_as(path: &Path, dir: &Path) -> std::io::Result<()> {
    let (of_dir, own) = (fs::metadata(dir)?, fs::metadata(path)?);
    if (of_dir.uid(), of_dir.gid()) == (own.uid(), own.gid()) || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(of_dir.uid()), Some(of_dir.gid()))
}

/// An incomplete store, removed on drop.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // A complete store has been renamed by now.
        let _gone = fs::remove_file(&self.0);
    }
}

impl Unfinished {
    fn write(&self, backup: impl std::io::Read) -> anyhow::Result<Summary> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let database = Builder::new().set_cache_size(CACHE_BYTES).create(&self.0)?;
        let mut backup = BackupReader::open(backup)?;
        while group(&database, &mut backup)? {}
        database.close()?;
        fs::File::open(&self.0)?.sync_all()?;
        Ok(backup.summary())
    }
}

/// Writes some records in one transaction. Returns whether there may be more.
fn group(database: &Database, backup: &mut BackupReader<impl std::io::Read>) -> anyhow::Result<bool> {
    let write = database.begin_write()?;
    let mut rows = Rows::open(&write)?;
    let mut bytes = 0;
    let has_more = loop {
        if bytes >= GROUP_BYTES {
            break true;
        }
        let Some(record) = backup.next()? else { break false };
        bytes += record.parts.iter().map(Vec::len).sum::<usize>();
        rows.put(&record)?;
    };
    drop(rows);
    write.commit()?;
    Ok(has_more)
}

/// The tables of the new store. Each exists even without rows.
struct Rows<'t> {
    entries: redb::Table<'t, Key, &'static [u8]>,
    chunks: redb::Table<'t, u64, &'static [u8]>,
    usage: redb::Table<'t, &'static [u8], (u64, u64)>,
    waste: redb::Table<'t, (&'static [u8], u64), u64>,
    layouts: redb::Table<'t, &'static [u8], u16>,
    due: redb::Table<'t, (&'static [u8], u64, &'static [u8]), ()>,
}

impl<'t> Rows<'t> {
    fn open(write: &'t WriteTransaction) -> File<Self> {
        Ok(Self {
            entries: write.open_table(ENTRIES)?,
            chunks: write.open_table(CHUNKS)?,
            usage: write.open_table(USAGE)?,
            waste: write.open_table(WASTE)?,
            layouts: write.open_table(LAYOUTS)?,
            due: write.open_table(DUE)?,
        })
    }

    fn put(&mut self, record: &Record) -> anyhow::Result<()> {
        let [first, second, third] = [0, 1, 2].map(|at| record.bytes(at));
        let number = |at| record.number(at);
        match record.table {
            Table::Entries => drop(self.entries.insert((first, second), third)?),
            Table::Chunks => drop(self.chunks.insert(number(0)?, second)?),
            Table::Usage => drop(self.usage.insert(first, (number(1)?, number(2)?))?),
            Table::Waste => drop(self.waste.insert((first, number(1)?), number(2)?)?),
            Table::Layouts => drop(self.layouts.insert(first, u16::try_from(number(1)?)?)?),
            Table::Due => drop(self.due.insert((first, number(1)?, third), ())?),
        }
        Ok(())
    }
}
