-- unsubscribe: takes subscriptions out of a session.
-- Request: bucket, client, epoch, filters. Answer: 1, stamp, whether each existed; 0 if stale. The stamp is the
-- session's, too: see enqueue.
-- Atomic, as no replay may go on for a subscription that is gone; and fenced. The rows in {m} are deleted by
-- the caller afterwards, with the stamp.

function operations.unsubscribe(b, client, epoch, filters)
  local session = key(b, "s:", client)
  if is_fenced(session, epoch) then
    return { 0 }
  end
  local existed, has_changed = {}, false
  for i, filter in ipairs(filters) do
    existed[i] = call("HDEL", session, "f:" .. filter) == 1
    has_changed = has_changed or existed[i]
    call("HDEL", session, "r:" .. filter)
  end
  local stamp = call("INCR", key(b, "ctr"))
  if has_changed then
    call("HSET", session, "stamp", stamp)
  end
  return { 1, stamp, existed }
end
