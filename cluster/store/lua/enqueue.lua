-- enqueue: appends messages to a session's queue.
-- Request: bucket, client, limit, drop_oldest, entries (filter or false, head or false, index of its body, -1 if the
-- head is all of it; an empty head: the body is; token or false, TTL of the token in ms, ...), known or false, tells,
-- limit in bytes or false (nil: an older node asks). Without a head it is none: it was struck from a call that is
-- sent again. What was matched is said in one of two ways. By `known`, how far the caller has followed this session's
-- subscriptions (a stamp): if they have changed since, all is refused. Or, without it, by the filter of each entry:
-- if the session has no such subscription, that entry is refused. `tells`: the caller tells of what is dropped.
-- Answer: gen, n before, owner or false, statuses or false (all appended), how many older ones were dropped. Status: 0
-- appended, 1 refused, 2 had it before, 3 dropped. What was appended got n + 1, n + 2, ... If what the caller knew is
-- outdated, true stands in place of the statuses, and two more follow: the stamp of the session, and its subscriptions
-- (filter, options, stamp, ...); else, if it `tells` and the queue may be full, topic, flags, properties, ... of the older
-- ones.
-- Atomic, as the number of an entry, the entry, its subscription and its token must agree whatever else
-- happens. Cost: one HMGET, one XADD each, one HSET; XLEN only if the queue may be full; one HGET a bucket and call.

local REFUSED, HAD, DROPPED = 1, 2, 3

local function all_refused(entries)
  local statuses = {}
  for i = 1, #entries / 5 do
    statuses[i] = REFUSED
  end
  return statuses
end

-- The stamp of a session if its subscriptions have changed beyond what is known of them. One without a stamp has had none
-- yet, or only from an older release: it gets one, so that whoever knows something of it is told.
local function newer_stamp(b, session, stamp, known)
  if not stamp then
    stamp = call("INCR", key(b, "ctr"))
    call("HSET", session, "stamp", stamp)
  end
  stamp = tonumber(stamp)
  return stamp > known and stamp
end

-- The statuses of the entries whose subscription is there and whose token is new are 0.
local function judge_entries(b, client, entries, found, places)
  local statuses, refused = {}, 0
  local count = 0
  for i = 1, #entries, 5 do
    count = count + 1
    local status = 0
    if not entries[i + 1] then
      status = HAD
    elseif entries[i] and not found[places[entries[i]]] then
      status = REFUSED
    elseif entries[i + 3] and not is_first(b, entries[i + 3], "s:" .. client, entries[i + 4]) then
      status = HAD
    end
    statuses[count] = status
    if status ~= 0 then
      refused = refused + 1
    end
  end
  return statuses, refused
end

-- Head and body of an entry.
local function whole(head, index)
  if index < 0 then
    return head
  end
  local body = bodies[index + 1]
  return head == "" and body or head .. body
end

-- Makes room by dropping the oldest entries, of which none may be one that was perhaps sent; how many, and their bytes.
local function drop_oldest_entries(b, client, queue, hi, wanted, told)
  local oldest = entries_beyond(queue, hi, wanted)
  local ids, bytes = {}, 0
  for i = 1, #oldest do
    local entry = oldest[i][2][2]
    ids[i] = oldest[i][1]
    bytes = bytes + #entry
    drop_stored(b, client, entry, told)
  end
  if #ids > 0 then
    call_many("XDEL", queue, ids)
  end
  return #ids, bytes
end

-- Marks `count` entries as dropped, and more as long as the bytes don't fit, from the newest on, or from the oldest; how
-- many.
local function drop_entries(b, client, entries, statuses, count, room, oldest_first)
  local dropped = 0
  local first, last, step = #statuses, 1, -1
  if oldest_first then
    first, last, step = 1, #statuses, 1
  end
  for i = first, last, step do
    if dropped >= count and account.excess(room) <= 0 then
      break
    end
    if statuses[i] == 0 then
      statuses[i] = DROPPED
      dropped = dropped + 1
      local at = i * 5 - 4
      if room then
        account.leave_out(room, entries[at + 1], entries[at + 2])
      end
      local reason = oldest_first and "drop_oldest" or "drop_new"
      write_letter(b, client, topic_of(whole(entries[at + 1], entries[at + 2])), reason)
    end
  end
  return dropped
end

-- Drops older entries, as far as there are too many, and then as far as they have too many bytes; how many.
local function drop_older(b, client, queue, hi, excess, room, told)
  local dropped = 0
  if excess > 0 then
    local bytes
    dropped, bytes = drop_oldest_entries(b, client, queue, hi, excess, told)
    if room then
      account.take_off(room, dropped, bytes)
    end
  end
  if account.excess(room) > 0 then
    dropped = dropped + account.drop_oldest(room, b, client, queue, hi, told)
  end
  return dropped
end

