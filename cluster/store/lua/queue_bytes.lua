-- How many bytes the queue of a session has, where that is limited.
--
-- What leaves a queue is not counted: each acknowledgement would cost more. So the field `bytes` of a session,
-- "<bytes> <n> <removed>", says what is certain: when n was its last number, and so many of its entries had been
-- removed (n less the length of the queue), it had at most so many bytes. What is appended by those who count is added,
-- what they drop is taken off. Redis is asked for the memory of the queue only if there is no room by that and a part
-- of the entries has been removed by others since, or if somebody has appended who does not count: then n has gone on.
-- So a queue that is full and whose client is away is not looked at again.

local account = {}

do -- a chunk may have 200 locals only
  local ENTRY_BYTES = 48 -- what Redis needs for an entry, about, beside its text
  local SAMPLES = 10000 -- nodes of the stream that Redis looks at: all of most queues, and about a millisecond
  local PART = 64 -- of the entries; else a slow reader of a long queue had it looked at with each message
  local DROP_BYTES = 2048 -- of new entries, for each of which one older entry may go: bounds the time that takes

  local function bytes_of(head, index)
    return #head + (index < 0 and 0 or #bodies[index + 1]) + ENTRY_BYTES
  end

  local function look(queue, n)
    return call("MEMORY", "USAGE", queue, "SAMPLES", SAMPLES) or 0, n - call("XLEN", queue)
  end

  local function known(session, queue, n, wanted, limit)
    local noted = call("HGET", session, "bytes")
    if not noted then
      return look(queue, n)
    end
    local used, last, removed = string.match(noted, "^(%d+) (%d+) (%d+)$")
    used, removed = tonumber(used), tonumber(removed)
    if tonumber(last) ~= n then
      return look(queue, n)
    elseif used + wanted > limit then
      local length = call("XLEN", queue)
      if (n - length - removed) * PART > length then
        return look(queue, n)
      end
    end
    return used, removed
  end

  -- Of a queue with the last number n, to which these entries are to be appended if their status is 0.
  function account.open(session, queue, n, entries, statuses, limit)
    local wanted, place = 0, 0
    for i = 1, #entries, 5 do
      place = place + 1
      if not statuses or statuses[place] == 0 then
        wanted = wanted + bytes_of(entries[i + 1], entries[i + 2])
      end
    end
    local used, removed = known(session, queue, n, wanted, limit)
    return { used = used, removed = removed, wanted = wanted, limit = limit }
  end

  -- By how many bytes the queue would be too large; without a limit 0.
  function account.excess(room)
    return room and room.wanted > 0 and room.used + room.wanted - room.limit or 0
  end

  -- So many older entries are gone, with so many bytes of text.
  function account.take_off(room, count, bytes)
    room.used = math.max(room.used - bytes - count * ENTRY_BYTES, 0)
    room.removed = room.removed + count
  end

  -- An entry is not appended.
  function account.leave_out(room, head, index)
    room.wanted = room.wanted - bytes_of(head, index)
  end

  -- Drops the oldest entries, of which none may have been sent, as long as there are too many bytes; how many. What is
  -- too much for one call may stay until the next ones.
  function account.drop_oldest(room, b, client, queue, hi, told)
    local ids, most = {}, math.ceil(room.wanted / DROP_BYTES)
    local oldest = entries_beyond(queue, hi, 1)[1]
    while oldest do
      local entry = oldest[2][2]
      ids[#ids + 1] = oldest[1]
      drop_stored(b, client, entry, told)
      account.take_off(room, 1, #entry)
      if account.excess(room) <= 0 then
        break
      elseif #ids >= most then
        room.limit = room.used + room.wanted
        break
      end
      oldest = call("XRANGE", queue, "(" .. oldest[1], "+", "COUNT", 1)[1]
    end
    if #ids > 0 then
      call_many("XDEL", queue, ids)
    end
    return #ids
  end

  -- Notes what the queue has, with the last number n.
  function account.close(room, session, n)
    call("HSET", session, "n", n, "bytes", room.used + room.wanted .. " " .. n .. " " .. room.removed)
  end
end
