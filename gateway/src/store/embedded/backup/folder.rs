//! Reads a store that no gateway serves, for a backup.

use std::path::Path;

use anyhow::{Context as _, bail};
use redb::{Builder, Database, DatabaseError, ReadOnlyDatabase};

use super::super::tables::File;
use super::super::{CACHE_BYTES, FILE};
use super::Snapshot;

/// See the top of this file. Meanwhile no gateway can open the store.
pub(crate) struct Folder {
    snapshot: Snapshot,
    _open: Open,
}

/// Held while the snapshot is read.
enum Open {
    Clean { _database: ReadOnlyDatabase },
    Repaired { _database: Database },
}

impl Folder {
    /// Opens the store in this folder. Repairs it if it was not closed properly, as a starting gateway does. Nothing if
    /// there is no store.
    ///
    /// # Errors
    /// In words for the operator: a gateway has it open, or it cannot be read.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(FILE);
        if !path.try_exists().with_context(|| format!("cannot look for {}", path.display()))? {
            return Ok(None);
        }
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let opened = match builder.open_read_only(&path) {
            Ok(database) => (Snapshot::of(&database), Open::Clean { _database: database }),
            Err(DatabaseError::DatabaseAlreadyOpen) => bail!("another process has {} open", path.display()),
            Err(DatabaseError::RepairAborted) => {
                let database = builder.open(&path).with_context(|| format!("cannot repair {}", path.display()))?;
                (Snapshot::of(&database), Open::Repaired { _database: database })
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let (snapshot, open) = opened;
        let snapshot = known(snapshot).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(Self { snapshot, _open: open }))
    }

    /// The next piece of the backup. Nothing after the last.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        self.snapshot.next().context("cannot read the store")
    }
}

fn known(snapshot: File<Snapshot>) -> anyhow::Result<Snapshot> {
    match snapshot {
        Err(redb::Error::TableDoesNotExist(_)) => {
            bail!("it is of an earlier version: start this version's gateway on it once, which brings it over")
        }
        snapshot => Ok(snapshot?),
    }
}
