-- log_since: what has changed since a version.
-- Request: "m", version, limit (entries). Answer: the version that the changes lead to, whether there are
-- more, changes (kind, who, filter, options, stamp, ...); or false: load everything again, as the log does not
-- reach back so far, or is of another term.
-- Atomic, as the version must be the one that the entries lead to.

function operations.log_since(_, version, limit)
  local term, n, current = read_version()
  local seen_term, seen = string.match(version, "^(%d+)%.(%d+)$")
  seen = tonumber(seen)
  if seen_term ~= term or seen > n then
    return false
  end
  if seen == n then
    return { current, false, {} }
  end
  local next_id = term .. "-" .. (seen + 1)
  local entries = call("XRANGE", key("m", "log"), next_id, "+", "COUNT", limit)
  if not entries[1] or entries[1][1] ~= next_id then
    return false
  end
  local changes = {}
  for _, entry in ipairs(entries) do
    for _, value in ipairs(cmsgpack.unpack(entry[2][2])) do
      changes[#changes + 1] = value
    end
  end
  local last = entry_number(entries[#entries][1])
  return { term .. "." .. last, last < n, changes }
end
