-- ack: deletes entries that the client has acknowledged.
-- Request: bucket, client, entries (gen, n, ...). Answer: how many were there.
-- Atomic, as the stream is deleted when it is empty, and nothing may be appended between look and deletion.
-- Not fenced: an entry is named by gen and number, which never mean another one.

local TRIM_FROM = 4 -- entries; for fewer XDEL is cheaper

-- Whether the entries are one run of numbers.
local function is_run(numbers)
  local gen, first = numbers[1], numbers[2]
  for i = 3, #numbers, 2 do
    if numbers[i] ~= gen or numbers[i + 1] ~= first + (i - 1) / 2 then
      return false
    end
  end
  return true
end

-- Deletes a run which is the head of the queue (clients acknowledge in order) by one trim; nil if something is
-- queued before it. Half the time of XDEL at ten entries.
local function trim_head(queue, numbers)
  local start = numbers[1] .. "-"
  if call("XRANGE", queue, "-", start .. (numbers[2] - 1), "COUNT", 1)[1] then
    return nil
  end
  return call("XTRIM", queue, "MINID", "=", start .. (numbers[#numbers] + 1))
end

local function delete_each(queue, numbers)
  local ids, count = {}, 0
  local gen, start
  for i = 1, #numbers, 2 do
    if numbers[i] ~= gen then
      gen = numbers[i]
      start = gen .. "-"
    end
    count = count + 1
    ids[count] = start .. numbers[i + 1]
  end
  return call_many("XDEL", queue, ids)
end

-- Whether the entry is all there is: then the queue itself is deleted, which is a write less in the append-only file.
local function is_only(queue, gen, number)
  return call("XRANGE", queue, "-", "+", "COUNT", 1)[1][1] == gen .. "-" .. number
end

local function delete_entries(queue, numbers)
  local length = call("XLEN", queue)
  if length == 1 and #numbers == 2 and is_only(queue, numbers[1], numbers[2]) then
    return call("DEL", queue)
  end
  local deleted = #numbers >= 2 * TRIM_FROM and is_run(numbers) and trim_head(queue, numbers)
  deleted = deleted or delete_each(queue, numbers)
  if deleted == length then
    call("DEL", queue)
  end
  return deleted
end

function operations.ack(b, client, numbers)
  return delete_entries(key(b, "q:", client), numbers)
end
