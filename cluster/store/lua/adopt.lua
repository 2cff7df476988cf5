-- adopt: asked on each connection before anything else is, for the slots that it will be used for: whether another
-- primary serves this slot than the one that its keys were last written on. It may lack the newest writes.
-- Request: bucket, "m" or a node, the id that the caller has met here before, or false. Answer: replication id (false
-- if the server does not tell it), term.
-- If it is another one, the term is one higher, and all that counts makes a leap, so that nothing is given again that
-- was given in writes that are lost: `ctr` here, gen and n of each session when it is next written (`jump`); and the version
-- of the rows in {m} gets another term, so that each node loads them again. That term is a time: two primaries that
-- both come after the same one, and do not know of each other, have different ones.
-- A server has another replication id after each promotion and each start.
-- Atomic, as of all that come to a new primary the first one has to do that before anybody writes, and only once.

do
  local LEAP = 16777216 -- epochs, gens and stamps of one bucket in what may be lost: far fewer
  local asked, replication_id = 0, false

  local function current_id()
    if asked ~= calls then
      asked = calls
      replication_id = string.match(call("INFO", "replication"), "master_replid:(%w+)") or false
    end
    return replication_id
  end

  -- What is numbered in {m} besides: who follows it sees that he has to read all again.
  local function leap_of_numbers()
    for _, name in ipairs({ "users:ver", "bans:ver" }) do
      if call("EXISTS", key("m", name)) == 1 then
        call("INCRBY", key("m", name), LEAP)
      end
    end
    local rules = call("HGET", key("m", "rules"), "version")
    if rules then
      call("HSET", key("m", "rules"), "version", integer(rules + LEAP))
    end
  end

  local function leap_of_rows()
    local term = string.match(call("GET", key("m", "ver")) or FIRST_VERSION, "^%d+")
    call("SET", key("m", "ver"), integer(math.max(tonumber(term) + 1, now)) .. ".0")
  end

  function operations.adopt(b, met)
    local id, primary = current_id(), key(b, "primary")
    local known = call("HMGET", primary, "id", "term")
    local term = tonumber(known[2] or 0)
    if not id or known[1] == id then
      return { id, term }
    end
    if known[1] or met and met ~= id then -- else nobody has looked before: an older release, or nothing is here yet
      term = term + 1
      if b == "m" then
        leap_of_rows()
        leap_of_numbers()
      elseif type(b) == "number" then
        call("HSET", primary, "since", call("INCRBY", key(b, "ctr"), LEAP))
      end
    end
    call("HSET", primary, "id", id, "term", integer(term))
    firsts_read[b] = nil
    return { id, term }
  end
end
