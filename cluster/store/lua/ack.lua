-- ack: deletes entries that the client has acknowledged.
-- Request: bucket, client, entries (gen, n, ...). Answer: how many were there.
-- Atomic, as the stream is deleted when it is empty, and nothing may be appended between look and deletion.
-- Not fenced: an entry is named by gen and number, which never mean another one.

local function delete_entries(queue, numbers)
  local ids = {}
  local gen, start
  for i = 1, #numbers, 2 do
    if numbers[i] ~= gen then
      gen = numbers[i]
      start = gen .. "-"
    end
    ids[#ids + 1] = start .. numbers[i + 1]
  end
  local deleted = call_many("XDEL", queue, ids)
  if call("XLEN", queue) == 0 then
    call("DEL", queue)
  end
  return deleted
end

function operations.ack(b, client, numbers)
  return delete_entries(key(b, "q:", client), numbers)
end
