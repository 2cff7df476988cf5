-- What has been exported elsewhere is made again here: first the entries of a queue, aside; then the session, with
-- them; the rows in {m} are the caller's to write afterwards. A session that is there stays, unless it is to be
-- replaced; then its owner is told by its bell, and fenced at once. All may be carried out twice: a session keeps the
-- name of the import until its next claim.

-- import_entries: puts entries of a session's queue aside.
-- Request: bucket, client, import, whether a session that is there is replaced, whether these are the first, hi, limit
-- of a queue, drop_oldest, entries (n, p, ...), in order.
-- Answer: how many were dropped; -1: the session is there, and nothing is put aside; -2: what came before them is lost.
-- Atomic, as an entry is put there once, and the limit holds.

-- import_session: makes the session, with the entries that were put aside.
-- Request: bucket, client, import, whether one that is there is replaced, whether it has entries aside, n, hi, expiry,
-- ms that it may still live, or false: as long as its expiry says, subscriptions (filter, options), replays (filter,
-- cursor), released (n), receiving (packet id, is routed, age in ms, token), delayed (id, ms, record), will (delay, ms,
-- record) or false.
-- Answer: 1 made, 2 made in place of another, 0 there is one, -1 its client is connected, -2 its entries are lost; epoch;
-- rows of the session that was ended (filter, stamp); subscriptions of the one that is there (filter, options, stamp).
-- Atomic, as a client may claim it at any moment: it finds all of the session, or none.

-- import_retained: a retained message, if its topic has none, or whatever it has.
-- Request: bucket, topic, whether one that is there is replaced, record, deadline in ms or 0, how many the bucket may
-- hold or false. Answer: 1, 0 there is one, -1 there is no room.
-- Atomic, as what was published meanwhile is newer.

