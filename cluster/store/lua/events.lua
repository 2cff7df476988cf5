-- note_events: what has happened to a client, for a person who asks later.
-- Request: bucket, client, records (the newest first), most bytes that are kept, ms for which they are, whether a
-- client of which nothing is kept may begin. Answer: 2 if it began, 1 if there were some, 0 if it might not begin.
-- One string, the newest first, so that it is cut without a look at what is in there; a record that is cut in two is
-- none. (Three events take 0.2 KB; as a stream 0.8 KB with `stream-node-max-bytes` 512, and 4.4 KB with its default.)
-- Atomic, as nodes may write for one client in the same moment.

function operations.note_events(b, client, records, most, ttl_ms, may_begin)
  local events = key(b, "events:", client)
  local before = call("GET", events)
  if not before and not may_begin then
    return 0
  end
  call("SET", events, string.sub(records .. (before or ""), 1, most), "PX", ttl_ms)
  return before and 1 or 2
end
