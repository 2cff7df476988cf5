-- A shared subscription: its messages, its members, and which member has which message.
-- All of a group is in one slot, named by `group/filter`. Messages wait in the stream `share`; a member that is
-- given one has it pending there under its name (as consumer) until its client has acknowledged it. The hash `member`
-- has those that are connected, each as {epoch, node, window, qos, given, turn, last}: `given` messages are with it,
-- `turn` is when it was last given one, `last` the newest it was given; and `seq`, the number of turns, and `given`,
-- the newest message that anybody was given.
-- A member is `s:<client>`, or `d:<epoch>:<client>` if its session ends with the connection.

local CONSUMERS = "members"
local EPOCH, NODE, WINDOW, QOS, GIVEN, TURN, LAST = 1, 2, 3, 4, 5, 6, 7
local ENTRIES = 256 -- looked at in one call: well below a millisecond
local FOREVER = 2147483647000 -- ms; more than this does not end

-- The group as a table: its keys, and members by name as far as they have been read.
local function open_group(b, name)
  local group = {
    b = b, name = name, stream = key(b, "share:", name), hash = key(b, "member:", name), members = {}, changed = {},
    seq = 0, given = "0-0",
  }
  local raw = call("HGETALL", group.hash)
  for i = 1, #raw, 2 do
    if raw[i] == "seq" then
      group.seq = tonumber(raw[i + 1])
    elseif raw[i] == "given" then
      group.given = raw[i + 1]
    else
      group.members[raw[i]] = cmsgpack.unpack(raw[i + 1])
    end
  end
  return group
end

