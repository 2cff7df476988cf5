-- session_end: ends a session that nobody goes on with, as an operator wants it.
-- Request: bucket, client. Answer: false, if there is none; else its epoch, rows of the session (filter, stamp, ...).
-- Atomic, as the end of a session is: see end_session. Whoever owns it finds that out by the bell, and can't write any
-- more. Its will, if it has one, is due at once: the next who looks publishes it.

function operations.session_end(b, client)
  local fields, subscriptions = read_session(key(b, "s:", client))
  if not fields.epoch then
    leave_index(b, client, false)
    return false
  end
  local wills = key(b, "wills:", client)
  local is_leased = call("SISMEMBER", wills, fields.epoch) == 1
  local rows = end_session(b, client, fields, subscriptions)
  if fields.owner then
    call("SADD", key(b, "bell:", fields.owner), "kick:" .. fields.epoch .. ":" .. client)
  end
  if not is_leased and call("SISMEMBER", wills, fields.epoch) == 1 then
    call("ZADD", key(b, "due"), now, "w:" .. client .. ":" .. fields.epoch)
  end
  return { tonumber(fields.epoch), rows }
end
