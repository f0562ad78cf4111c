//! Backs up the whole embedded store as one file: a snapshot, read while others write; and restores a store from it.
//!
//! `form` is the file format, `snapshot` writes it, `folder` does so for a store that no gateway serves, and `restored`
//! makes a store of it.
//!
//! Invariant: a backup contains one commit, with its sums of usage: no write is in it in part. An altered or truncated
//! backup is refused before anything changes.
//!
//! Security: a backup contains every tenant's data. Only the operators' token with full rights can get one, and users who
//! can read the file itself.

mod folder;
mod format;
mod restore;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use folder::Folder;
pub(crate) use format::Summary;
use format::{Record, Table};
pub(crate) use restore::{Existing, restore, verified};
use snapshot::Snapshot;

use super::{Embedded, internal};
use crate::store::backend::Backend;
use crate::store::{Error, Result, Store};

/// The store's file may grow to twice its size while a backup is taken, or by this much where that is more: the snapshot keeps
/// every page that tenants overwrite meanwhile, which no quota counts.
const GROWTH_MAX: u64 = 1 << 30;
const GREW: &str = "the store's file grew to twice its size (by 1 GiB at least) while the backup was taken, because tenants wrote so much. \
                    Take the backup again when they write less, or to a faster disk";

/// No tenant has this name: a backup takes turns at reading like one more tenant.
const OWNER: &[u8] = b"";

/// A snapshot of the store that is served, read piece by piece.
#[derive(Debug)]
pub(crate) struct Backup {
    of: Arc<Backend>,
    /// The size of the store's file from which the backup ends.
    file_bytes_max: u64,
    /// Nothing once it is read to its end.
    snapshot: Option<Snapshot>,
}

impl Store {
    /// The embedded store at this moment. Nothing if tenants' data is elsewhere.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn backup(&self) -> Result<Option<Backup>> {
        let Backend::Embedded(embedded) = &*self.home else { return Ok(None) };
        let snapshot = embedded.database.with(|database| Snapshot::of(database).map_err(internal))?;
        let bytes = embedded.file_bytes();
        let file_bytes_max = bytes.saturating_add(bytes.max(GROWTH_MAX));
        Ok(Some(Backup { of: Arc::clone(&self.home), file_bytes_max, snapshot: Some(snapshot) }))
    }
}

impl Embedded {
    /// The size of the store's file. 0 if it cannot be told.
    fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |found| found.len())
    }
}

impl Backup {
    /// The next piece of the file. Nothing after the last.
    ///
    /// # Errors
    /// The file cannot be read, or grew by too much since the snapshot was taken.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let (Backend::Embedded(embedded), Some(mut snapshot)) = (&*self.of, self.snapshot.take()) else {
            return Ok(None);
        };
        if embedded.file_bytes() > self.file_bytes_max {
            return Err(Error::TooLarge(GREW));
        }
        let read = embedded.readers.once(OWNER, move |view| {
            let piece = snapshot.next().map_err(internal)?;
            view.price += piece.as_ref().map_or(0, Vec::len);
            Ok((snapshot, piece))
        });
        let (snapshot, piece) = read.await?;
        self.snapshot = piece.is_some().then_some(snapshot);
        Ok(piece)
    }
}
