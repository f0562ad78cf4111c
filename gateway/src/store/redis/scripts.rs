//! What takes more than one command, in Lua: done in one step by the server, on keys that are all in one slot.

use deadpool_redis::redis::Script;

pub(super) struct Scripts {
    pub(super) swap: Script,
    pub(super) list: Script,
    pub(super) get_many: Script,
    pub(super) whole: Script,
    pub(super) append: Script,
    pub(super) publish: Script,
    pub(super) counted: Script,
    pub(super) counted_raw: Script,
    pub(super) rates: Script,
    pub(super) lasting_get: Script,
    pub(super) lasting_exists: Script,
    pub(super) runs: super::runs::Scripts,
}

impl Default for Scripts {
    fn default() -> Self {
        let [swap, list, get_many, whole, append] = [SWAP, LIST, GET_MANY, WHOLE, APPEND].map(Script::new);
        let publish = Script::new(super::publish::WITH_NOTE);
        let [lasting_get, lasting_exists] = [LASTING_GET, LASTING_EXISTS].map(Script::new);
        let [counted, counted_raw, rates] = [COUNTED, COUNTED_RAW, RATES].map(Script::new);
        let runs = super::runs::Scripts::default();
        Self {
            swap,
            list,
            get_many,
            whole,
            append,
            publish,
            counted,
            counted_raw,
            rates,
            lasting_get,
            lasting_exists,
            runs,
        }
    }
}

/// Sets the field to `ARGV[4]` if it holds `ARGV[3]` (or is absent, where `ARGV[2]` is "0").
const SWAP: &str = r"
local now = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] == '0' then
  if now then return 0 end
elseif now ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1";

/// HSCAN without its values, in small steps: the server reads them all the same (NOVALUES came with Redis 7.4), and one
/// page must not hold it up. `ARGV[2]` keys are a page, or as many as came with a MiB of values.
/// Where there is a second key, it says which fields are over.
const LIST: &str = r"
local cursor, keys, bytes, now = ARGV[1], {}, 0, 0
if KEYS[2] then
  local clock = redis.call('TIME')
  now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
end
repeat
  local answer = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 16)
  cursor = answer[1]
  for i = 1, #answer[2], 2 do
    local at = KEYS[2] and redis.call('ZSCORE', KEYS[2], answer[2][i])
    if not at or tonumber(at) > now then keys[#keys + 1] = answer[2][i] end
    bytes = bytes + #answer[2][i + 1]
  end
until cursor == '0' or #keys >= tonumber(ARGV[2]) or bytes > 1048576
return {cursor, keys}";

/// A command that reads all that is at its keys, after a look at how much memory that takes: `ARGV[1]` is the most. What
/// MEMORY USAGE says of a large collection is an estimate from a few elements.
const WHOLE: &str = r"
local bytes = 0
for i = 1, #KEYS do bytes = bytes + (redis.call('MEMORY', 'USAGE', KEYS[i]) or 0) end
if bytes > tonumber(ARGV[1]) then return redis.error_reply('TOOLARGE') end
return redis.pcall(unpack(ARGV, 2))";
pub(super) const WHOLE_BYTES_MAX: usize = 4 << 20;

/// APPEND, after a look at what it comes to: `ARGV[1]` is the most; its value is `ARGV[4]`.
const APPEND: &str = r"
local now = redis.pcall('STRLEN', KEYS[1])
if type(now) == 'table' then return now end
if now + #(ARGV[4] or '') > tonumber(ARGV[1]) then return redis.error_reply('TOOLARGE') end
return redis.pcall(unpack(ARGV, 2))";

/// HMGET, after a look at how much it would be: `ARGV[1]` is the most.
const GET_MANY: &str = r"
local bytes = 0
for i = 2, #ARGV do bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i]) end
if bytes > tonumber(ARGV[1]) then return redis.error_reply('TOOLARGE') end
local values = {}
for i = 2, #ARGV do values[i - 1] = redis.call('HGET', KEYS[1], ARGV[i]) end
return values";

/// `KEYS`: the hash, the usage, and where keys go after a time, when. `ARGV`: bytes and keys that may be (-1 and nothing is
/// counted), in how many milliseconds what is set goes (0: never), then what is to be done. What is over goes first, so that
/// it is in nobody's way.
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

/// HMGET of what is not over, after a look at how much it is: `ARGV[1]` is the most. `KEYS`: the hash, and when its fields go.
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

/// A command that changes raw keys. `KEYS`: its keys, then the usage. `ARGV`: bytes and keys that may be, whether it makes
/// anything larger, bytes that it may read (or -1), bytes that its value may come to (or -1), then the command. What it comes
/// to is known afterwards only: one command may go over what may be.
const COUNTED_RAW: &str = r"
local usage, own = KEYS[#KEYS], {}
local function measure()
  local bytes, keys = 0, 0
  for key in pairs(own) do
    local size = redis.call('MEMORY', 'USAGE', key)
    if size then bytes = bytes + size; keys = keys + 1 end
  end
  return bytes, keys
end
for i = 1, #KEYS - 1 do own[KEYS[i]] = true end
local bytes, keys = measure()
if tonumber(ARGV[4]) >= 0 and bytes > tonumber(ARGV[4]) then return redis.error_reply('TOOLARGE') end
if tonumber(ARGV[5]) >= 0 then
  local now = redis.pcall('STRLEN', KEYS[1])
  if type(now) == 'table' then return now end
  if now + #(ARGV[8] or '') > tonumber(ARGV[5]) then return redis.error_reply('TOOLARGE') end
end
if ARGV[3] == '1' then
  local has = redis.call('HMGET', usage, 'bytes', 'keys')
  if tonumber(has[1] or 0) >= tonumber(ARGV[1]) then return redis.error_reply('OVERQUOTA bytes') end
  if tonumber(has[2] or 0) >= tonumber(ARGV[2]) and keys < #KEYS - 1 then return redis.error_reply('OVERQUOTA keys') end
end
local answer = redis.pcall(unpack(ARGV, 6))
local bytes_now, keys_now = measure()
if bytes_now ~= bytes then redis.call('HINCRBY', usage, 'bytes', bytes_now - bytes) end
if keys_now ~= keys then redis.call('HINCRBY', usage, 'keys', keys_now - keys) end
return answer";

/// `ARGV`: the gateway's field, then of each rate its name, what was used, and in how many nanoseconds one comes in. Moments
/// are microseconds of the server's clock. A gateway that said nothing for three seconds is not counted, and after ten minutes
/// forgotten with the rest.
const RATES: &str = r"
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local held, all = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do held[all[i]] = tonumber(all[i + 1]) end
held[ARGV[1]] = now
local gateways, set = 0, {ARGV[1], string.format('%.0f', now)}
for field, at in pairs(held) do
  if string.sub(field, 1, 2) == 'g:' then
    if now - at < 3000000 then gateways = gateways + 1 else redis.call('HDEL', KEYS[1], field) end
  end
end
local answer = {gateways}
for i = 2, #ARGV, 3 do
  local full = math.max(held[ARGV[i]] or 0, now) + tonumber(ARGV[i + 1]) * tonumber(ARGV[i + 2]) / 1000
  set[#set + 1] = ARGV[i]
  set[#set + 1] = string.format('%.3f', full)
  answer[#answer + 1] = string.format('%.0f', full - now)
end
redis.call('HSET', KEYS[1], unpack(set))
redis.call('PEXPIRE', KEYS[1], 600000)
return answer";
