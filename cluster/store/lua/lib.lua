-- What every function of the library shares: the call's caller and time, keys, small records.
--
-- A request names a bucket (0..63, or "m" for the cluster's own slot); every key is built here from that and
-- nowhere else. Nothing may call Redis while the library loads (Redis 7.0 has no redis.call then), so `call`
-- is bound by the first request.

local operations = {} -- name of a request -> its function
local call -- redis.call
local prefix, incarnation, now -- of the call under way; `now` in ms of Redis TIME
local bodies -- message bodies which its requests name by index
local calls = 0 -- how many there were
local bases = {} -- bucket -> the first part of its keys

local LEASE_MS = 10000 -- how long whoever got something that is due has for it
local REPEAT_MS = 60000 -- how long an answer is kept for a call that is sent again
local NEVER = 4294967295 -- Session Expiry Interval: the session does not expire [MQTT 5: 3.1.2.11.2]
local LETTERS = 10000 -- dead letters kept in a bucket
local LOG = 100000 -- entries kept of the change log

local ESCAPES = { ["{"] = "%7B", ["}"] = "%7D", ["%"] = "%25" }

local plain, escaped = "", "" -- the last name: most calls of `key` are for the one before

local function escape(name)
  if name ~= plain then
    plain, escaped = name, name
    if string.find(name, "[{}%%]") then
      escaped = string.gsub(name, "[{}%%]", ESCAPES)
    end
  end
  return escaped
end

-- The one place that builds keys: bucket, kind of key with its colon, name.
local function key(b, kind, name)
  local base = bases[b]
  if not base then
    base = prefix .. "{" .. b .. "}:"
    bases[b] = base
  end
  if name then
    return base .. kind .. escape(name)
  end
  return base .. kind
end

-- The set of the caller's sessions in a bucket: each connection changes it twice.
local own_key
do
  local whose, base, names = nil, nil, {} -- of the last call; bucket -> key

  function own_key(b)
    if whose ~= incarnation or base ~= prefix then
      whose, base, names = incarnation, prefix, {}
    end
    local name = names[b]
    if not name then
      name = key(b, "n:", incarnation)
      names[b] = name
    end
    return name
  end
end

-- A number as an argument of a command. Redis writes those it is given as numbers with 17 digits.
local function integer(number)
  return string.format("%d", number)
end

-- A will's key, and its member in `due`; the epoch comes last, so that a client id may hold colons.
local function will_key(b, client, epoch)
  return key(b, "will:", client) .. ":" .. epoch
end

-- Tokens are bytes that nobody reads; they go into the key as they are.
local function once_key(b, token)
  return key(b, "once:") .. token
end

-- "stamp:options", the value of a subscription in the session and in the rows.
local function split_stamp(value)
  local colon = string.find(value, ":", 1, true)
  return tonumber(string.sub(value, 1, colon - 1)), string.sub(value, colon + 1)
end

-- A string of a request, or the body whose index is in a list in place of it.
local function given(text)
  return type(text) == "table" and bodies[text[1] + 1] or text
end

-- Calls a command with any number of arguments; unpack() puts at most some thousands on Lua's stack.
local function call_many(command, name, arguments)
  local answer = 0
  for first = 1, #arguments, 4000 do
    answer = answer + call(command, name, unpack(arguments, first, math.min(first + 3999, #arguments)))
  end
  return answer
end

-- HMGET of any number of fields.
local function fields_of(name, fields)
  if #fields <= 4000 then
    return call("HMGET", name, unpack(fields))
  end
  local found = {}
  for first = 1, #fields, 4000 do
    local some = call("HMGET", name, unpack(fields, first, math.min(first + 3999, #fields)))
    for i = 1, #some do
      found[first + i - 1] = some[i]
    end
  end
  return found
end

-- Whether the token's message is new to `member`; from now on it is not. A TTL is only given to a new set:
-- the end of the handshake cuts it, and a late repeat must not prolong it again.
local function is_first(b, token, member, ttl_ms)
  local once = once_key(b, token)
  if call("SADD", once, member) == 0 then
    return false
  end
  call("PEXPIRE", once, ttl_ms, "NX")
  return true
end

local function topic_of(entry)
  return cmsgpack.unpack(entry)[4] or ""
end

-- A dead letter; its time is its id.
local function write_letter(b, client, topic, reason)
  call("XADD", key(b, "letters"), "MAXLEN", "~", LETTERS, "*", "client", client, "topic", topic, "reason", reason)
end

-- An older message had to go: dead letter, and for a caller who tells of it (else `told` is nil) topic, flags and
-- properties. Of many or large ones it learns their number only.
local drop_stored
do
  local TOLD_ITEMS, TOLD_BYTES = 600, 65536

  function drop_stored(b, client, entry, told)
    local fields = cmsgpack.unpack(entry)
    local topic, properties = fields[4] or "", fields[6] or ""
    write_letter(b, client, topic, "drop_oldest")
    local at = told and #told.items
    if told and at < TOLD_ITEMS and told.bytes + #topic + #properties <= TOLD_BYTES then
      told.items[at + 1], told.items[at + 2], told.items[at + 3] = topic, fields[2], properties
      told.bytes = told.bytes + #topic + #properties
    end
  end
end

local function entry_number(id)
  return tonumber(string.match(id, "-(%d+)$"))
end

-- The first `count` entries of a queue whose number is beyond n. Entries are ordered by gen, then number, and
-- numbers rise over gens too; so at most one step per gen that is still in the queue.
local function entries_beyond(queue, n, count)
  local entries = call("XRANGE", queue, "-", "+", "COUNT", 1)
  if not entries[1] then
    return entries
  end
  if entry_number(entries[1][1]) > n then
    return call("XRANGE", queue, "-", "+", "COUNT", count)
  end
  repeat
    local gen = string.match(entries[1][1], "^%d+")
    entries = call("XRANGE", queue, gen .. "-" .. (n + 1), "+", "COUNT", count)
  until not entries[1] or entry_number(entries[1][1]) > n
  return entries
end

-- Whether `epoch` is (still) the one of the session; a writer of an older one has lost it.
local function is_fenced(session, epoch)
  return tonumber(call("HGET", session, "epoch")) ~= epoch
end

-- The first of the numbers that the bucket's counter has given since another primary has come (see `adopt`). A session
-- with a lower gen was last written before. Read once a call.
local firsts, firsts_read = {}, {}

local function first_since(b)
  if firsts_read[b] ~= calls then
    firsts_read[b] = calls
    firsts[b] = tonumber(call("HGET", key(b, "primary"), "since") or 0)
  end
  return firsts[b]
end

-- A session of before: entries may have been lost which somebody has seen. So it goes on under a gen that nobody has
-- had, at an n far beyond any that can be lost, whose Packet Identifiers are not those of a moment ago: 40503 is
-- 65535 / phi, so repeats don't come back to recent ones, either. `unsure`: all up to there may have been sent.
-- Answer: gen, n.
local JUMP = 40503 + 255 * 65535

local function jump(b, session, n)
  local gen = integer(call("INCR", key(b, "ctr")))
  call("HSET", session, "gen", gen, "n", integer(n + JUMP), "unsure", integer(n))
  return gen, n + JUMP
end

-- Of what pcall has caught: Redis raises tables, Lua strings.
local function error_text(error)
  if type(error) == "table" then
    return tostring(error.err)
  end
  return tostring(error)
end
