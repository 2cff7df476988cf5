-- page: reads a queue from a number on, and allows the owner to send what it got.
-- Request: bucket, client, epoch, number to read beyond, window. Answer: 1, hi, n, entries (gen, n, p, ...);
-- 0 if stale. Fewer than `window` entries: that is all there is.
-- Atomic, as no policy may drop an entry that the answer lists.

function operations.page(b, client, epoch, after_n, window)
  local session = key(b, "s:", client)
  local found = call("HMGET", session, "epoch", "n")
  if tonumber(found[1]) ~= epoch then
    return { 0 }
  end
  local n = tonumber(found[2])
  local entries = entries_beyond(key(b, "q:", client), after_n, window)
  local flat = {}
  for _, entry in ipairs(entries) do
    local gen, number = string.match(entry[1], "^(%d+)-(%d+)$")
    local at = #flat
    flat[at + 1] = tonumber(gen)
    flat[at + 2] = tonumber(number)
    flat[at + 3] = entry[2][2]
  end
  local hi = #entries < window and n + window or flat[#flat - 1]
  call("HSET", session, "hi", hi)
  return { 1, hi, n, flat }
end
