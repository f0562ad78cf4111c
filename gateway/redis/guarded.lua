-- Runs a guest's command, after a check of how much work it is and how large its answer is. The server does both atomically.
--
-- KEYS: the command's keys, then the key of the tenant's sum, if the gateway keeps one.
-- ARGV: the bytes and keys that the tenant may have (-1: no sum), 1 if the command makes something larger, 'do' or 'look'
-- (which only reports what it found), the name of the check, the number of its words, those words, then the command.
-- The answer: how many elements the command visited, and its answer. Refusals are errors: TOOLARGE with a word that
-- `guarded.rs` explains; LARGE if the gateway must fetch the answer on a separate connection; HEAVY if it must run a scan there
-- in the smallest steps; OVERQUOTA.
--
-- Each MiB that passes through Lua costs the server 2.5 ms (Redis 7.0), so little does. MEMORY USAGE with SAMPLES 0 is exact
-- and costs 30 ns for each element, so the script uses it only on keys with few elements.
local counted, grows, looks = tonumber(ARGV[1]) >= 0, ARGV[3] == '1', ARGV[4] == 'look'
local check, words = ARGV[5], {}
for i = 1, tonumber(ARGV[6]) do words[i] = ARGV[6 + i] end
local command = 7 + #words
local own = #KEYS - (counted and 1 or 0)
local work, is_large = 0, false
local LENGTH = { set = 'SCARD', hash = 'HLEN', list = 'LLEN', zset = 'ZCARD', stream = 'XLEN' }

local function no(why) return redis.error_reply('TOOLARGE ' .. why) end
local function run() return redis.pcall(unpack(ARGV, command)) end
local function is_error(answer) return type(answer) == 'table' and answer.err end
local function bytes(key) return redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) or 0 end

local function value_of(list, name)
  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end
  return 0
end

-- The groups of a stream, and the number of their consumers and of entries that are pending.
local function groups(key)
  local all = redis.pcall('XINFO', 'GROUPS', key)
  if is_error(all) then return {}, 0 end
  local pending = 0
  for _, group in ipairs(all) do pending = pending + value_of(group, 'pending') + value_of(group, 'consumers') end
  return all, pending
end

