//! How a tenant is laid out, where that is other than the usual way: one line, written once.

use std::sync::Arc;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use super::names::first_bucket;
use super::{Embedded, internal};
use crate::store::Result;
use crate::store::layout::Bucket;

/// Over how many shards a tenant is spread.
const LAYOUTS: TableDefinition<'static, &[u8], u16> = TableDefinition::new("layouts");

impl Embedded {
    pub(in crate::store) async fn note_layout(&self, layout: &Bucket, (prefix, shards): (&str, u16)) -> Result<u16> {
        if let Some(noted) = self.noted_layout(layout)? {
            return Ok(noted);
        }
        let prefix = prefix.as_bytes().to_vec();
        let has_unspread = self.reading(move |database| Ok(first_bucket(database, &prefix)?.is_some())).await?;
        if shards == 1 || has_unspread {
            return Ok(1);
        }
        self.set_layout(layout, Some(shards)).await
    }

    pub(in crate::store) fn noted_layout(&self, layout: &Bucket) -> Result<Option<u16>> {
        let read = self.database.begin_read().map_err(internal)?;
        let table = match read.open_table(LAYOUTS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table.map_err(internal)?,
        };
        Ok(table.get(layout.as_bytes()).map_err(internal)?.map(|shards| shards.value()))
    }

    pub(in crate::store) async fn forget_layout(&self, layout: &Bucket) -> Result<()> {
        if self.noted_layout(layout)?.is_some() {
            self.set_layout(layout, None).await?;
        }
        Ok(())
    }

    /// In a transaction of its own, behind the writer's; what somebody else noted meanwhile stands.
    async fn set_layout(&self, layout: &Bucket, shards: Option<u16>) -> Result<u16> {
        let (database, layout) = (Arc::clone(&self.database), layout.clone());
        let set = move || set_layout(&database, &layout, shards).map_err(internal);
        tokio::task::spawn_blocking(set).await.map_err(internal)?
    }
}

fn set_layout(database: &Database, layout: &Bucket, shards: Option<u16>) -> std::result::Result<u16, redb::Error> {
    let transaction = database.begin_write()?;
    let mut table = transaction.open_table(LAYOUTS)?;
    let noted = table.get(layout.as_bytes())?.map(|shards| shards.value());
    let stands = match (noted, shards) {
        (Some(noted), Some(_)) => noted,
        (None, Some(shards)) => {
            table.insert(layout.as_bytes(), shards)?;
            shards
        }
        (_, None) => {
            table.remove(layout.as_bytes())?;
            1
        }
    };
    drop(table);
    transaction.commit()?;
    Ok(stands)
}
