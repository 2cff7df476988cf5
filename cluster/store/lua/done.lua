-- done: wills that have been routed are forgotten.
-- Request: bucket, members of `due`. Answer: 1.
-- Atomic, as the will, its deadline and its place among the client's due wills end together.

function operations.done(b, members)
  for _, member in ipairs(members) do
    local client, epoch = string.match(member, "^w:(.*):(%d+)$")
    if client then
      forget_will(b, client, epoch)
    else
      call("ZREM", key(b, "due"), member)
    end
  end
  return 1
end