local function count_elements(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return 0, kind end
  if not LENGTH[kind] then return 1, kind end
  local count = redis.call(LENGTH[kind], key)
  if kind == 'stream' then
    local _, pending = groups(key)
    count = count + pending
  end
  return count, kind
end

-- How many elements the server visits to free a key, or to read all of it; 0 if there is no key. Cached until the command has
-- run.
local known = {}
local function elements(key)
  if known[key] then return unpack(known[key]) end
  local count, kind = count_elements(key)
  known[key] = { count, kind }
  return count, kind
end

-- The bytes that the server frees in this step. A thread frees values with more than 64 elements later.
local function freed_at_once(keys)
  local sum = 0
  for _, key in ipairs(keys) do
    local count, kind = elements(key)
    if kind == 'string' then
      sum = sum + redis.call('STRLEN', key)
    elseif count > 0 and count <= 64 then
      sum = sum + bytes(key)
    end
  end
  return sum
end

local function is_light(keys)
  local count, sum = 0, 0
  for _, key in ipairs(keys) do
    local has, kind = elements(key)
    count = count + has
    if count > LIGHT then return false end
    if kind == 'string' then
      if #keys > 1 then sum = sum + redis.call('STRLEN', key) end
    elseif has > 0 then
      sum = sum + bytes(key)
    end
  end
  return sum <= FREED
end

local function named(places)
  local keys = {}
  for i, at in ipairs(places) do keys[i] = KEYS[tonumber(at)] end
  return keys
end

local function keys_from(first)
  local keys = {}
  for i = first, own do keys[#keys + 1] = KEYS[i] end
  return keys
end

-- The length, the start and the end of a range of `has` elements; negative indexes count from the end, as in Redis.
local function stretch(has, from, to)
  if from < 0 then from = math.max(has + from, 0) end
  if to < 0 then to = has + to end
  to = math.min(to, has - 1)
  return math.max(to - from + 1, 0), from, to
end

local function size_of(list)
  local count, size = 0, 0
  for _, each in ipairs(list) do
    if type(each) == 'table' then
      local more, large = size_of(each)
      count, size = count + more, size + large
    else
      count, size = count + 1, size + #tostring(each)
    end
  end
  return count, size
end

-- Decides about `asked` elements of a value with `has`: whether they may pass through Lua, or another connection fetches them.
local function judge(asked, has, size, asked_max)
  if asked > asked_max then return no('elements') end
  work = math.max(work, asked)
  if size > READ then return no('bytes') end
  is_large = asked > FEW or size > SMALL
end

-- Whether these elements of a list are small. Reads them one by one, so they must be near an end.
local function are_small(key, has, from, count)
  if count > 1000 or math.min(from, has - from - count) > 1000 then return false end
  local size = 0
  for i = from, from + count - 1 do
    size = size + #redis.call('LINDEX', key, i)
    if size > SMALL then return false end
  end
  return true
end

local checks = {}

function checks.none() end

-- The server's main thread frees a value that is replaced or expires, so that value must be light.
function checks.light(why, ...) if not is_light(named({...})) then return no(why) end end

function checks.free() if freed_at_once(keys_from(1)) > FREED then return no('frees') end end

function checks.fields(first, step)
  local sum = 0
  for i = command + tonumber(first), #ARGV, tonumber(step) do
    local length = redis.pcall('HSTRLEN', KEYS[1], ARGV[i])
    if is_error(length) then return length end
    sum = sum + length
  end
  if sum > FREED then return no('frees') end
end

local IS_IN = { HLEN = 'HEXISTS', SCARD = 'SISMEMBER', ZCARD = 'ZSCORE' }

-- Whether a key has room for more elements: the index of the key, the command that counts its elements, how many come, the
-- length of the longest and of all; for hashes, sets and sorted sets, where the names of elements begin, and their distance.
function checks.room(at, length, count, longest, carried, first, step)
  local key = KEYS[tonumber(at)]
  count, longest, carried, first = tonumber(count), tonumber(longest), tonumber(carried), tonumber(first)
  local has = redis.pcall(length, key)
  if is_error(has) then return has end
  if has + count > CARDINALITY and IS_IN[length] and first > 0 then
    count = 0
    for i = command + first, #ARGV, tonumber(step) do
      local is_in = redis.call(IS_IN[length], key, ARGV[i])
      if not is_in or is_in == 0 then count = count + 1 end
    end
  end
  if count > 0 and has + count > CARDINALITY then return no('cardinality') end
  if length == 'HLEN' and longest > HASH_VALUE and has + count > 1000 then return no('hash-value') end
  if (has + count > LIGHT or longest > 3072) and redis.call('PTTL', key) >= 0 then
    if has + count > LIGHT or bytes(key) + carried > FREED then return no('mortal') end
  end
  if length == 'HLEN' and count > 32 then return checks.fields(first, step) end
end

function checks.append(carried)
  local has = redis.pcall('STRLEN', KEYS[1])
  if is_error(has) then return has end
  if has + tonumber(carried) > VALUE then return no('value') end
end

-- All elements of the keys from this one on; a key that is named twice counts twice. `stores`: another key gets the result.
function checks.whole(first, most, stores, times)
  local count, size = 0, 0
  for _, key in ipairs(keys_from(tonumber(first))) do
    local has = elements(key)
    count = count + has
    if count > tonumber(most) then return no('elements') end
    if has > 0 then size = size + bytes(key) end
    if size > READ then return no('bytes') end
  end
  if stores == '1' and not is_light({ KEYS[1] }) then return no('replaces') end
  judge(count, count, size, tonumber(most))
  -- The answer may have more than one value for each element.
  is_large = (is_large or count * tonumber(times) > FEW) and stores ~= '1'
end

-- An intersection: the server visits only the elements of the smallest set.
function checks.common(first, most, stores)
  local least, smallest
  for _, key in ipairs(keys_from(tonumber(first))) do
    local has = elements(key)
    if not least or has < least then least, smallest = has, key end
  end
  least = least or 0
  if least * (own - tonumber(first) + 1) > tonumber(most) then return no('elements') end
  work = least * (own - tonumber(first) + 1)
  if stores == '1' and not is_light({ KEYS[1] }) then return no('replaces') end
  local refused = judge(least, least, least > 0 and bytes(smallest) or 0, tonumber(most))
  is_large = is_large and stores ~= '1'
  return refused
end

-- MGET and HMGET: a key or field that is named twice is twice in the answer.
function checks.values(length)
  local size, count = 0, 0
  local function add(answer)
    if not is_error(answer) then size = size + answer end
    count = count + 1
  end
  if length == 'STRLEN' then
    for i = 1, own do add(redis.pcall('STRLEN', KEYS[i])) end
  else
    local is_hash = redis.pcall('HLEN', KEYS[1])
    if is_error(is_hash) then return is_hash end
    for i = command + 2, #ARGV do add(redis.call('HSTRLEN', KEYS[1], ARGV[i])) end
  end
  return judge(count, count, size, 1000)
end

-- A range of a list.
function checks.list(from, to)
  local has = redis.pcall('LLEN', KEYS[1])
  if is_error(has) then return has end
  local count, start = stretch(has, tonumber(from), tonumber(to))
  if count == 0 then return end
  work = count
  if count <= 4 then is_large = not are_small(KEYS[1], has, start, count); return end
  local size = bytes(KEYS[1])
  if size > READ and are_small(KEYS[1], has, start, count) then return end
  return judge(count, has, size, ELEMENTS)
end

-- Several elements from one end of the first list that is not empty.
function checks.pops(side, count)
  for i = 1, own do
    local has = redis.pcall('LLEN', KEYS[i])
    if is_error(has) then return has end
    if has > 0 then
      count = math.min(tonumber(count), has)
      work = count
      if count > 1 and not are_small(KEYS[i], has, side == 'LEFT' and 0 or has - count, count) then return no('pops') end
      return
    end
  end
end

-- A command that compares up to `most` elements of a list with a value of `length` bytes.
function checks.walk(length, most)
  local has = redis.pcall('LLEN', KEYS[1])
  if is_error(has) then return has end
  if has > tonumber(most) or has * tonumber(length) > COMPARED then return no('walk') end
  work = has
end

function checks.insert(length, longest)
  return checks.walk(length, WALK) or checks.room(1, 'LLEN', 1, longest, longest, 0, 1)
end

-- BITOP: the work is the length of the longest source, for each source.
function checks.bits()
  local longest = 0
  for i = 2, own do
    local length = redis.pcall('STRLEN', KEYS[i])
    if is_error(length) then return length end
    longest = math.max(longest, length)
  end
  if longest * (own - 1) > READ then return no('bits') end
  if not is_light({ KEYS[1] }) then return no('replaces') end
end

-- An element that moves from one list to another, and passes through Lua.
function checks.moves(side)
  local element = redis.pcall('LINDEX', KEYS[1], side == 'LEFT' and 0 or -1)
  if is_error(element) then return element end
  if element and #element > SMALL then return no('moves') end
  return checks.room(2, 'LLEN', KEYS[1] == KEYS[2] and 0 or 1, SMALL, SMALL, 0, 1)
end

function checks.copies(replaces)
  local has = elements(KEYS[1])
  if has > GATHERED or has > 0 and bytes(KEYS[1]) > READ then return no('elements') end
  work = has
  if replaces == '1' and not is_light({ KEYS[2] }) then return no('replaces') end
end

function checks.trim(from, to)
  local has = redis.pcall('LLEN', KEYS[1])
  if is_error(has) then return has end
  local stays = stretch(has, tonumber(from), tonumber(to))
  work = has - stays
  if work > 64 and bytes(KEYS[1]) > FREED then return no('trims') end
end

-- How many elements a range of a sorted set has, by rank, score or name.
local function ranged(key, by, from, to)
  if by ~= 'ZCARD' then return redis.pcall(by, key, from, to) end
  local has = redis.pcall('ZCARD', key)
  if is_error(has) then return has end
  return (stretch(has, tonumber(from), tonumber(to)))
end

function checks.sorted(at, by, from, to, offset, count, stores)
  local key = KEYS[tonumber(at)]
  local asked = ranged(key, by, from, to)
  if is_error(asked) then return asked end
  offset, count = tonumber(offset), tonumber(count)
  asked = math.max(asked - offset, 0)
  if count >= 0 then asked = math.min(asked, count) end
  if offset > ELEMENTS then return no('offset') end
  if asked == 0 then return end
  work = offset + asked
  if stores == '1' then
    if asked > GATHERED then return no('elements') end
    if not is_light({ KEYS[1] }) then return no('replaces') end
    return
  end
  -- A member has at most 4 KiB.
  if asked <= 64 then return end
  local has = redis.call('ZCARD', key)
  local size = has <= ELEMENTS and bytes(key) or READ + 1
  if size <= READ then return judge(asked, has, size, ELEMENTS) end
  return judge(asked, has, asked * 4096, 1000)
end

function checks.removes(by, from, to)
  local gone = ranged(KEYS[1], by, from, to)
  if is_error(gone) then return gone end
  if gone > GATHERED then return no('removes') end
  work = gone
end

-- Adds `comes` entries to a stream that is trimmed to `stays`: -1 if it is not trimmed, -2 if the number is not known.
function checks.stream(comes, stays, carried)
  local has = redis.pcall('XLEN', KEYS[1])
  if is_error(has) then return has end
  has, stays = has + tonumber(comes), tonumber(stays)
  local gone = stays == -1 and 0 or has - math.max(stays, 0)
  work = math.max(gone, 0)
  if gone > 64 and bytes(KEYS[1]) > FREED then return no('trims') end
  if comes == '0' then return end
  if has - math.max(gone, 0) > CARDINALITY then return no('cardinality') end
  if has > 1000 and redis.call('PTTL', KEYS[1]) >= 0 then
    if has > LIGHT or bytes(KEYS[1]) + tonumber(carried) > FREED then return no('mortal') end
  end
end

-- Whether there is room for a group, for a consumer of a group, and for more pending entries.
function checks.group(group, consumer)
  for i = 1, own do
    local all, pending = groups(KEYS[i])
    if consumer == '' and #all >= GROUPS then return no('groups') end
    if consumer ~= '' and pending > LIGHT then return no('pending') end
    for _, each in ipairs(all) do
      if consumer ~= '' and value_of(each, 'name') == group and value_of(each, 'consumers') >= CONSUMERS then
        local is_known = false
        for _, known in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[i], group)) do
          is_known = is_known or value_of(known, 'name') == consumer
        end
        if not is_known then return no('consumers') end
      end
    end
  end
