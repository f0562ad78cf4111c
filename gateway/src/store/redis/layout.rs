//! A tenant's number of shards: one key beside its data, set once.

use deadpool_redis::redis::Cmd;

use super::Redis;
use crate::store::Result;
use crate::store::layout::Bucket;

impl Redis {
    pub(in crate::store) async fn note_layout(&self, layout: &Bucket, shards: u16) -> Result<u16> {
        let mut note = Cmd::new();
        note.arg("SETNX").arg(layout.as_bytes()).arg(shards);
        self.command::<bool>(layout.as_bytes(), &note).await?;
        Ok(self.noted_layout(layout).await?.unwrap_or(shards))
    }

    pub(in crate::store) async fn noted_layout(&self, layout: &Bucket) -> Result<Option<u16>> {
        let mut ask = Cmd::new();
        self.command(layout.as_bytes(), ask.arg("GET").arg(layout.as_bytes())).await
    }

    pub(in crate::store) async fn forget_layout(&self, layout: &Bucket) -> Result<()> {
        let mut forget = Cmd::new();
        self.command(layout.as_bytes(), forget.arg("UNLINK").arg(layout.as_bytes())).await
    }
}
