//! How many shards a tenant has, if it is not the usual one: one row, written once.

use redb::{ReadableTable as _, TableDefinition};

use super::jobs::{Outcome, Work};
use super::names::first_bucket;
use super::tables::{File, Tables};
use super::{Embedded, internal};
use crate::store::account::Account;
use crate::store::layout::Bucket;
use crate::store::{Error, Result};

/// The number of shards of a tenant.
pub(super) const LAYOUTS: TableDefinition<'static, &[u8], u16> = TableDefinition::new("layouts");

impl Embedded {
    pub(in crate::store) async fn note_layout(&self, layout: &Bucket, (prefix, shards): (&str, u16)) -> Result<u16> {
        if let Some(noted) = self.noted_layout(layout)? {
            return Ok(noted);
        }
        let prefix = prefix.as_bytes().to_vec();
        let first = move |view: &mut super::View| Ok(first_bucket(view, &prefix)?.is_some());
        let has_unspread = self.readers.once(layout.owner(), first).await?;
        if shards == 1 || has_unspread {
            return Ok(1);
        }
        self.set_layout(layout, Some(shards)).await
    }

    pub(in crate::store) fn noted_layout(&self, layout: &Bucket) -> Result<Option<u16>> {
        let read = self.database.begin_read()?;
        let table = read.open_table(LAYOUTS).map_err(internal)?;
        Ok(table.get(layout.as_bytes()).map_err(internal)?.map(|shards| shards.value()))
    }

    pub(in crate::store) async fn forget_layout(&self, layout: &Bucket) -> Result<()> {
        if self.noted_layout(layout)?.is_some() {
            self.set_layout(layout, None).await?;
        }
        Ok(())
    }

    /// Runs on the writer, among the tenant's jobs. If another job noted a number meanwhile, that one stays.
    async fn set_layout(&self, layout: &Bucket, shards: Option<u16>) -> Result<u16> {
        // It counts nothing.
        let account = Account { usage: layout.clone(), allowance: None };
        match self.work(account, layout.clone(), Work::Layout(shards)).await? {
            Outcome::Layout(shards) => Ok(shards),
            Outcome::Written(_) | Outcome::Answer(_) | Outcome::Nothing => Err(Error::Internal),
        }
    }
}

impl Tables<'_> {
    pub(super) fn set_layout(&mut self, layout: &Bucket, shards: Option<u16>) -> File<u16> {
        let noted = self.layouts.get(layout.as_bytes())?.map(|shards| shards.value());
        self.is_changed = true;
        Ok(match (noted, shards) {
            (Some(noted), Some(_)) => noted,
            (None, Some(shards)) => {
                self.layouts.insert(layout.as_bytes(), shards)?;
                shards
            }
            (_, None) => {
                self.layouts.remove(layout.as_bytes())?;
                1
            }
        })
    }
}
