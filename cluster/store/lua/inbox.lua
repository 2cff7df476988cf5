-- The inbox of a node: a stream that others write and the node reads. Its key has a slot of its own, named by
-- the incarnation.
--
-- Bounded by entries and by bytes. A sender whose record must not be lost (a message for a direct subscriber)
-- is told that there is no room, and holds its publishers back; a hint is left out: the bell says the same.
-- Written only if it is there: a node that is gone has none.

local INBOX = 10000 -- entries
local INBOX_BYTES = 67108864
local ANSWERS = 256 -- to one question

-- open_inbox: makes the inbox, empty. Request: node. Answer: 1.
function operations.open_inbox(node)
  local inbox = key(node, "inbox")
  if call("EXISTS", inbox) == 0 then
    call("XGROUP", "CREATE", inbox, "none", "$", "MKSTREAM")
    call("XGROUP", "DESTROY", inbox, "none")
  end
  return 1
end

-- send: a record for a node. Request: node, record, or [index of its body]. Answer: 1; 0 if the node is gone; -1 if
-- there is no room.
-- Atomic, as the bound is looked at in the same moment, and bytes and entries must agree.
function operations.send(node, record)
  record = given(record)
  local inbox, bytes = key(node, "inbox"), key(node, "inbox:bytes")
  if call("XLEN", inbox) >= INBOX or tonumber(call("GET", bytes) or 0) >= INBOX_BYTES then
    return -1
  end
  if not call("XADD", inbox, "NOMKSTREAM", "*", "p", record) then
    return 0
  end
  call("INCRBY", bytes, #record)
  return 1
end

-- trim_inbox: what has been handled goes. Request: node, id of the last entry that was, its bytes and those of
-- the entries before it that were not trimmed yet. Answer: 1. A repeat trims nothing.
function operations.trim_inbox(node, last_id, size)
  local ms, sequence = string.match(last_id, "^(%d+)-(%d+)$")
  local following = ms .. "-" .. string.format("%.0f", tonumber(sequence) + 1)
  local inbox, bytes = key(node, "inbox"), key(node, "inbox:bytes")
  if call("XTRIM", inbox, "MINID", "=", following) > 0 then
    call("DECRBY", bytes, size)
    if call("XLEN", inbox) == 0 then -- some that were trimmed before may have come back with another primary
      call("SET", bytes, 0)
    end
  end
  return 1
end

-- inbox_tail: the id of the newest entry, "0-0" if all has been trimmed. Request: node.
function operations.inbox_tail(node)
  local newest = call("XREVRANGE", key(node, "inbox"), "+", "-", "COUNT", 1)
  return newest[1] and newest[1][1] or "0-0"
end

-- answer: what a node says to a question of whoever reads the stream with its id.
-- Request: "m", id of the question, node, what it says. Answer: 1.
-- Atomic, as nothing else ends the stream.
function operations.answer(b, id, node, text)
  local answers = key(b, "answers:", id)
  call("XADD", answers, "MAXLEN", ANSWERS, "*", "node", node, "answer", text)
  call("PEXPIRE", answers, REPEAT_MS)
  return 1
end

-- close_inbox: the node has left, or has been reaped. Request: node. Answer: 1.
function operations.close_inbox(node)
  call("UNLINK", key(node, "inbox"), key(node, "inbox:bytes"))
  return 1
end