-- import_token: who of this bucket has the message of a token. Request: bucket, token, members, TTL in ms. Answer: 1.
do -- a chunk may have 200 locals only
  local ASIDE_MS = 3600000 -- for so long entries wait for their session

  local function aside_key(b, client)
    return key(b, "aside:", client)
  end

  -- Whether there is a session that an import must leave alone, unless it replaces.
  local function is_there(fields)
    return fields.epoch and (fields.owner or not has_ended(fields))
  end

  local function is_of_import(fields, import)
    return fields.claim and not fields.owner and cmsgpack.unpack(fields.claim)[1] == import
  end

  local function existing(b, client)
    local found = call("HMGET", key(b, "s:", client), "epoch", "owner", "expiry", "deadline", "claim")
    return {
      epoch = found[1] or nil, owner = found[2] or nil, expiry = found[3] or nil, deadline = found[4] or nil,
      claim = found[5] or nil,
    }
  end

  -- Makes room for one more; whether there is, and how many went.
  local function has_place(b, client, aside, hi, limit, drop_oldest, packed)
    if call("XLEN", aside) < limit then
      return true, 0
    end
    local dropped = drop_oldest and drop_oldest_entries(b, client, aside, hi, 1) or 0
    if dropped == 0 then
      write_letter(b, client, topic_of(packed), "drop_new")
      return false, 1
    end
    return true, dropped
  end

  function operations.import_entries(b, client, import, replaces, is_first, hi, limit, drop_oldest, entries)
    local fields = existing(b, client)
    if is_of_import(fields, import) or is_there(fields) and not replaces then
      return -1
    end
    local aside = aside_key(b, client)
    if is_first then
      call("DEL", aside)
    end
    local last = call("XREVRANGE", aside, "+", "-", "COUNT", 1)[1]
    if not last and not is_first then
      return -2
    end
    local gen = last and string.match(last[1], "^%d+") or call("INCR", key(b, "ctr"))
    local behind, dropped = last and entry_number(last[1]) or 0, 0
    for i = 1, #entries, 2 do
      if entries[i] > behind then
        local is_kept, gone = has_place(b, client, aside, hi, limit, drop_oldest, entries[i + 1])
        dropped = dropped + gone
        if is_kept then
          call("XADD", aside, gen .. "-" .. entries[i], "p", entries[i + 1])
        end
      end
    end
    call("PEXPIRE", aside, ASIDE_MS)
    return dropped
  end

  -- The entries become the queue; its gen. What was released later than it was read is in there no more.
  local function take_entries(b, client, released)
    local aside, queue = aside_key(b, client), key(b, "q:", client)
    local gen = string.match(call("XREVRANGE", aside, "+", "-", "COUNT", 1)[1][1], "^%d+")
    local ids = {}
    for i, n in ipairs(released) do
      ids[i] = gen .. "-" .. n
    end
    if #ids > 0 then
      call_many("XDEL", aside, ids)
    end
    if call("XLEN", aside) == 0 then
      call("DEL", aside)
    else
      call("RENAME", aside, queue)
      call("PERSIST", queue)
    end
    return gen
  end

  -- Writes the session's own fields, and its subscriptions with a stamp.
  local function write_session(b, client, fields, subscriptions, replays)
    local stamp = call("INCR", key(b, "ctr"))
    local values = { "stamp", stamp }
    for name, value in pairs(fields) do
      values[#values + 1] = name
      values[#values + 1] = value
    end
    for i = 1, #subscriptions, 2 do
      values[#values + 1] = "f:" .. subscriptions[i]
      values[#values + 1] = stamp .. ":" .. subscriptions[i + 1]
    end
    for i = 1, #replays, 2 do
      values[#values + 1] = "r:" .. replays[i]
      values[#values + 1] = replays[i + 1]
    end
    call_many("HSET", key(b, "s:", client), values)
  end

  local function write_exchanges(b, client, released, receiving)
    local scores, values = {}, {}
    for _, n in ipairs(released) do
      scores[#scores + 1] = n
      scores[#scores + 1] = n
    end
    call_many("ZADD", key(b, "rel:", client), scores)
    for i = 1, #receiving, 4 do
      values[#values + 1] = receiving[i]
      values[#values + 1] = (receiving[i + 1] and "1" or "0") .. (now - receiving[i + 2]) .. ":" .. receiving[i + 3]
    end
    call_many("HSET", key(b, "rx:", client), values)
  end

  -- What becomes of it by itself: its end, delayed messages, its will.
  local function write_deadlines(b, client, fields, delayed, will)
    if fields.deadline then
      call("ZADD", key(b, "due"), fields.deadline, "s:" .. client)
    end
    for i = 1, #delayed, 3 do
      call("HSET", key(b, "delayed:", client), delayed[i], delayed[i + 2])
      call("ZADD", key(b, "due"), now + delayed[i + 1], "d:" .. delayed[i] .. ":" .. client)
    end
    if will then
      call("SET", will_key(b, client, fields.epoch), will[3])
      call("ZADD", key(b, "due"), now + will[2], "w:" .. client .. ":" .. fields.epoch)
    end
  end

  local function answer(b, client, status, epoch, rows)
    local _, subscriptions = read_session(key(b, "s:", client))
    return { status, tonumber(epoch), rows, subscriptions }
  end

  function operations.import_session(
    b, client, import, replaces, has_entries, n, hi, expiry, lives_ms, subscriptions, replays, released, receiving,
    delayed, will
  )
    local old = existing(b, client)
    if is_of_import(old, import) then
      return answer(b, client, 1, old.epoch, {})
    elseif is_there(old) and not replaces then
      return answer(b, client, old.owner and -1 or 0, old.epoch, {})
    elseif has_entries and call("EXISTS", aside_key(b, client)) == 0 then
      return { -2, 0, {}, {} }
    end
    local ended = old.epoch and operations.session_end(b, client)
    local gen = has_entries and take_entries(b, client, released) or call("INCR", key(b, "ctr"))
    local fields = {
      gen = gen, epoch = call("INCR", key(b, "ctr")), n = integer(n), hi = integer(math.min(hi, n)),
      expiry = integer(expiry), claim = cmsgpack.pack({ import }),
    }
    if expiry ~= NEVER then
      fields.deadline = integer(now + (lives_ms or expiry * 1000))
    end
    if will then
      fields.will_delay = integer(will[1])
    end
    write_session(b, client, fields, subscriptions, replays)
    write_exchanges(b, client, released, receiving)
    write_deadlines(b, client, fields, delayed, will)
    enter_index(b, client, nil)
    return answer(b, client, ended and 2 or 1, fields.epoch, ended and ended[2] or {})
  end
end

function operations.import_retained(b, topic, replaces, record, deadline, maximum)
  local held = not replaces and call("HGET", key(b, "retained"), topic)
  if held then
    local until_ms = split_stamp(held)
    if until_ms == 0 or until_ms > now then
      return 0
    end
  end
  return operations.retain(b, topic, record, deadline, false, 0, maximum)
end

function operations.import_token(b, token, members, ttl_ms)
  local once = once_key(b, token)
  call_many("SADD", once, members)
  call("PEXPIRE", once, ttl_ms, "NX")
  return 1
end