-- Keeps the queue within its limits; how many older entries, and how many of the new ones were dropped.
local function make_room(b, client, queue, entries, statuses, accepted, numbers, limit, drop_oldest, told, room)
  local excess = call("XLEN", queue) + accepted - limit
  if excess <= 0 and account.excess(room) <= 0 then
    return 0, 0
  end
  local dropped = 0
  if drop_oldest then
    dropped = drop_older(b, client, queue, numbers.hi, math.min(excess, limit), room, told)
    excess = excess - dropped
  end
  excess = math.min(excess, accepted)
  if excess <= 0 and account.excess(room) <= 0 then
    return dropped, 0
  end
  -- Of the new ones the oldest make room, too, if newer ones take it and none of them may be sent at once.
  local oldest_first = drop_oldest and numbers.n >= numbers.hi and excess < accepted
  oldest_first = oldest_first and (not room or account.excess(room) < room.wanted)
  return dropped, drop_entries(b, client, entries, statuses, excess, room, oldest_first)
end

-- The id of entry n, given that of the hundred before it. To make text of a number costs as much as to find the end of
-- the queue, so it is done once in a hundred times; the last two digits come from a table.
local DIGITS = {}

local function digits(number)
  local text = DIGITS[number]
  if not text then
    text = string.format("%02d", number)
    DIGITS[number] = text
  end
  return text
end

local function append_entries(queue, gen, n, entries, statuses)
  local start = gen .. "-"
  local hundred, of_hundred = 0, false
  local place = 0
  for i = 1, #entries, 5 do
    place = place + 1
    if not statuses or statuses[place] == 0 then
      n = n + 1
      local rest = n % 100
      if n - rest ~= hundred then
        hundred = n - rest
        of_hundred = start .. hundred / 100
      end
      local id = of_hundred and of_hundred .. digits(rest) or start .. n
      call("XADD", queue, id, "p", whole(entries[i + 1], entries[i + 2]))
    end
  end
  return n
end

-- The session's numbers, owner and stamp, and whether each distinct filter of the entries is one of it.
local function look_up(session, entries)
  local places = {}
  local names = { "gen", "n", "hi", "owner", "stamp" }
  local is_plain = true -- no tokens, nothing struck
  for i = 1, #entries, 5 do
    local filter = entries[i]
    if filter and not places[filter] then
      places[filter] = #names + 1
      names[#names + 1] = "f:" .. filter
    end
    is_plain = is_plain and not entries[i + 3] and entries[i + 1]
  end
  local found = call("HMGET", session, unpack(names))
  for i = 6, #names do
    is_plain = is_plain and found[i]
  end
  return found, places, is_plain
end

function operations.enqueue(b, client, limit, drop_oldest, entries, known, tells, byte_limit)
  local session = key(b, "s:", client)
  local found, places, is_plain = look_up(session, entries)
  local gen, n, owner = found[1], tonumber(found[2]), found[4]
  local accepted, statuses, dropped = #entries / 5, false, 0
  local told
  if not gen then
    if not known then
      return { 0, 0, false, all_refused(entries), 0 }
    end
    return { 0, 0, false, true, 0, tonumber(call("GET", key(b, "ctr")) or 0), {} }
  end
  local newer = known and newer_stamp(b, session, found[5], known)
  if newer then
    local _, subscriptions = read_session(session)
    return { tonumber(gen), n, owner, true, 0, newer, subscriptions }
  end
  if tonumber(gen) < first_since(b) then
    gen, n = jump(b, session, n or 0)
  end
  if not is_plain then
    n = n or 0 -- a direct session has none, nor a filter
    local refused
    statuses, refused = judge_entries(b, client, entries, found, places)
    accepted = accepted - refused
  end
  local queue = key(b, "q:", client)
  local room = byte_limit and account.open(session, queue, n, entries, statuses, byte_limit)
  if n + accepted > limit or room and account.excess(room) > 0 then -- a queue never holds more than n entries
    if not statuses then
      statuses = judge_entries(b, client, entries, found, places)
    end
    told = tells and { items = {}, bytes = 0 } or nil
    local numbers = { n = n, hi = tonumber(found[3] or 0) }
    local kept
    dropped, kept = make_room(b, client, queue, entries, statuses, accepted, numbers, limit, drop_oldest, told, room)
    accepted = accepted - kept
  end
  if accepted > 0 then
    local last = append_entries(queue, gen, n, entries, statuses)
    if room then
      account.close(room, session, last)
    else
      call("HSET", session, "n", last)
    end
    if owner and owner ~= incarnation then
      call("SADD", key(b, "bell:", owner), "s:" .. client)
    end
  elseif room then
    account.close(room, session, n)
  end
  if accepted * 5 == #entries then
    statuses = false
  end
  return { tonumber(gen), n, owner, statuses, dropped, told and told.items }
end
