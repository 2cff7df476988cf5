-- queue_peek: what waits in a queue, without payloads.
-- Request: bucket, client, whether from the tail, id of the entry to go on behind or false, limit.
-- Answer: entries (id, flags, topic, bytes of the payload, deadline ms, ...), whether there may be more.
-- Only reads.

local PEEK_BYTES = 262144 -- entries are unpacked; a page of large ones ends soon after so many,
local PEEK_STEP = 4 -- with at most these

function operations.queue_peek(b, client, from_tail, behind, limit)
  local queue = key(b, "q:", client)
  local command, edge, last = "XRANGE", "+", behind and "(" .. behind or "-"
  if from_tail then
    command, edge, last = "XREVRANGE", "-", behind and "(" .. behind or "+"
  end
  local flat, count, bytes = {}, 0, 0
  while true do
    local step = math.min(limit - count, PEEK_STEP)
    local entries = call(command, queue, last, edge, "COUNT", step)
    for _, entry in ipairs(entries) do
      local fields = cmsgpack.unpack(entry[2][2])
      for _, item in ipairs({ entry[1], fields[2], fields[4], #fields[5], fields[7] }) do
        flat[#flat + 1] = item
      end
      bytes = bytes + #entry[2][2]
      last = "(" .. entry[1]
    end
    count = count + #entries
    if #entries < step then
      return { flat, false }
    elseif count == limit or bytes >= PEEK_BYTES then
      return { flat, true }
    end
  end
end
