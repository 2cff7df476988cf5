-- claim: a node takes a session for a connection that has said CONNECT.
-- Request: bucket, client, nonce, clean_start, expiry seconds, protocol, window, will record or false, will
-- delay seconds, is_repeat: the connection has ended meanwhile, it is only asked what became of the claim that may
-- have been made before; false if it was not, or somebody else has claimed since. is_brief: the caller takes a
-- brief answer.
-- Answer: present, epoch, gen, n, sent, hi, previous owner or false, previous epoch, subscriptions (filter,
-- options, stamp), receiving (packet id, token, is routed), released (n), wills (member, token, record), rows
-- of the session that was ended (filter, stamp), replays (filter, cursor), how many entries may be queued that the
-- client has acknowledged, as another primary has come since, packet ids of `receiving` that are in doubt. Brief: false,
-- epoch; of a direct session, when there was nothing to find.
-- Atomic, as the epoch fences the previous owner from the moment the new one has the session's state; and as
-- a will is either cancelled or published.

-- Entries up to hi may be sent: the window-th entry of the queue, or a window beyond the last number.
local function first_window(queue, n, window)
  if call("XLEN", queue) < window then
    return n + window
  end
  local entries = call("XRANGE", queue, "-", "+", "COUNT", window)
  return entry_number(entries[window][1])
end

