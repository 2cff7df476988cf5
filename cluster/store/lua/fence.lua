-- fence: first in a call that routes messages: whether their publishers are still the caller's.
-- Request: "m", publishers (bucket, client, epoch, ...). Answer: the places, counted from 0, of those that another
-- connection has claimed. Then nothing else of the call is done, and each of its other requests is answered false.
-- Atomic with the rest of the call: a client that goes on elsewhere sends again what was not acknowledged, and an old
-- copy must not come behind newer messages. A session that has ended is no reason: its last messages count.

function operations.fence(_, publishers)
  local lost = {}
  for i = 1, #publishers, 3 do
    local epoch = call("HGET", key(publishers[i], "s:", publishers[i + 1]), "epoch")
    if epoch and tonumber(epoch) ~= publishers[i + 2] then
      lost[#lost + 1] = (i - 1) / 3
    end
  end
  return lost
end
