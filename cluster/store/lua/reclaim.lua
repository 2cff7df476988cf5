-- reclaim: after another primary has come: what the client's node holds of a session that is connected there counts
-- more than what is found here, as writes may be lost. The session is made equal to it.
-- Request: bucket, client, what is held: epoch, gen, the gen from which on entries are this session's, the last number
-- known, the first that was not sent yet, hi, protocol, expiry, whether it is direct, will or false, its delay, up to
-- which stamp its subscriptions are known, subscriptions (filter, options, stamp, ...), in flight (gen, n, ...),
-- released (n, ...), numbers that are about to be, receiving (packet id, token, whether routed, ...), replays that are
-- under way (filter, cursor, ...; nil: what is here stays); then false, or where the answer before says to go on. Of
-- `receiving`, one without a token that is not routed is left as it is.
-- Answer: 0 lost: another node has claimed it since, 1 it was here, 2 it was made again; gen, n; how many entries were
-- here that the client has settled; how many of its QoS 2 exchanges were in another state; how many in flight are not
-- here any more; where to go on, or false.
-- An epoch that is higher wins, whoever comes first. Entries below the first that was not sent and not in flight have
-- been acknowledged: they go. So nothing that is in flight gets another number, and nothing comes twice at QoS 2.
-- Atomic, as nobody may find a part of it. Bounded: a call looks at STEP entries or PAGE_BYTES of the queue, and the
-- next goes on behind them. Doing it again changes nothing.

