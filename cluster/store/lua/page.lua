-- page: reads a queue from a number on, and allows the owner to send what it got.
-- Request: bucket, client, epoch, number to read beyond, window. Answer: 1, hi, n, entries (gen, n, p, ...), more;
-- 0 if stale. `more`: the page was cut short, as it has PAGE_BYTES. Otherwise, fewer than `window` entries: that
-- is all there is.
-- Atomic, as no policy may drop an entry that the answer lists.

local PAGE_BYTES = 1048576 -- a page ends soon after so many bytes: window x packet size would be no bound
local FIRST_STEP = 16

-- Entries (gen, n, p, ...) beyond a number, how many, and whether PAGE_BYTES ended the page.
local function read_page(queue, after_n, window)
  local flat, count, bytes = {}, 0, 0
  local step = math.min(window, FIRST_STEP)
  while true do
    local entries = entries_beyond(queue, after_n, step)
    for _, entry in ipairs(entries) do
      local gen, number = string.match(entry[1], "^(%d+)-(%d+)$")
      local at = #flat
      after_n = tonumber(number)
      flat[at + 1] = tonumber(gen)
      flat[at + 2] = after_n
      flat[at + 3] = entry[2][2]
      bytes = bytes + #entry[2][2]
    end
    count = count + #entries
    if #entries < step or count == window then
      return flat, count, false
    elseif bytes >= PAGE_BYTES then
      return flat, count, true
    end
    -- As many as fit if they are like those before, at least as many as the first time.
    local room = math.ceil((PAGE_BYTES - bytes) / math.max(bytes / count, 1))
    step = math.min(window - count, math.max(room, FIRST_STEP))
  end
end

function operations.page(b, client, epoch, after_n, window)
  local session = key(b, "s:", client)
  local found = call("HMGET", session, "epoch", "n", "hi")
  if tonumber(found[1]) ~= epoch then
    return { 0 }
  end
  local n = tonumber(found[2])
  local flat, count, more = read_page(key(b, "q:", client), after_n, window)
  local hi = count < window and not more and n + window or flat[#flat - 1]
  hi = math.max(hi, tonumber(found[3])) -- an earlier connection may have sent more than fits into this window
  call("HSET", session, "hi", hi)
  return { 1, hi, n, flat, more }
end