local function close_group(group, ttl_ms)
  local values = { "seq", group.seq, "given", group.given }
  for member in pairs(group.changed) do
    if group.members[member] then
      values[#values + 1] = member
      values[#values + 1] = cmsgpack.pack(group.members[member])
    else
      call("HDEL", group.hash, member)
    end
  end
  call("HSET", group.hash, unpack(values))
  for _, name in ipairs({ group.stream, group.hash }) do
    if ttl_ms < FOREVER then
      call("PEXPIRE", name, ttl_ms)
    else
      call("PERSIST", name)
    end
  end
end

local function ensure_consumers(group)
  if call("EXISTS", group.stream) == 0 then
    call("XGROUP", "CREATE", group.stream, CONSUMERS, "0", "MKSTREAM")
  end
end

local function qos_of(entry)
  return bit.band(cmsgpack.unpack(entry)[2], 3)
end

-- How good a choice a member is for a message: the lowest pair of numbers is chosen; nil: not now.
local rank = {}

-- In turn, among those with room: equal members get equal shares, though some are a little faster.
function rank.balanced(member)
  if member[GIVEN] < member[WINDOW] then
    return member[TURN], 0
  end
end

function rank.least_loaded(member)
  if member[GIVEN] < member[WINDOW] then
    return member[GIVEN], member[TURN]
  end
end

function rank.sticky(member)
  if member[GIVEN] < member[WINDOW] then
    return -member[TURN], 0
  end
end

-- Waits for its member, so that the messages of a topic stay in order: no window.
function rank.hash_topic(_, name, topic)
  return tonumber(string.sub(redis.sha1hex(topic .. "\0" .. name), 1, 12), 16), 0
end

local function choose(group, strategy, topic)
  local best, first, second
  for name, member in pairs(group.members) do
    local one, two = strategy(member, name, topic)
    if one and (not best or one < first or (one == first and (two < second or (two == second and name < best)))) then
      best, first, second = name, one, two
    end
  end
  return best
end

-- Gives messages that nobody has to members with room. Answer: member, node, the member's newest before, id, entry, ...
local function give(group, strategy_name)
  local answer, ids = {}, {}
  if next(group.members) == nil then
    return answer
  end
  local strategy = rank[strategy_name] or rank.balanced
  for _, entry in ipairs(call("XRANGE", group.stream, "(" .. group.given, "+", "COUNT", ENTRIES)) do
    local topic = strategy == rank.hash_topic and topic_of(entry[2][2]) or nil
    local name = choose(group, strategy, topic)
    if not name then
      break
    end
    local member = group.members[name]
    group.seq = group.seq + 1
    for _, item in ipairs({ name, member[NODE], member[LAST], entry[1], entry[2][2] }) do
      answer[#answer + 1] = item
    end
    member[GIVEN], member[TURN], member[LAST] = member[GIVEN] + 1, group.seq, entry[1]
    group.given = entry[1]
    group.changed[name] = true
    ids[name] = ids[name] or {}
    table.insert(ids[name], entry[1])
  end
  for name, given in pairs(ids) do
    local claim = { "XCLAIM", group.stream, CONSUMERS, name, 0 }
    for _, id in ipairs(given) do
      claim[#claim + 1] = id
    end
    for _, option in ipairs({ "FORCE", "JUSTID", "LASTID", group.given }) do
      claim[#claim + 1] = option
    end
    call(unpack(claim))
  end
  return answer
end

-- What a member has been given and is not done with, beyond an id: entries as XRANGE has them.
local function pending(group, member, after)
  local reply = call("XREADGROUP", "GROUP", CONSUMERS, member, "COUNT", ENTRIES, "STREAMS", group.stream, after)
  local found = {}
  for _, entry in ipairs(reply and reply[1][2] or {}) do
    if entry[2] then -- else it was deleted meanwhile
      found[#found + 1] = entry
    end
  end
  return found
end

-- Takes messages out of the group; how many of them somebody had.
local function forget(group, ids)
  local count = 0
  for first = 1, #ids, 4000 do
    local last = math.min(first + 3999, #ids)
    call("XDEL", group.stream, unpack(ids, first, last))
    count = count + call("XACK", group.stream, CONSUMERS, unpack(ids, first, last))
  end
  return count
end

-- Takes back what a member has that is not connected any more: QoS 1 goes to others; QoS 2 stays with a session that
-- lives on [MQTT-4.8.2-4], and goes to nobody else if it has ended [MQTT-4.8.2-5]. Answer: what stays: id, entry, ...
local function take_back(group, member, granted, has_ended)
  local owed, gone = {}, {}
  local entries = pending(group, member, "0")
  while #entries > 0 do
    for _, entry in ipairs(entries) do
      local qos = math.min(granted, qos_of(entry[2][2]))
      if qos == 2 and not has_ended then
        owed[#owed + 1] = entry[1]
        owed[#owed + 1] = entry[2][2]
      else
        if qos == 2 then
          write_letter(group.b, "$share/" .. group.name, topic_of(entry[2][2]), "shared_session_ended")
        else
          call("XADD", group.stream, "*", "p", entry[2][2])
        end
        gone[#gone + 1] = entry[1]
      end
    end
    entries = pending(group, member, entries[#entries][1])
  end
  forget(group, gone)
  if #owed == 0 then
    call("XGROUP", "DELCONSUMER", group.stream, CONSUMERS, member)
  end
  return owed
end

local function is_direct(member)
  return string.sub(member, 1, 2) == "d:"
end

local function remove_member(group, name, has_ended)
  local member = group.members[name]
  group.members[name] = nil
  group.changed[name] = true
  return take_back(group, name, member and member[QOS] or 2, has_ended or is_direct(name))
end

-- share: puts messages into a group.
-- Request: bucket, name, limit, drop_oldest, strategy, TTL of the group in ms, entries (head or false, index of its
-- body, token or false, TTL of the token in ms, ...), tells. Answer: statuses or false (all were appended), how many
-- older ones were dropped, what members were given; if the caller `tells`, the older ones. Statuses as in enqueue, and
-- what is told.
function operations.share(b, name, limit, drop_oldest, strategy, ttl_ms, entries, tells)
  local group = open_group(b, name)
  ensure_consumers(group)
  local statuses, is_plain, accepted, dropped = {}, true, 0, 0
  local told = tells and { items = {}, bytes = 0 } or nil
  for i = 1, #entries, 4 do
    local status = 0
    if not entries[i] then
      status = HAD
    elseif entries[i + 2] and not is_first(b, entries[i + 2], "g:" .. name, entries[i + 3]) then
      status = HAD
    end
    statuses[#statuses + 1] = status
    accepted = accepted + (status == 0 and 1 or 0)
  end
  local excess = call("XLEN", group.stream) + accepted - limit
  if excess > 0 and drop_oldest then
    local oldest = call("XRANGE", group.stream, "(" .. group.given, "+", "COUNT", excess)
    local ids = {}
    for i, entry in ipairs(oldest) do
      ids[i] = entry[1]
      drop_stored(b, "$share/" .. name, entry[2][2], told)
    end
    forget(group, ids)
    dropped = #ids
    excess = excess - dropped
  end
  for place = #statuses, 1, -1 do
    if excess > 0 and statuses[place] == 0 then
      statuses[place] = DROPPED
      excess = excess - 1
      local at = place * 4 - 3
      write_letter(b, "$share/" .. name, topic_of(entries[at] .. bodies[entries[at + 1] + 1]), "drop_new")
    end
  end
  for place, status in ipairs(statuses) do
    if status == 0 then
      local at = place * 4 - 3
      call("XADD", group.stream, "*", "p", entries[at] .. bodies[entries[at + 1] + 1])
    else
      is_plain = false
    end
  end
  local given = give(group, strategy)
  close_group(group, ttl_ms)
  return { not is_plain and statuses, dropped, given, told and told.items }
end

-- share_join: a client that is connected takes its part.
-- Request: bucket, name, member, epoch, window, granted QoS, strategy, TTL. Answer: what it has been given before
-- and has not settled (id, entry, ...), the newest it was given, what members were given now; false: a newer
-- connection of it has joined.
function operations.share_join(b, name, member, epoch, window, qos, strategy, ttl_ms)
  local group = open_group(b, name)
  ensure_consumers(group)
  local known = group.members[member]
  if known and known[EPOCH] > epoch then
    return false
  end
  local had, count = {}, 0
  local entries = pending(group, member, "0")
  local last = known and known[LAST] or "0-0"
  while #entries > 0 do
    for _, entry in ipairs(entries) do
      had[#had + 1] = entry[1]
      had[#had + 1] = entry[2][2]
      last = entry[1]
      count = count + 1
    end
    entries = pending(group, member, last)
  end
  group.members[member] = { epoch, incarnation, window, qos, count, known and known[TURN] or group.seq, last }
  group.changed[member] = true
  local given = give(group, strategy)
  close_group(group, ttl_ms)
  return { had, last, given }
end

-- share_leave: it takes part no more. `has_ended`: nor will its session ever.
-- Request: bucket, name, member, epoch, has_ended, strategy, TTL. Answer: what stays with its session (id, entry, ...),
-- what other members were given.
function operations.share_leave(b, name, member, epoch, has_ended, strategy, ttl_ms)
  local group = open_group(b, name)
  local known = group.members[member]
  if call("EXISTS", group.stream) == 0 or (known and known[EPOCH] > epoch) then
    return { {}, {} }
  end
  local owed = remove_member(group, member, has_ended)
  local given = give(group, strategy)
  close_group(group, ttl_ms)
  return { owed, given }
end

-- share_done: a member is done with messages, which leave the group.
-- Request: bucket, name, member, ids, keeps_places, completed, strategy, TTL. With `keeps_places` they are in the queue
-- of its session now, and their places in its window aren't free before so many are `completed` by a later request.
-- Answer: what members were given.
function operations.share_done(b, name, member, ids, keeps_places, completed, strategy, ttl_ms)
  local group = open_group(b, name)
  if call("EXISTS", group.stream) == 0 then
    return {}
  end
  local free = forget(group, ids)
  if keeps_places then
    free = 0
  end
  local known = group.members[member]
  if known then
    known[GIVEN] = math.max(known[GIVEN] - free - completed, 0)
    group.changed[member] = true
  end
  local given = give(group, strategy)
  close_group(group, ttl_ms)
  return given
end

-- share_return: a member turns out not to be subscribed any more: it takes part no more, and what it was given and has
-- not been sent goes to others.
-- Request: bucket, name, member, ids, strategy, TTL. Answer: what members were given.
function operations.share_return(b, name, member, ids, strategy, ttl_ms)
  local group = open_group(b, name)
  if call("EXISTS", group.stream) == 0 then
    return {}
  end
  for _, id in ipairs(ids) do
    local entry = call("XRANGE", group.stream, id, id)[1]
    if entry and forget(group, { id }) == 1 then -- else it was returned by this very call, sent before
      call("XADD", group.stream, "*", "p", entry[2][2])
    end
  end
  if group.members[member] then
    group.members[member] = nil
    group.changed[member] = true
  end
  local given = give(group, strategy)
  close_group(group, ttl_ms)
  return given
end

-- share_look: what may have been missed: by members of the caller, and of members whose node is gone.
-- Request: bucket, name, members (name, newest that it knows of, false if it is about to join, ...), strategy, TTL.
-- These are all that the caller has: others that are said to be there have left. Answer: members that aren't known
-- here, and must join; what was given and is not known (member, id, entry, ...); what stays with sessions that
-- are not connected (member, id, entry, ...); what members were given now; messages there, those of them given.
function operations.share_look(b, name, known, strategy, ttl_ms)
  local group = open_group(b, name)
  ensure_consumers(group)
  local has = {}
  for i = 1, #known, 2 do
    has[known[i]] = true
  end
  for member, state in pairs(group.members) do
    local has_left = state[NODE] == incarnation and not has[member]
    if has_left or call("EXISTS", key(b, "gone:", state[NODE])) == 1 then
      remove_member(group, member, false)
    end
  end
  local unknown, missed, owed = {}, {}, {}
  for i = 1, #known, 2 do
    local state = group.members[known[i]]
    if not known[i + 1] then
      -- its answer is on the way
    elseif not state or state[NODE] ~= incarnation then
      unknown[#unknown + 1] = known[i]
    elseif state[LAST] ~= known[i + 1] then
      for _, entry in ipairs(pending(group, known[i], known[i + 1])) do
        for _, item in ipairs({ known[i], entry[1], entry[2][2] }) do
          missed[#missed + 1] = item
        end
      end
    end
  end
  for _, consumer in ipairs(call("XINFO", "CONSUMERS", group.stream, CONSUMERS)) do
    local member = consumer[2]
    if not group.members[member] then
      local left = take_back(group, member, 2, is_direct(member))
      for i = 1, #left, 2 do
        for _, item in ipairs({ member, left[i], left[i + 1] }) do
          owed[#owed + 1] = item
        end
      end
    end
  end
  local given = give(group, strategy)
  close_group(group, ttl_ms)
  return { unknown, missed, owed, given, call("XLEN", group.stream), call("XPENDING", group.stream, CONSUMERS)[1] }
end
