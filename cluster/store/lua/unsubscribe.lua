-- unsubscribe: takes subscriptions out of a session.
-- Request: bucket, client, epoch, filters. Answer: 1, stamp, whether each existed; 0 if stale.
-- Atomic, as no replay may go on for a subscription that is gone; and fenced. The rows in {m} are deleted by
-- the caller afterwards, with the stamp.

function operations.unsubscribe(b, client, epoch, filters)
  local session = key(b, "s:", client)
  if is_fenced(session, epoch) then
    return { 0 }
  end
  local existed = {}
  for i, filter in ipairs(filters) do
    existed[i] = call("HDEL", session, "f:" .. filter) == 1
    call("HDEL", session, "r:" .. filter)
  end
  return { 1, call("INCR", key(b, "ctr")), existed }
end
