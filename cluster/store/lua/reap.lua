-- reap: gives back the sessions that a dead node owned, as if it had detached them at this moment.
-- Request: bucket, node, limit (sessions). Answer: whether there is more, wills that are due now, leased to the
-- caller (member, token, record, ...), sessions that have ended (client, rows (filter, stamp, ...), ...),
-- sessions that can't be read (client, error, ...).
-- Atomic, as one node only must find a session of the dead one, and a claim comes before or after that. What
-- somebody else has claimed meanwhile is not touched. A reaper may die after each call: the wills that it had
-- are found in `due`, and rows of {m} without a session are healed by whoever meets them.

local function reap_session(b, client, node, wills, ended)
  local fields = read_ownership(b, client)
  if fields.owner ~= node then
    return
  end
  local expiry = tonumber(fields.expiry)
  -- What the dead one has sent is not known: nothing beyond hi, and nothing that was not queued.
  local hi = math.min(tonumber(fields.hi), tonumber(fields.n))
  local rows = give_back(b, client, fields, hi, expiry, true)
  if expiry == 0 then
    ended[#ended + 1] = client
    ended[#ended + 1] = rows
  end
  for _, part in ipairs(will_if_due(b, client, fields.epoch)) do
    wills[#wills + 1] = part
  end
end

function operations.reap(b, node, limit)
  local owned = key(b, "n:", node)
  local wills, ended, damaged = {}, {}, {}
  for _, client in ipairs(call("SPOP", owned, limit)) do
    local done, problem = pcall(reap_session, b, client, node, wills, ended)
    if not done then -- a person has to look at it; the others must not wait for that
      damaged[#damaged + 1] = client
      damaged[#damaged + 1] = error_text(problem)
    end
  end
  local more = call("EXISTS", owned) == 1
  if not more then
    local bell = key(b, "bell:", node)
    call("UNLINK", bell, bell .. ":taken")
  end
  return { more, wills, ended, damaged }
end
