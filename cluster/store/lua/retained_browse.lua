-- retained_names, retained_facts, retained_levels: looking at retained messages by prefix, in order of the index.
-- Requests: bucket, prefix, position or false, whether by level, limit; or bucket and a list of topics.
-- Answers: index members that begin with the prefix, beyond the position; of each topic a record { bytes of the
-- payload, QoS, deadline ms or 0 }, of a large or damaged one { bytes it takes, false, false }, false if there is
-- none; of each level { 1 if it has a message itself, how many topics are below }.
-- Only reads.
-- By level: each member up to the end of the level in which the prefix ends, once. All that is below a level
-- follows it directly, so one look finds the next level, however many topics are in between.

local FACTS_BYTES = 1048576 -- of values that a call reads; copying them takes Redis a tenth of a millisecond

local function range_from(prefix, position, is_beyond)
  if position then
    return (is_beyond and "[" or "(") .. position
  end
  return prefix == "" and "-" or "[" .. prefix
end

local function level_names(index, prefix, position, limit, last)
  local names, from = {}, range_from(prefix, position and position .. "\1", true)
  while #names < limit do
    local member = call("ZRANGEBYLEX", index, from, last, "LIMIT", 0, 1)[1]
    if not member then
      break
    end
    local ending = string.find(member, "%z", #prefix + 1)
    local name = ending and string.sub(member, 1, ending - 1) or member
    names[#names + 1] = name
    from = "[" .. name .. "\1"
  end
  return names
end

function operations.retained_names(b, prefix, position, is_by_level, limit)
  local index = key(b, "retained:index")
  local last = prefix == "" and "+" or "(" .. prefix .. "\255" -- which no UTF-8 has
  if is_by_level then
    return level_names(index, prefix, position, limit, last)
  end
  return call("ZRANGEBYLEX", index, range_from(prefix, position), last, "LIMIT", 0, limit)
end

local function look_into(value)
  local deadline, record = split_stamp(value)
  local fields = cmsgpack.unpack(record)
  return deadline, { #fields[2], fields[3], deadline }
end

-- And how many bytes were read.
local function facts_of(retained, topic, room)
  local size = call("HSTRLEN", retained, topic)
  if size == 0 then
    return false, 0
  end
  if size > room then
    return { size, false, false }, 0
  end
  local is_readable, deadline, facts = pcall(look_into, call("HGET", retained, topic))
  if not is_readable then
    return { size, false, false }, size
  end
  return (deadline == 0 or deadline > now) and facts, size
end

function operations.retained_facts(b, topics)
  local retained, room, facts = key(b, "retained"), FACTS_BYTES, {}
  for i, topic in ipairs(topics) do
    local size
    facts[i], size = facts_of(retained, topic, room)
    room = room - size
  end
  return facts
end

function operations.retained_levels(b, names)
  local retained, index, facts = key(b, "retained"), key(b, "retained:index"), {}
  for i, name in ipairs(names) do
    local has_message = call("HEXISTS", retained, (string.gsub(name, "%z", "/")))
    facts[i] = { has_message, call("ZLEXCOUNT", index, "[" .. name .. "\0", "(" .. name .. "\1") }
  end
  return facts
end
