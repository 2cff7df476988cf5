-- done: wills and delayed messages that have been routed are forgotten.
-- Request: bucket, members of `due`. Answer: 1.
-- Atomic, as the will, its deadline and its place among the client's due wills end together; likewise a delayed
-- message and its deadline.

function operations.done(b, members)
  for _, member in ipairs(members) do
    local client, epoch = string.match(member, "^w:(.*):(%d+)$")
    local id, publisher = string.match(member, "^d:(%x+):(.*)$")
    if client then
      forget_will(b, client, epoch)
    elseif id then
      call("HDEL", key(b, "delayed:", publisher), id)
      call("ZREM", key(b, "due"), member)
    else
      call("ZREM", key(b, "due"), member)
    end
  end
  return 1
end