end

-- Commands that this script runs in pages: the answer may have fewer elements than the guest asked for.
local runs = {}

function runs.scan(cursor, count)
  local has = redis.pcall('HLEN', KEYS[1])
  if is_error(has) then return has end
  if has <= LIGHT then
    local size = has > 0 and bytes(KEYS[1]) or 0
    if size <= SMALL then return run() end
    if size <= READ then is_large = true; return false end
    return redis.error_reply('HEAVY values')
  end
  local found, size = {}, 0
  repeat
    local page = redis.pcall('HSCAN', KEYS[1], cursor, 'COUNT', 1)
    if is_error(page) then return page end
    cursor = page[1]
    for _, each in ipairs(page[2]) do
      found[#found + 1] = each
      size = size + #each
    end
    work = work + 1
  until cursor == '0' or #found >= 2 * tonumber(count) or size > 65536 or work > 1000
  return { cursor, found }
end

-- XRANGE and XREVRANGE: the whole range or a refusal.
function runs.entries(from, to, count)
  local found, size, left = {}, 0, tonumber(count)
  repeat
    local page = redis.pcall(ARGV[command], KEYS[1], from, to, 'COUNT', left < 0 and 8 or math.min(left, 8))
    if is_error(page) then return page end
    for _, entry in ipairs(page) do found[#found + 1] = entry end
    local more, large = size_of(page)
    work, size, left = work + more, size + large, left - #page
    if work > FEW or size > SMALL then return no('entries') end
    if #page > 0 then from = '(' .. page[#page][1] end
  until #page == 0 or left == 0
  return found
end

-- XREAD and XREADGROUP: the next entries of each stream, up to a limit.
function runs.read(count, group, consumer, head, ...)
  local all, size, words = {}, 0, {...}
  if group ~= '' then
    local refused = checks.group(group, consumer)
    if refused then return refused end
  end
  for i = 1, own do
    local id, left, found = words[tonumber(head) + i], tonumber(count), nil
    while left ~= 0 and work <= PAGED and size <= SMALL do
      local call = { ARGV[command] }
      for at = 1, tonumber(head) do call[#call + 1] = words[at] end
      for _, word in ipairs({ 'COUNT', left < 0 and 8 or math.min(left, 8), 'STREAMS', KEYS[i], id }) do call[#call + 1] = word end
      local page = redis.pcall(unpack(call))
      if is_error(page) then return page end
      local entries = page and page[1] and page[1][2]
      if entries then found = found or {} end
      if not entries or #entries == 0 then break end
      for _, entry in ipairs(entries) do found[#found + 1] = entry end
      local more, large = size_of(entries)
      work, size, left = work + more, size + large, left - #entries
      if id ~= '>' then id = entries[#entries][1] end
    end
    if found then all[#all + 1] = { KEYS[i], found } end
  end
  if #all == 0 then return false end
  return all
end

-- XAUTOCLAIM, whose answer says where to continue.
function runs.claim(group, consumer, idle, start, count, ...)
  local refused = checks.group(group, consumer)
  if refused then return refused end
  local found, gone, size, left = {}, {}, 0, tonumber(count)
  repeat
    local page = redis.pcall('XAUTOCLAIM', KEYS[1], group, consumer, idle, start, 'COUNT', math.min(left, 8), ...)
    if is_error(page) then return page end
    start, left = page[1], left - 8
    for _, entry in ipairs(page[2]) do found[#found + 1] = entry end
    for _, id in ipairs(page[3] or {}) do gone[#gone + 1] = id end
    local more, large = size_of(page[2])
    work, size = work + more, size + large
  until start == '0-0' or left <= 0 or work > PAGED or size > SMALL
  return { start, found, gone }
end

-- The exact memory of each key: 0 if it does not exist, -1 if it is too large to measure. And how many keys exist.
local function measure()
  local sizes, count, seen = {}, 0, {}
  for i = 1, own do
    local key = KEYS[i]
    if not seen[key] then
      seen[key] = true
      local has, kind = elements(key)
      sizes[key] = has == 0 and 0 or (has <= LIGHT and bytes(key)) or -1
      if has > 0 then count = count + 1 end
    end
  end
  return sizes, count
end

if checks[check] then
  local refused = checks[check](unpack(words))
  if refused then return refused end
end
if looks then
  if runs[check] and check ~= 'scan' then return redis.error_reply('ERR nothing to look at') end
  if check == 'scan' then
    local answer = runs.scan(unpack(words))
    if is_error(answer) then return answer end
    if not is_large then return redis.error_reply('LARGE no more') end
  end
  return { work, true }
end
if is_large then return redis.error_reply('LARGE answer') end

local sizes, count
if counted then
  sizes, count = measure()
  if grows then
    local has = redis.call('HMGET', KEYS[#KEYS], 'bytes', 'keys')
    if tonumber(has[1] or 0) >= tonumber(ARGV[1]) then return redis.error_reply('OVERQUOTA bytes') end
    if tonumber(has[2] or 0) >= tonumber(ARGV[2]) and count < own then return redis.error_reply('OVERQUOTA keys') end
  end
end
local answer = runs[check] and runs[check](unpack(words))
if not runs[check] then answer = run() end
if is_large then return redis.error_reply('LARGE answer') end
if counted then
  known = {}
  local sizes_now, count_now = measure()
  local more = 0
  for key, size in pairs(sizes) do
    local now = sizes_now[key]
    if size >= 0 and now >= 0 then
      more = more + now - size
    elseif grows and now < 0 then
      -- A large key is not measured each time: added bytes count, removed bytes do not, until the gateway counts it again.
      for i = command, #ARGV do more = more + #ARGV[i] end
    end
  end
  if more ~= 0 then redis.call('HINCRBY', KEYS[#KEYS], 'bytes', more) end
  if count_now ~= count then redis.call('HINCRBY', KEYS[#KEYS], 'keys', count_now - count) end
end
if is_error(answer) then return answer end
return { work, answer }
