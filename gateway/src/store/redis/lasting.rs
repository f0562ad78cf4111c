//! Stores of which the keys go after a time: beside the hash there is a sorted set with the moment of each, by the server's
//! clock (fields of a hash expire by themselves from Redis 7.4 on only). What is over is not there for readers, and writers
//! take it away, a hundred at a time.

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
