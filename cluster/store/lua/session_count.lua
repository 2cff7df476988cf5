-- session_count: how many persistent sessions there are.
-- Request: bucket. Answer: the number; those that nobody has claimed since a library that did not count are left
-- out.
-- Only reads.

function operations.session_count(b)
  return tonumber(call("GET", key(b, "sessions")) or 0)
end
