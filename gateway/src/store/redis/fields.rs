//! Fields of a hash that gateways share. They are set if they have the expected values, and changes are counted, so that
//! other gateways notice them.

use deadpool_redis::redis::Script;

use super::Redis;
use crate::store::common::{SWAPPED, Swap};
use crate::store::{Error, Result};

/// `ARGV`: the counting field; then for each field its name, whether its old value matters, the expected value, and the new
/// one. An empty text is an absent field.
const FIELDS: &str = r"
local answer, changed = {}, false
for i = 2, #ARGV, 4 do
  local field, from, to = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local now = redis.call('HGET', KEYS[1], field) or ''
  if now ~= to and (ARGV[i + 1] == '0' or now == from) then
    if to == '' then redis.call('HDEL', KEYS[1], field) else redis.call('HSET', KEYS[1], field, to) end
    now, changed = to, true
  end
  answer[#answer + 1] = now
end
local count = redis.call('HGET', KEYS[1], ARGV[1]) or '0'
if changed or count == '0' then count = redis.call('HINCRBY', KEYS[1], ARGV[1], 1) end
answer[#answer + 1] = tostring(count)
return answer";

pub(super) fn script() -> Script {
    Script::new(FIELDS)
}

impl Redis {
    pub(in crate::store) async fn swap_fields(&self, key: &[u8], swaps: &[Swap<'_>]) -> Result<(Vec<String>, u64)> {
        let mut call = self.scripts.fields.key(key);
        call.arg(SWAPPED);
        for Swap { field, from, to } in swaps {
            call.arg(*field).arg(u8::from(from.is_some())).arg(from.unwrap_or_default()).arg(*to);
        }
        let mut held: Vec<String> = self.script(key, &call).await?;
        let count = held.pop().and_then(|count| count.parse().ok());
        match count {
            Some(count) if held.len() == swaps.len() => Ok((held, count)),
            Some(_) | None => Err(Error::Internal),
        }
    }
}
