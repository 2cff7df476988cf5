-- letters: dead letters, newest first.
-- Request: bucket, where to begin (as XREVRANGE has it), limit. Answer: id, client, topic, reason, ... Fewer than the
-- limit are all there are.
-- Only reads.

function operations.letters(b, bound, limit)
  local flat = {}
  for _, letter in ipairs(call("XREVRANGE", key(b, "letters"), bound, "-", "COUNT", limit)) do
    local at = #flat
    flat[at + 1] = letter[1]
    flat[at + 2], flat[at + 3], flat[at + 4] = letter[2][2], letter[2][4], letter[2][6]
  end
  return flat
end
