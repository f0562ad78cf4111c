//! Messages that one gateway of a fleet handles, on Redis: for each channel a stream with one consumer group for all
//! gateways, and a stream of dead letters. Both are in the tenant's slot, so that each step is one script.
//!
//! Entries of the consumer `taken` are being handled; those of `failed` wait for a retry. The server's idle times of
//! entries tell how long either has lasted.

use deadpool_redis::redis::Script;

use super::Redis;
use crate::ids::Line;
use crate::store::once::{Dead, Lease, Place, TRIES, Taken, TakenBatch, WAITING_BYTES_MAX};
use crate::store::{Error, Result};

pub(super) struct Scripts {
    append: Script,
    take: Script,
    done: Script,
    fail: Script,
    replay: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        let [append, done, replay] = [APPEND, DONE, REPLAY].map(Script::new);
        let [take, fail] = [TAKE, FAIL].map(|script| Script::new(&format!("{BURY}{script}")));
        Self { append, take, done, fail, replay }
    }
}

/// `ARGV[1]` is the message, `ARGV[2]` how many may wait, and `ARGV[4]` how many bytes they may have as the server counts;
/// `ARGV[3]` is the channel on which gateways are woken, and `ARGV[5]` the message's position in its chain.
const APPEND: &str = r"
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
if (redis.call('MEMORY', 'USAGE', KEYS[1]) or 0) + #ARGV[1] > tonumber(ARGV[4]) then return 0 end
redis.call('XADD', KEYS[1], '*', 'm', ARGV[1], 'l', ARGV[5])
redis.call('PUBLISH', ARGV[3], '')
return 1";

/// Moves an entry to the stream of dead letters, which has a maximum number and 64 MiB; above that, its older half is
/// deleted. Returns whether the move was possible: a server without free memory leaves the entry where it is.
const BURY: &str = r"
local function bury(id, tries)
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry then
    local put = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'm', entry[2][2], 'n', tries)
    if type(put) == 'table' and put.err then return false end
    if redis.call('MEMORY', 'USAGE', KEYS[2]) > 67108864 then
      redis.call('XTRIM', KEYS[2], 'MAXLEN', math.floor(redis.call('XLEN', KEYS[2]) / 2))
    end
  end
  redis.call('XACK', KEYS[1], 'tollgate', id)
  redis.call('XDEL', KEYS[1], id)
  return entry and true or false
end
";

