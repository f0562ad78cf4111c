//! Claims of runs: for each schedule a hash in its tenant's slot, with the last time that was claimed or skipped (`at`),
//! and the run in progress (`run`), with its gateway and its expiry by the server's clock.

use std::time::Duration;

use deadpool_redis::redis::Script;

use super::Redis;
use crate::store::layout::Bucket;
use crate::store::runs::{Claim, Due};
use crate::store::{Error, Result};

pub(super) struct Scripts {
    claim: Script,
    hold: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        let [claim, hold] = [CLAIM, HOLD].map(|script| Script::new(&format!("{CLOCK}{script}")));
        Self { claim, hold }
    }
}

const CLOCK: &str = r"
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
";

/// `ARGV`: the due time, the gateway, how many milliseconds a claim lasts, and how many the hash is kept. A gateway that
/// asks again for a run that it holds may have missed the answer.
const CLAIM: &str = r"
local was = redis.call('HMGET', KEYS[1], 'at', 'run', 'by', 'until')
local at, due = tonumber(was[1] or '-1'), tonumber(ARGV[1])
if was[2] == ARGV[1] and was[3] == ARGV[2] and tonumber(was[4]) > now then return 1 end
if at >= due then return 0 end
if due * 1000 > now + 60000 then return 3 end
local answer = 1
if tonumber(was[4] or '0') > now then
  redis.call('HSET', KEYS[1], 'at', ARGV[1])
  answer = 2
else
  redis.call('HSET', KEYS[1], 'at', ARGV[1], 'run', ARGV[1], 'by', ARGV[2], 'until', now + tonumber(ARGV[3]))
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return answer";

/// `ARGV`: the time, the gateway that holds it, and how many milliseconds to add. An expired claim may belong to another
/// gateway by now.
const HOLD: &str = r"
local was = redis.call('HMGET', KEYS[1], 'run', 'by', 'until')
if was[1] ~= ARGV[1] or was[2] ~= ARGV[2] or tonumber(was[3]) <= now then return 0 end
redis.call('HSET', KEYS[1], 'until', now + tonumber(ARGV[3]))
return 1";

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Redis {
    pub(in crate::store) async fn claim_run(&self, key: &Bucket, due: Due<'_>, times: [Duration; 2]) -> Result<Claim> {
        let mut call = self.scripts.runs.claim.key(key.as_bytes());
        call.arg(due.at).arg(due.gateway).arg(&times.map(ms)[..]);
        match self.script(key.as_bytes(), &call).await? {
            0_u8 => Ok(Claim::Others),
            1 => Ok(Claim::Ours),
            2 => Ok(Claim::Overlaps),
            3 => Ok(Claim::TooEarly),
            _ => Err(Error::Internal),
        }
    }

    pub(in crate::store) async fn hold_run(&self, key: &Bucket, due: Due<'_>, time: Duration) -> Result<bool> {
        let mut call = self.scripts.runs.hold.key(key.as_bytes());
        call.arg(due.at).arg(due.gateway).arg(ms(time));
        self.script(key.as_bytes(), &call).await
    }
}
