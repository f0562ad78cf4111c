//! Operations of several commands, in Lua. The server executes each in one step, on keys that are all in one slot.

use deadpool_redis::redis::Script;

pub(super) struct Scripts {
    pub(super) swap: Script,
    pub(super) list: Script,
    pub(super) get_many: Script,
    pub(super) publish: Script,
    pub(super) guarded: Script,
    pub(super) counted: Script,
    pub(super) rates: Script,
    pub(super) lasting_get: Script,
    pub(super) lasting_exists: Script,
    pub(super) runs: super::runs::Scripts,
    pub(super) fields: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        let [swap, list, get_many] = [SWAP, LIST, GET_MANY].map(Script::new);
        let [lasting_get, lasting_exists] = [LASTING_GET, LASTING_EXISTS].map(Script::new);
        let [counted, rates] = [COUNTED, RATES].map(Script::new);
        let publish = Script::new(super::publish::WITH_NOTE);
        let (runs, guarded) = (super::runs::Scripts::default(), super::guarded::script());
        let fields = super::fields::script();
        Self { swap, list, get_many, publish, guarded, counted, rates, lasting_get, lasting_exists, runs, fields }
    }
}

/// Sets the field to `ARGV[4]` if it has the value `ARGV[3]` (or is absent, if `ARGV[2]` is "0").
const SWAP: &str = r"
local now = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] == '0' then
  if now then return 0 end
elseif now ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1";

/// HSCAN without values. A server that does not know NOVALUES, which came with Redis 7.4, is asked in small steps: it reads
/// the values anyway, and one page must not block it. A page is `ARGV[2]` keys, or as many as came with a MiB of values. A
/// second key, if present, says which fields are expired.
const LIST: &str = r"
local cursor, keys, bytes, now = ARGV[1], {}, 0, 0
if KEYS[2] then
  local clock = redis.call('TIME')
  now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
end
repeat
  local step, answer = 1, redis.pcall('HSCAN', KEYS[1], cursor, 'COUNT', 64, 'NOVALUES')
  if answer.err then step, answer = 2, redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 4) end
  cursor = answer[1]
  for i = 1, #answer[2], step do
    local at = KEYS[2] and redis.call('ZSCORE', KEYS[2], answer[2][i])
    if not at or tonumber(at) > now then keys[#keys + 1] = answer[2][i] end
    if step == 2 then bytes = bytes + #answer[2][i + 1] end
  end
until cursor == '0' or #keys >= tonumber(ARGV[2]) or bytes > 1048576
return {cursor, keys}";

/// HMGET, after a check of the size: `ARGV[1]` is the maximum. Above 256 KiB the script answers LARGE and the values are
/// fetched in another way, because values that pass through a script cost ten times as much. If `ARGV[2]` is `look`, it
/// only returns the size.
const GET_MANY: &str = r"
local bytes = 0
for i = 3, #ARGV do bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i]) end
if bytes > tonumber(ARGV[1]) then return redis.error_reply('TOOLARGE') end
if ARGV[2] == 'look' then return { bytes } end
if bytes > 262144 then return redis.error_reply('LARGE answer') end
local values = {}
for i = 3, #ARGV do values[i - 2] = redis.call('HGET', KEYS[1], ARGV[i]) end
return values";

/// `KEYS`: the hash, the usage, and the expiry times if keys expire. `ARGV`: the allowed bytes and keys (-1: nothing is
/// counted), after how many milliseconds a key that is set now expires (0: never), then the operation. Expired keys are
/// removed first, so that they do not count.
const COUNTED: &str = r"
local hash, usage, lasts, ttl, what = KEYS[1], KEYS[2], KEYS[3], tonumber(ARGV[3]), ARGV[4]
local is_counted, now = tonumber(ARGV[1]) >= 0, 0
if ttl > 0 then
  local clock = redis.call('TIME')
  now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
end
local bytes, keys, seen = 0, 0, {}
local function put(field, length)
  local old = seen[field]
  if old == nil then
    old = redis.call('HSTRLEN', hash, field)
    if old == 0 and redis.call('HEXISTS', hash, field) == 0 then old = -1 end
  end
  if old >= 0 then bytes = bytes - #field - old; keys = keys - 1 end
  if length >= 0 then bytes = bytes + #field + length; keys = keys + 1 end
  seen[field] = length
end
local function over()
  if not is_counted or (bytes <= 0 and keys <= 0) then return nil end
  local has = redis.call('HMGET', usage, 'bytes', 'keys')
  if bytes > 0 and tonumber(has[1] or 0) + bytes > tonumber(ARGV[1]) then return redis.error_reply('OVERQUOTA bytes') end
  if keys > 0 and tonumber(has[2] or 0) + keys > tonumber(ARGV[2]) then return redis.error_reply('OVERQUOTA keys') end
end
local function book()
  if is_counted and bytes ~= 0 then redis.call('HINCRBY', usage, 'bytes', bytes) end
  if is_counted and keys ~= 0 then redis.call('HINCRBY', usage, 'keys', keys) end
  bytes, keys = 0, 0
end
local function gone(field)
  put(field, -1)
  redis.call('HDEL', hash, field)
  redis.call('ZREM', lasts, field)
end
local function fresh(field)
  local at = ttl > 0 and redis.call('ZSCORE', lasts, field)
  if at and tonumber(at) <= now then gone(field); book() end
end
local function lasting(field)
  if ttl > 0 then redis.call('ZADD', lasts, now + ttl, field) end
end
if ttl > 0 then
  for _, field in ipairs(redis.call('ZRANGEBYSCORE', lasts, '-inf', now, 'LIMIT', 0, 100)) do gone(field) end
  book()
end
if what == 'set' then
  for i = 5, #ARGV, 2 do fresh(ARGV[i]); put(ARGV[i], #ARGV[i + 1]) end
  local no = over()
  if no then return no end
  redis.call('HSET', hash, unpack(ARGV, 5))
  for i = 5, #ARGV, 2 do lasting(ARGV[i]) end
  book()
  return 1
elseif what == 'delete' then
  for i = 5, #ARGV do
    put(ARGV[i], -1)
    if ttl > 0 then redis.call('ZREM', lasts, ARGV[i]) end
  end
  redis.call('HDEL', hash, unpack(ARGV, 5))
  book()
  return 1
end
fresh(ARGV[5])
if what == 'increment' then
  put(ARGV[5], 20)
  local no = over()
  if no then return no end
  local sum = redis.pcall('HINCRBY', hash, ARGV[5], ARGV[6])
  if type(sum) == 'table' then return sum end
  local text = redis.call('HGET', hash, ARGV[5])
  bytes = bytes - 20 + #text
  lasting(ARGV[5])
  book()
  return text
end
local now_there = redis.call('HGET', hash, ARGV[5])
if ARGV[6] == '0' then
  if now_there then return 0 end
elseif now_there ~= ARGV[7] then
  return 0
end
put(ARGV[5], #ARGV[8])
local no = over()
if no then return no end
redis.call('HSET', hash, ARGV[5], ARGV[8])
lasting(ARGV[5])
book()
return 1";

/// HMGET of fields that are not expired, after a check of the size: `ARGV[1]` is the maximum. `KEYS`: the hash, and the
/// expiry times of its fields.
const LASTING_GET: &str = r"
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local bytes, there = 0, {}
for i = 2, #ARGV do
  local at = redis.call('ZSCORE', KEYS[2], ARGV[i])
  there[i] = not at or tonumber(at) > now
  if there[i] then bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i]) end
