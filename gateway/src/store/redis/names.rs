//! Lists what a tenant has by name, by walking through the keys of the server that has its slot, and deletes it.

use deadpool_redis::redis::Cmd;

use super::{Redis, read};
use crate::store::account::Account;
use crate::store::layout::Bucket;
use crate::store::names::{Name, Names};
use crate::store::redis::node::Call;
use crate::store::{Error, Result};

/// Keys that one step looks at, of any tenant.
const STEP: usize = 500;
/// The most steps of one call, for a tenant with few keys among many.
const STEPS: usize = 50;

impl Redis {
    /// The cursor is SCAN's own. If the server was restarted or replaced meanwhile, names may be missing.
    pub(in crate::store) async fn names(&self, prefix: &[u8], cursor: Option<&str>) -> Result<Names> {
        let cursor: u64 = cursor.unwrap_or("0").parse().map_err(|_not_a_number| Error::BadCursor)?;
        let (next, keys) = self.some_keys(prefix, cursor).await?;
        let names = keys.iter().filter_map(|key| Name::parse(key.strip_prefix(prefix)?));
        Ok(Names { names: names.collect(), cursor: (next != 0).then(|| next.to_string()) })
    }

    /// Deletes whole keys, which the server frees in the background. The counted sum is deleted with the last of them.
    pub(in crate::store) async fn purge(
        &self,
        account: &Account,
        prefix: &[u8],
        only: Option<Bucket>,
    ) -> Result<Option<u64>> {
        let keys = match &only {
            Some(bucket) => vec![bucket.as_bytes().to_vec(), bucket.expiries()],
            None => self.first_keys(prefix).await?,
        };
        if keys.is_empty() {
            return Ok(None);
        }
        let mut removed = 0;
        let own = [prefix, b"q:"].concat();
        for key in keys.iter().filter(|key| !key.starts_with(&own)) {
            let count = if key.starts_with(&[prefix, b"kv:"].concat()) { "HLEN" } else { "EXISTS" };
            let mut ask = Cmd::new();
            let answer = self.call(prefix, &Call::Read(ask.arg(count).arg(key))).await?;
            removed += read::<u64>(answer)?;
        }
        let mut unlink = Cmd::new();
        unlink.arg("UNLINK");
        keys.iter().for_each(|key| _ = unlink.arg(key));
        read::<u64>(self.call(prefix, &Call::Command(&unlink)).await?)?;
        if only.is_some() {
            self.count(prefix, account).await?;
            return Ok((removed > 0).then_some(removed));
        }
        Ok(Some(removed))
    }

    /// Whether any key begins with this.
    pub(in crate::store) async fn has_any(&self, prefix: &[u8]) -> Result<bool> {
        Ok(!self.first_keys(prefix).await?.is_empty())
    }

    /// The number of keys in a store.
    pub(in crate::store) async fn length(&self, bucket: &Bucket) -> Result<u64> {
        let mut ask = Cmd::new();
        read(self.call(bucket.as_bytes(), &Call::Read(ask.arg("HLEN").arg(bucket.as_bytes()))).await?)
    }

    async fn first_keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut cursor = 0;
        loop {
            let (next, keys) = self.some_keys(prefix, cursor).await?;
            if !keys.is_empty() || next == 0 {
                return Ok(keys);
            }
            cursor = next;
        }
    }

    /// Some of the keys that begin with this, and SCAN's cursor, which is 0 at the end.
    pub(super) async fn some_keys(&self, prefix: &[u8], mut cursor: u64) -> Result<(u64, Vec<Vec<u8>>)> {
        // Names of tenants and the prefix contain no character with a meaning in a Redis pattern; braces have none.
        let pattern = [prefix, b"*"].concat();
        let mut keys = Vec::new();
        for _ in 0..STEPS {
            let mut scan = Cmd::new();
            scan.arg("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
            let (next, some): (u64, Vec<Vec<u8>>) = read(self.call(prefix, &Call::Read(&scan)).await?)?;
            keys.extend(some);
            cursor = next;
            if cursor == 0 || !keys.is_empty() {
                break;
            }
        }
        Ok((cursor, keys))
    }
}
