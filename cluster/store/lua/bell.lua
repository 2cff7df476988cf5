-- take_bell: what a node should look at in this bucket: `s:<client>` has new entries, `kick:<epoch>:<client>`
-- was taken by another node.
-- Request: bucket, node, whether the answer before this one was looked at. Answer: members.
-- Atomic, as nothing that is rung between look and deletion may be lost: what rings goes into `bell`, what was
-- taken is kept apart until the node says that it has looked at it.

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
  return call("SMEMBERS", taken)
end
