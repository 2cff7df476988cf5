-- Users and their credentials: `users` has a record for each, `users:index` their names in order, `users:log` who has
-- changed, `users:ver` how often anybody has: the ids of the log are 0-1, 0-2, ... without a gap.
-- A value of `users` is "<version>:<version of the credentials>:<created>:<changed>:<record>", times in ms.

local USERS_LOGGED = 10000

-- Version, version of the credentials, time of creation; zeros if there is no such user.
local function user_head(value)
  if not value then
    return 0, 0, 0
  end
  local version, credentials, created = string.match(value, "^(%d+):(%d+):(%d+):")
  return tonumber(version), tonumber(credentials), tonumber(created)
end

local function note_user(name)
  local version = call("INCR", key("m", "users:ver"))
  call("XADD", key("m", "users:log"), "MAXLEN", "~", USERS_LOGGED, "0-" .. integer(version), "n", name)
  return version
end

-- put_user: makes a user, or changes one that is as the caller has seen it.
-- Request: "m", name, record, version that the caller has seen (0: there was none), whether the credentials are others
-- or the user may not come in any more, how many users there may be.
-- Answer: the new version; 0 if there is another one than the caller has seen, -1 if there are too many users.
-- Atomic, as of two that change a user neither may undo what the other did; and nobody may find a part of it.
function operations.put_user(_, name, record, seen, renews, maximum)
  local users = key("m", "users")
  local version, credentials, created = user_head(call("HGET", users, name))
  if version ~= seen then
    return 0
  end
  if version == 0 then
    if call("HLEN", users) >= maximum then
      return -1
    end
    created = now
  end
  version = note_user(name)
  if renews then
    credentials = version
  end
  local head = { integer(version), integer(credentials), integer(created), integer(now) }
  call("HSET", users, name, table.concat(head, ":") .. ":" .. record)
  call("ZADD", key("m", "users:index"), 0, name)
  return version
end

-- delete_user: Request: "m", name. Answer: the version of the change, 0 if there is no such user.
-- Atomic, as put_user.
function operations.delete_user(_, name)
  if call("HDEL", key("m", "users"), name) == 0 then
    return 0
  end
  call("ZREM", key("m", "users:index"), name)
  return note_user(name)
end

local function users_version()
  return tonumber(call("GET", key("m", "users:ver")) or 0)
end

-- find_users: Request: "m", names. Answer: the version, values in the order of the names, false for who is not there.
-- Atomic, as the version says how old the answer is.
function operations.find_users(_, names)
  return { users_version(), fields_of(key("m", "users"), names) }
end

-- users_page: users in the order of their names. Request: "m", name to begin behind or false, limit.
-- Answer: name, value, and so on.
-- Atomic, as names and values belong together.
function operations.users_page(_, after, limit)
  local from = after and "(" .. after or "-"
  local names = call("ZRANGEBYLEX", key("m", "users:index"), from, "+", "LIMIT", 0, limit)
  local page = {}
  if #names > 0 then
    for i, value in ipairs(fields_of(key("m", "users"), names)) do
      if value then
        page[#page + 1] = names[i]
        page[#page + 1] = value
      end
    end
  end
  return page
end

-- follow_users: who has changed since a version. Request: "m", version, limit.
-- Answer: the version up to which it says so, names, whether they are all that have changed up to there: false if the
-- log does not go so far back, or Redis has lost what came after that version.
-- Atomic, as log and version belong together.
function operations.follow_users(_, seen, limit)
  local version, names = users_version(), {}
  if version == seen then
    return { version, names, true }
  end
  local entries = call("XRANGE", key("m", "users:log"), "0-" .. integer(seen + 1), "+", "COUNT", limit)
  for i, entry in ipairs(entries) do
    if entry[1] ~= "0-" .. integer(seen + i) then
      return { version, {}, false }
    end
    names[i] = entry[2][2]
  end
  if #names == 0 then
    return { version, names, false }
  end
  return { seen + #names, names, true }
end

-- users_secret: what nodes answer to those who ask for users that there aren't is made of this: the same everywhere.
-- Request: "m", random bytes. Answer: those that came first.
-- Atomic, as all nodes must have the same.
function operations.users_secret(_, random)
  local secret = key("m", "users:secret")
  call("SET", secret, random, "NX")
  return call("GET", secret)
end