/// Takes up to `ARGV[1]` entries: first those that are due again, by `ARGV[2]` (the longest time for handling) and
/// `ARGV[3]` (the first pause after a failure, which doubles); then new ones. An entry that was tried `ARGV[4]` times
/// becomes a dead letter. Returns the number of those, and five texts for each entry that was taken. Entries of older
/// gateways, and replayed ones, have no chain.
const TAKE: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return {'0'} end
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'tollgate', '0')
local count, lease, pause, tries = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local out, taken, buried, start = {'0'}, 0, 0, '-'
for page = 1, 10 do
  local pending = redis.call('XPENDING', KEYS[1], 'tollgate', 'IDLE', math.min(lease, pause), start, '+', 100)
  for _, one in ipairs(pending) do
    local id, has_failed, idle, n = one[1], one[2] == 'failed', one[3], one[4]
    local after = has_failed and pause * 2 ^ math.min(n - 1, 10) or lease
    if taken < count and idle >= after then
      if n >= tries then
        if bury(id, n) then buried = buried + 1 end
      else
        local entry = redis.call('XCLAIM', KEYS[1], 'tollgate', 'taken', 0, id)[1]
        if entry then
          taken = taken + 1
          for _, text in ipairs({id, entry[2][2], tostring(n + 1), has_failed and '0' or '1', entry[2][4] or ''}) do out[#out + 1] = text end
        end
      end
    end
    start = '(' .. id
  end
  if taken >= count or #pending < 100 then break end
end
if taken < count then
  local new = redis.call('XREADGROUP', 'GROUP', 'tollgate', 'taken', 'COUNT', count - taken, 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(new and new[1][2] or {}) do
    for _, text in ipairs({entry[1], entry[2][2], '1', '0', entry[2][4] or ''}) do out[#out + 1] = text end
  end
end
out[1] = tostring(buried)
return out";

const DONE: &str = r"
redis.call('XACK', KEYS[1], 'tollgate', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])";

/// Notes that `ARGV[1]` failed at attempt `ARGV[2]` of `ARGV[3]`, unless another gateway took it meanwhile. If `ARGV[4]` is
/// 0, nothing was run, and the attempt does not count. Returns whether it became a dead letter.
const FAIL: &str = r"
local one = redis.call('XPENDING', KEYS[1], 'tollgate', ARGV[1], ARGV[1], 1)[1]
if not one or one[4] ~= tonumber(ARGV[2]) then return 0 end
if ARGV[4] == '0' then
  redis.call('XCLAIM', KEYS[1], 'tollgate', 'failed', 0, ARGV[1], 'RETRYCOUNT', math.max(one[4] - 1, 1), 'JUSTID')
  return 0
end
if one[4] >= tonumber(ARGV[3]) and bury(ARGV[1], one[4]) then return 1 end
redis.call('XCLAIM', KEYS[1], 'tollgate', 'failed', 0, ARGV[1], 'JUSTID')
return 0";

/// Moves dead letters back to those that wait, and returns their number.
const REPLAY: &str = r"
local found = 0
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
  if entry then
    redis.call('XADD', KEYS[1], '*', 'm', entry[2][2])
    redis.call('XDEL', KEYS[2], ARGV[i])
    found = found + 1
  end
end
redis.call('PUBLISH', ARGV[1], '')
return found";

impl Redis {
    pub(in crate::store) async fn append_once(
        &self,
        line: &Place,
        (payload, stands): (&[u8], Line),
        waiting_max: u32,
    ) -> Result<bool> {
        let mut call = self.once.append.key(&*line.stream);
        call.arg(payload).arg(waiting_max).arg(&*line.wake).arg(WAITING_BYTES_MAX).arg(stands.to_string());
        self.script(&line.stream, &call).await
    }

    pub(in crate::store) async fn take_once(&self, line: &Place, lease: &Lease) -> Result<TakenBatch> {
        let mut call = self.once.take.key(&*line.stream);
        call.key(&*line.dead).arg(lease.count).arg(lease.time_ms).arg(lease.pause_ms).arg(lease.tries);
        let mut words: Vec<Vec<u8>> = self.script(&line.stream, &call).await?;
        let texts = words.split_off(1.min(words.len()));
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u32>().ok();
        let dead_lettered = words.first().and_then(|text| number(text)).ok_or(Error::Internal)?;
        let taken = texts.chunks_exact(5).filter_map(|five| {
            let [id, payload, tries, is_again, stands] = five else { return None };
            let id = String::from_utf8(id.clone()).ok()?;
            let (tries, is_again) = (number(tries)?, is_again == b"1");
            let stands = std::str::from_utf8(stands).ok().and_then(Line::parse).unwrap_or_else(Line::first);
            Some(Taken { id, payload: payload.clone(), tries, line: stands, is_again })
        });
        Ok(TakenBatch { taken: taken.collect(), dead_lettered })
    }

    pub(in crate::store) async fn done_once(&self, line: &Place, id: &str) -> Result<()> {
        let mut call = self.once.done.key(&*line.stream);
        self.script(&line.stream, call.arg(id)).await
    }

    pub(in crate::store) async fn fail_once(&self, line: &Place, taken: &Taken, was_run: bool) -> Result<bool> {
        let mut call = self.once.fail.key(&*line.stream);
        call.key(&*line.dead).arg(&taken.id).arg(taken.tries).arg(TRIES).arg(u8::from(was_run));
        self.script(&line.stream, &call).await
    }

    pub(in crate::store) async fn dead(&self, line: &Place, after: Option<&str>, count: u32) -> Result<Vec<Dead>> {
        let mut call = deadpool_redis::redis::cmd("XRANGE");
        let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        call.arg(&*line.dead).arg(from).arg("+").arg("COUNT").arg(count);
        let entries: Vec<(String, Vec<Vec<u8>>)> = self.command(&line.dead, &call).await?;
        let dead = entries.into_iter().filter_map(|(id, fields)| {
            let [_, payload, _, tries] = fields.try_into().ok()?;
            Some(Dead { id, payload, tries: String::from_utf8(tries).ok()?.parse().ok()? })
        });
        Ok(dead.collect())
    }

    pub(in crate::store) async fn replay(&self, line: &Place, ids: &[String]) -> Result<u32> {
        let mut call = self.once.replay.key(&*line.stream);
        call.key(&*line.dead).arg(&*line.wake);
        ids.iter().for_each(|id| _ = call.arg(id));
        self.script(&line.stream, &call).await
    }

    pub(in crate::store) async fn forget_dead(&self, line: &Place, ids: &[String]) -> Result<u32> {
        let mut call = deadpool_redis::redis::cmd("XDEL");
        self.command(&line.dead, call.arg(&*line.dead).arg(ids)).await
    }
}