local function received(b, client)
  local raw = call("HGETALL", key(b, "rx:", client))
  local receiving, in_doubt = {}, {}
  for i = 1, #raw, 2 do
    local is_routed, _, token = split_received(raw[i + 1])
    receiving[#receiving + 1] = tonumber(raw[i])
    receiving[#receiving + 1] = token
    receiving[#receiving + 1] = is_routed
    if is_in_doubt(raw[i + 1]) then
      in_doubt[#in_doubt + 1] = tonumber(raw[i])
    end
  end
  return receiving, in_doubt
end

-- Another primary has come since they were written. That their identifiers were released may be lost, so the next
-- message under one of them may be another: which it is says its DUP flag. The doubt is kept until then.
local function doubt_received(b, client)
  local name, values = key(b, "rx:", client), {}
  local raw = call("HGETALL", name)
  for i = 1, #raw, 2 do
    if not is_in_doubt(raw[i + 1]) then
      values[#values + 1] = raw[i]
      values[#values + 1] = string.char(string.byte(raw[i + 1]) + 2) .. string.sub(raw[i + 1], 2)
    end
  end
  call_many("HSET", name, values)
end

local function released(b, client)
  local numbers = call("ZRANGE", key(b, "rel:", client), 0, -1)
  for i = 1, #numbers do
    numbers[i] = tonumber(numbers[i])
  end
  return numbers
end

local function claim_answer(b, client, fields, subscriptions, replays, claim, rows, unsure)
  local present = claim[2] -- a new session has no exchanges
  local receiving, in_doubt = {}, {}
  if present then
    receiving, in_doubt = received(b, client)
  end
  return {
    present, tonumber(fields.epoch), tonumber(fields.gen), tonumber(fields.n), claim[3], tonumber(fields.hi),
    claim[4], claim[5], subscriptions, receiving, present and released(b, client) or {}, lease_wills(b, client), rows,
    replays, unsure or 0, in_doubt,
  }
end

-- Moves the session from its last owner to this one.
local function change_owner(b, client, previous)
  if previous and previous ~= incarnation then
    call("SREM", key(b, "n:", previous), client)
  end
  call("SADD", own_key(b), client)
end

-- What the session has had before: gen, n, up to which entry it may have been sent, and whether another primary has
-- come since.
local function numbers_of(b, session, old)
  local n = tonumber(old.n)
  local sent = math.min(tonumber(old.hi), n)
  if old.unsure then
    sent = math.max(sent, tonumber(old.unsure))
    call("HDEL", session, "unsure")
  end
  if tonumber(old.gen) >= first_since(b) then
    return old.gen, n, sent, old.unsure
  end
  local gen, jumped = jump(b, session, n)
  call("HDEL", session, "unsure")
  return gen, jumped, n, true
end

local function write_claim(b, client, fields, claim, present)
  local session = key(b, "s:", client)
  local epoch = integer(fields.epoch)
  local values = {
    "epoch", epoch, "owner", incarnation, "n", integer(fields.n), "hi", integer(fields.hi),
    "protocol", integer(fields.protocol), "expiry", integer(fields.expiry), "claim", cmsgpack.pack(claim),
  }
  if present then
    call("HDEL", session, "deadline", "will_delay")
    call("ZREM", key(b, "due"), "s:" .. client)
  else
    values[15], values[16] = "gen", epoch
    if fields.expiry == 0 then
      values[17], values[18] = "direct", "1"
    end
  end
  if fields.will_delay then
    values[#values + 1] = "will_delay"
    values[#values + 1] = integer(fields.will_delay)
  end
  call("HSET", session, unpack(values))
end

-- A direct session of a client of whom there is nothing: that of nearly all who come and go. The same as below, for
-- less; without `n` and `hi`, as it has no queue. Its `claim` is what cmsgpack makes of { nonce, false, 0, false, 0,
-- true }, without the table; a nonce has 8 bytes.
local function claim_anew(b, client, nonce, protocol, will, will_delay)
  local epoch = call("INCR", key(b, "ctr"))
  local digits, session = integer(epoch), key(b, "s:", client)
  local claim = "\150" .. string.char(160 + #nonce) .. nonce .. "\194\0\194\0\195"
  call(
    "HSET", session, "epoch", digits, "owner", incarnation, "protocol", integer(protocol), "expiry", "0",
    "claim", claim, "gen", digits, "direct", "1"
  )
  if will then
    call("SET", will_key(b, client, digits), will)
    call("HSET", session, "will_delay", integer(will_delay))
  end
  call("SADD", own_key(b), client)
  return { false, epoch }
end

function operations.claim(
  b, client, nonce, clean_start, expiry, protocol, window, will, will_delay, is_repeat, is_brief
)
  if is_brief and expiry == 0 and call("EXISTS", key(b, "s:", client), key(b, "wills:", client)) == 0 then
    return not is_repeat and claim_anew(b, client, nonce, protocol, will, will_delay)
  end
  local old, subscriptions, replays = read_session(key(b, "s:", client))
  if old.claim then
    local claim = cmsgpack.unpack(old.claim)
    if claim[1] == nonce then -- sent again: the answer it got, or would have got
      return claim_answer(b, client, old, subscriptions, replays, claim, rows_of_ended(b, client, claim[5]))
    end
  end
  if is_repeat then
    return false
  end
  local present = old.gen ~= nil and not clean_start and not has_ended(old)
  local rows = {}
  local epoch = call("INCR", key(b, "ctr"))
  local fields = { epoch = epoch, gen = epoch, n = 0, hi = window, protocol = protocol, expiry = expiry }
  local sent, is_unsure = 0, false
  if present then
    settle_will(b, client, old, false)
    fields.gen, fields.n, sent, is_unsure = numbers_of(b, key(b, "s:", client), old)
    fields.hi = math.max(sent, first_window(key(b, "q:", client), fields.n, window))
    if is_unsure then
      doubt_received(b, client)
    end
  else
    if old.gen then
      rows = end_session(b, client, old, subscriptions)
    end
    subscriptions, replays = {}, {}
  end
  if will then
    call("SET", will_key(b, client, epoch), will)
    fields.will_delay = will_delay
  end
  local claim = { nonce, present, sent, old.owner or false, tonumber(old.epoch) or 0, true }
  write_claim(b, client, fields, claim, present)
  if present and may_be_left_out(old) then
    enter_index(b, client, old.counted)
  elseif not present and expiry > 0 then
    enter_index(b, client, nil)
  end
  change_owner(b, client, old.owner)
  if old.owner and old.owner ~= incarnation then
    call("SADD", key(b, "bell:", old.owner), "kick:" .. old.epoch .. ":" .. client)
  end
  local unsure = is_unsure and call("XLEN", key(b, "q:", client))
  return claim_answer(b, client, fields, subscriptions, replays, claim, rows, unsure)
end