do
  local STEP = 100
  local BYTES = 262144

  -- Where what is held stands in the request.
  local EPOCH, GEN, FIRST_GEN, N, NEXT_N, HI, PROTOCOL, EXPIRY, DIRECT = 1, 2, 3, 4, 5, 6, 7, 8, 9
  local WILL, WILL_DELAY, STAMP = 10, 11, 12
  local FILTERS, IN_FLIGHT, RELEASED, RELEASING, RECEIVING, REPLAYS = 13, 14, 15, 16, 17, 18

  -- What is here of an older life of the session: it has ended in what is lost. Its will was decided there, too.
  local function forget_older(b, client, old, subscriptions, replays, held)
    if old.will_delay and tonumber(old.epoch) ~= held[EPOCH] then
      forget_will(b, client, old.epoch)
      old.will_delay = nil
    end
    local is_other = (old.direct ~= nil) ~= held[DIRECT]
    if old.gen and (is_other or tonumber(old.gen) < held[FIRST_GEN]) then
      end_session(b, client, old, subscriptions)
      return {}, {}, {}
    end
    return old, subscriptions, replays
  end

  local function restore_filters(session, subscriptions, held)
    local wanted, values = {}, {}
    local filters = held[FILTERS]
    for i = 1, #filters, 3 do
      wanted[filters[i]] = i
    end
    for i = 1, #subscriptions, 3 do
      local filter, stamp = subscriptions[i], subscriptions[i + 2]
      local at = wanted[filter]
      if at and filters[at + 2] <= stamp then
        wanted[filter] = nil
      elseif not at and stamp <= held[STAMP] then
        call("HDEL", session, "f:" .. filter, "r:" .. filter)
      end
    end
    for filter, at in pairs(wanted) do
      values[#values + 1] = "f:" .. filter
      values[#values + 1] = integer(filters[at + 2]) .. ":" .. filters[at + 1]
    end
    if #values > 0 then
      call_many("HSET", session, values)
    end
  end

  -- A replay goes on where its node is: else it would end, or come again with the next connection. Those of a SUBSCRIBE
  -- that is under way stay.
  local function restore_replays(session, subscriptions, replays, held)
    local is_newer, cursors, values = {}, {}, {}
    for i = 1, #subscriptions, 3 do
      is_newer[subscriptions[i]] = subscriptions[i + 2] > held[STAMP]
    end
    for i = 1, #held[REPLAYS], 2 do
      cursors[held[REPLAYS][i]] = held[REPLAYS][i + 1]
    end
    for i = 1, #replays, 2 do
      if not cursors[replays[i]] and not is_newer[replays[i]] then
        call("HDEL", session, "r:" .. replays[i])
      end
    end
    for i = 1, #held[FILTERS], 3 do
      local filter = held[FILTERS][i]
      if cursors[filter] and not is_newer[filter] then
        values[#values + 1] = "r:" .. filter
        values[#values + 1] = cursors[filter]
      end
    end
    call_many("HSET", session, values)
  end

  -- How many numbers were in another state.
  local function restore_released(b, client, held)
    local name, differing = key(b, "rel:", client), 0
    local keep, add, drop = {}, {}, {}
    for _, n in ipairs(held[RELEASED]) do
      keep[n] = true
    end
    for _, n in ipairs(held[RELEASING]) do
      keep[n] = false
    end
    for _, text in ipairs(call("ZRANGE", name, 0, -1)) do
      local n = tonumber(text)
      if keep[n] == nil then
        drop[#drop + 1] = text
      end
      keep[n] = nil
    end
    for n, is_released in pairs(keep) do
      if is_released then
        add[#add + 1] = integer(n)
        add[#add + 1] = integer(n)
        differing = differing + 1
      end
    end
    call_many("ZADD", name, add)
    call_many("ZREM", name, drop)
    return differing + #drop
  end

  local function restore_receiving(b, client, held)
    local name, differing = key(b, "rx:", client), 0
    local here, values, drop = {}, {}, {}
    local raw = call("HGETALL", name)
    for i = 1, #raw, 2 do
      here[raw[i]] = raw[i + 1]
    end
    local receiving = held[RECEIVING]
    for i = 1, #receiving, 3 do
      local id, token, is_routed = integer(receiving[i]), receiving[i + 1], receiving[i + 2]
      local was_routed, time, old = nil, now, nil
      if here[id] then
        was_routed, time, old = split_received(here[id])
      end
      if token == "" then
        token = old or token
      end
      -- Another token is that of an earlier message under this identifier. One in doubt stays so.
      if (was_routed ~= is_routed or token ~= old) and (is_routed or token ~= "") then
        values[#values + 1] = id
        values[#values + 1] = (is_routed and "1" or "0") .. (token == old and time or now) .. ":" .. token
        differing = differing + 1
      end
      here[id] = nil
    end
    for id in pairs(here) do
      drop[#drop + 1] = id
    end
    call_many("HSET", name, values)
    call_many("HDEL", name, drop)
    return differing + #drop
  end

  -- Deletes entries that were settled. Answer: how many, how many of those in flight are there, where to go on.
  local function delete_settled(queue, held, from)
    local in_flight, kept, settled, bytes = {}, 0, {}, 0
    for i = 1, #held[IN_FLIGHT], 2 do
      in_flight[integer(held[IN_FLIGHT][i]) .. "-" .. integer(held[IN_FLIGHT][i + 1])] = true
    end
    local start, last, looked = from and "(" .. from or "-", from, 0
    local is_over = false
    while not is_over and looked < STEP and bytes < BYTES do
      local entries = call("XRANGE", queue, start, "+", "COUNT", 10)
      is_over = #entries < 10
      for _, entry in ipairs(entries) do
        local id = entry[1]
        local gen, n = string.match(id, "^(%d+)-(%d+)$")
        gen, n = tonumber(gen), tonumber(n)
        local is_older = gen < held[FIRST_GEN]
        if not is_older and (n >= held[NEXT_N] or gen > held[GEN]) then
          is_over = true
          break
        end
        looked, bytes, last = looked + 1, bytes + #entry[2][2], id
        if in_flight[id] then
          kept = kept + 1
        else
          settled[#settled + 1] = id
        end
      end
      start = last and "(" .. last or "-"
    end
    if #settled > 0 then
      call_many("XDEL", queue, settled)
      if call("XLEN", queue) == 0 then
        call("DEL", queue)
      end
    end
    return #settled, kept, not is_over and last
  end

  local function restore_will(b, client, session, old, held)
    if held[WILL] then
      call("SET", will_key(b, client, integer(held[EPOCH])), held[WILL])
      call("HSET", session, "will_delay", integer(held[WILL_DELAY]))
    elseif old.will_delay then
      call("HDEL", session, "will_delay")
    end
  end

  -- Gen and number of the last entry from now on, and the fields that change. As a `jump`, but for `unsure`: its node
  -- knows what was sent. The stamp is a new one, too: who has a message for it is told its subscriptions, and so finds
  -- rows that are not as they were.
  local function restored_numbers(b, old, held)
    local n = math.max(tonumber(old.n or 0), held[N])
    local gen, fields = old.gen, { "hi", integer(math.max(tonumber(old.hi or 0), held[HI])) }
    if not gen or tonumber(gen) < first_since(b) or n > tonumber(old.n) then
      gen, n = integer(call("INCR", key(b, "ctr"))), n + JUMP
      fields = { "gen", gen, "n", integer(n), "stamp", gen, fields[1], fields[2] }
    end
    return gen, n, fields
  end

  local function restore_session(b, client, session, old, held)
    local gen, n = integer(held[EPOCH]), 0
    local fields = { "direct", "1", "gen", gen, "n", 0, "hi", 0 }
    if not held[DIRECT] then
      gen, n, fields = restored_numbers(b, old, held)
      if old.unsure then
        call("HDEL", session, "unsure")
      end
    end
    local claim = { "", not held[DIRECT], 0, false, 0, true }
    if tonumber(old.epoch) == held[EPOCH] and old.claim then
      claim = cmsgpack.unpack(old.claim)
    end
    call(
      "HSET", session, "epoch", integer(held[EPOCH]), "owner", incarnation, "protocol", integer(held[PROTOCOL]),
      "expiry", integer(held[EXPIRY]), "claim", cmsgpack.pack(claim), unpack(fields)
    )
    if old.deadline then
      call("HDEL", session, "deadline")
      call("ZREM", key(b, "due"), "s:" .. client)
    end
    return gen, n
  end

  function operations.reclaim(b, client, held, from)
    local session = key(b, "s:", client)
    local old, subscriptions, replays = read_session(session)
    if old.epoch and tonumber(old.epoch) > held[EPOCH] then
      return { 0, 0, 0, 0, 0, 0, false }
    end
    local owner, epoch = old.owner, old.epoch
    old, subscriptions, replays = forget_older(b, client, old, subscriptions, replays, held)
    local gen, n = restore_session(b, client, session, old, held)
    restore_will(b, client, session, old, held)
    change_owner(b, client, owner)
    if owner and owner ~= incarnation then
      call("SADD", key(b, "bell:", owner), "kick:" .. epoch .. ":" .. client)
    end
    local status = old.gen and 1 or 2
    if held[DIRECT] then
      return { status, tonumber(gen), n, 0, 0, 0, false }
    end
    if status == 2 then
      enter_index(b, client, nil)
    end
    restore_filters(session, subscriptions, held)
    if held[REPLAYS] then
      restore_replays(session, subscriptions, replays, held)
    end
    local differing = restore_released(b, client, held) + restore_receiving(b, client, held)
    local settled, kept, next = delete_settled(key(b, "q:", client), held, from)
    return { status, tonumber(gen), n, settled, differing, kept, next }
  end

  -- orphans: sessions that this node owns here and has no connection of: that they were given back is lost.
  -- Request: bucket, cursor ("0": from the beginning), count. Answer: the next cursor ("0": that is all), clients.
  -- Only reads.
  function operations.owned(b, cursor, count)
    return call("SSCAN", key(b, "n:", incarnation), cursor, "COUNT", count)
  end

  -- Gives one of them back, as if its connection had ended now.
  -- Request: bucket, client. Answer: rows of the session if it has ended (filter, stamp), its will if that is due
  -- now, leased to the caller (member, token, record).
  -- Atomic, as it is free, has its deadline and has its will decided at one moment.
  function operations.give_back(b, client)
    local fields = read_ownership(b, client)
    if fields.owner ~= incarnation then
      call("SREM", key(b, "n:", incarnation), client)
      return { {}, {} }
    end
    local hi = math.min(tonumber(fields.hi), tonumber(fields.n))
    local rows = give_back(b, client, fields, hi, tonumber(fields.expiry), true)
    return { rows, will_if_due(b, client, fields.epoch) }
  end
end
