//! Stores whose keys expire: beside the hash there is a sorted set with each key's expiry time, by the server's clock
//! (fields of a hash expire by themselves only from Redis 7.4 on). Readers do not see expired keys, and writers remove
//! them, a hundred at a time.

use super::Redis;
use crate::store::{BATCH_BYTES_MAX, Bucket, Result, Value};

impl Redis {
    pub(super) async fn lasting_get_many(&self, bucket: &Bucket, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        let mut call = self.scripts.lasting_get.key(bucket.as_bytes());
        call.key(bucket.expiries()).arg(BATCH_BYTES_MAX);
        keys.iter().for_each(|key| _ = call.arg(*key));
        self.look_by_script(bucket.as_bytes(), &call).await
    }

    pub(super) async fn lasting_exists(&self, bucket: &Bucket, key: &[u8]) -> Result<bool> {
        let mut call = self.scripts.lasting_exists.key(bucket.as_bytes());
        call.key(bucket.expiries()).arg(key);
        self.look_by_script(bucket.as_bytes(), &call).await
    }
}