end
if bytes > tonumber(ARGV[1]) then return redis.error_reply('TOOLARGE') end
local values = {}
for i = 2, #ARGV do values[i - 1] = there[i] and redis.call('HGET', KEYS[1], ARGV[i]) end
return values";

const LASTING_EXISTS: &str = r"
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local at = redis.call('ZSCORE', KEYS[2], ARGV[1])
if at and tonumber(at) <= now then return 0 end
return redis.call('HEXISTS', KEYS[1], ARGV[1])";

/// `ARGV`: the gateway's field, then for each rate its name, the amount used, in how many nanoseconds one unit refills, and
/// the burst. Moments are microseconds of the server's clock. When the rate changes, they are converted to the missing
/// amount, at most the burst. A gateway that reported nothing for three seconds is not counted; after ten minutes it is
/// forgotten, together with the rest.
const RATES: &str = r"
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local held, all = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do held[all[i]] = all[i + 1] end
held[ARGV[1]] = now
local gateways, set = 0, {ARGV[1], string.format('%.0f', now)}
for field, at in pairs(held) do
  if string.sub(field, 1, 2) == 'g:' then
    if now - tonumber(at) < 3000000 then gateways = gateways + 1 else redis.call('HDEL', KEYS[1], field) end
  end
end
local answer = {gateways}
for i = 2, #ARGV, 4 do
  local name, each = ARGV[i], ARGV[i + 2]
  local ahead = math.max(tonumber(held[name] or '0') - now, 0)
  local rate, before = each .. ' ' .. ARGV[i + 3], held['n:' .. name]
  if before and before ~= rate then
    local missing = math.min(ahead * 1000 / tonumber(string.match(before, '^%S+')), tonumber(ARGV[i + 3]))
    ahead = missing * tonumber(each) / 1000
  end
  local full = now + ahead + tonumber(ARGV[i + 1]) * tonumber(each) / 1000
  set[#set + 1] = name
  set[#set + 1] = string.format('%.3f', full)
  set[#set + 1] = 'n:' .. name
  set[#set + 1] = rate
  answer[#answer + 1] = string.format('%.0f', full - now)
end
redis.call('HSET', KEYS[1], unpack(set))
redis.call('PEXPIRE', KEYS[1], 600000)
return answer";
