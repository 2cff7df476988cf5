-- The change log of the versioned rows in {m}: one entry per request that changed something. `ver` is
-- "<term>.<n>" and the entry's id "<term>-<n>": a node knows by comparing whether it has seen everything.

local FIRST_VERSION = "1.0"

local function read_version()
  local version = call("GET", key("m", "ver")) or FIRST_VERSION
  local term, n = string.match(version, "^(%d+)%.(%d+)$")
  return term, tonumber(n), version
end

-- Appends changes (kind, who, filter, options, stamp, ...); the version then.
local function log_changes(changes)
  local term, n, version = read_version()
  if #changes == 0 then
    return version
  end
  n = n + 1
  version = term .. "." .. n
  call("XADD", key("m", "log"), "MAXLEN", "~", LOG, term .. "-" .. n, "c", cmsgpack.pack(changes))
  call("SET", key("m", "ver"), version)
  return version
end

local function note_change(changes, kind, who, filter, options, stamp)
  local at = #changes
  changes[at + 1] = kind
  changes[at + 2] = who
  changes[at + 3] = filter
  changes[at + 4] = options
  changes[at + 5] = stamp
end
