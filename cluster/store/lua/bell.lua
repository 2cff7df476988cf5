-- take_bell: what a node should look at in this bucket: `s:<client>` has new entries, `kick:<epoch>:<client>`
-- was taken by another node.
-- Request: bucket, node, whether the answer before this one was looked at. Answer: member, the last number given
-- in the client's queue (0 for a kick), ...
-- Atomic, as nothing that is rung between look and deletion may be lost: what rings goes into `bell`, what was
-- taken is kept apart until the node says that it has looked at it.

local function last_number(b, member)
  if string.sub(member, 1, 2) ~= "s:" then
    return 0
  end
  return tonumber(call("HGET", key(b, "s:", string.sub(member, 3)), "n") or 0)
end

function operations.take_bell(b, node, is_done)
  local bell = key(b, "bell:", node)
  local taken = bell .. ":taken"
  if is_done then
    call("UNLINK", taken)
  end
  if call("EXISTS", taken) == 0 then
    if call("EXISTS", bell) == 0 then
      return {}
    end
    call("RENAME", bell, taken)
  end
  local rung = {}
  for _, member in ipairs(call("SMEMBERS", taken)) do
    rung[#rung + 1] = member
    rung[#rung + 1] = last_number(b, member)
  end
  return rung
end
