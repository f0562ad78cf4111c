//! The fleet's buckets: one hash for each tenant, in its slot, with the moment at which each bucket will be full (GCRA, as
//! in `tenant/bucket.rs`) and when each gateway last reported.

use deadpool_redis::redis;

use super::Redis;
use crate::store::layout::Bucket;
use crate::store::rates::{Levels, Spent};
use crate::store::{Error, Result};

impl Redis {
    pub(in crate::store) async fn share_rates(&self, rates: &Bucket, gateway: &str, spent: &[Spent]) -> Result<Levels> {
        let mut call = self.scripts.rates.key(rates.as_bytes());
        call.arg(format!("g:{gateway}"));
        for Spent { name, amount, nanos_each, burst } in spent {
            call.arg(*name).arg(*amount).arg(*nanos_each).arg(*burst);
        }
        let mut levels: Vec<u64> = self.script(rates.as_bytes(), &call).await?;
        if levels.len() != spent.len() + 1 {
            return Err(Error::Internal);
        }
        let gateways = levels.remove(0);
        Ok(Levels { gateways, micros: levels })
    }

    pub(in crate::store) async fn fill_rates(&self, rates: &Bucket, names: &[&str]) -> Result<()> {
        let mut command = redis::cmd("HDEL");
        command.arg(rates.as_bytes()).arg(names);
        self.command(rates.as_bytes(), &command).await
    }
}
