-- retained_page: the retained messages of a bucket that match a filter, in order of the index.
-- Request: bucket, filter, cursor or false, limit (messages), budget (index entries to look at).
-- Answer: next cursor or false, messages (topic, record, ...). A page may be empty and not the last.
-- Atomic, as what has expired is removed.
-- A skip-scan: an entry that does not match says which is the next that may; so "+/state" over a million
-- topics looks at two per first level.

-- Byte order, as in the index; `<` of Lua goes by the locale of the server.
local function is_before(a, c)
  for i = 1, math.min(#a, #c) do
    local x, y = string.byte(a, i), string.byte(c, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #c
end

local function split_filter(filter)
  local levels = {}
  for level in string.gmatch(filter .. "/", "([^/]*)/") do
    levels[#levels + 1] = level
  end
  return levels
end

local function split_member(member)
  local levels = {}
  for level in string.gmatch(member .. "\0", "([^%z]*)%z") do
    levels[#levels + 1] = level
  end
  return levels
end

-- An index position: the first `count` levels, and one more below them.
local function join(levels, count, last)
  local start = table.concat(levels, "\0", 1, count)
  if last then
    return count > 0 and start .. "\0" .. last or last
  end
  return start
end

-- Where all that begins with the first `count` levels has ended; false: that is everything.
local function beyond_subtree(levels, count)
  if count == 0 then
    return false
  end
  return join(levels, count) .. "\1"
end

-- Compares a topic with the filter. Answer: whether it matches, and the position from which to go on.
local function compare(filter, member)
  local levels = split_member(member)
  local is_system = string.byte(member, 1) == 36 -- "$": [MQTT-4.7.2-1]
  for i = 1, #filter do
    local wanted, level = filter[i], levels[i]
    local is_wildcard = wanted == "#" or wanted == "+"
    if i == 1 and is_system and is_wildcard then
      return false, beyond_subtree(levels, 1)
    end
    if wanted == "#" then
      return true, member .. "\0"
    end
    if not level then -- a topic with fewer levels: go down, to the child that may match
      return false, join(levels, #levels, wanted ~= "+" and wanted or "")
    end
    if wanted ~= "+" and wanted ~= level then
      if is_before(level, wanted) then
        return false, join(levels, i - 1, wanted)
      end
      return false, beyond_subtree(levels, i - 1)
    end
  end
  if #levels > #filter then
    return false, beyond_subtree(levels, #filter)
  end
  return true, member .. "\0"
end

-- The first position that may match: the literal levels with which the filter begins.
local function first_position(filter)
  local count = 0
  while filter[count + 1] and filter[count + 1] ~= "+" and filter[count + 1] ~= "#" do
    count = count + 1
  end
  return join(filter, count), count == #filter
end

-- Topics that match, and where to go on. Reads ahead only while everything matches.
local function scan(b, filter, position, limit, budget)
  local index = key(b, "retained:index")
  local topics, chunk = {}, 1
  while position and #topics < limit and budget > 0 do
    local from = position == "" and "-" or "[" .. position
    local members = call("ZRANGEBYLEX", index, from, "+", "LIMIT", 0, chunk)
    chunk = math.min(chunk * 2, 64, limit - #topics)
    budget = budget - 1
    position = false
    for _, member in ipairs(members) do
      local matches
      matches, position = compare(filter, member)
      budget = budget - 1
      if not matches then
        chunk = 1
        break
      end
      topics[#topics + 1] = string.gsub(member, "%z", "/")
      if #topics == limit then
        break
      end
    end
  end
  return topics, position
end

-- Records of the topics that have not expired; those that have are removed.
local function read_retained(b, topics)
  local messages = {}
  if #topics == 0 then
    return messages
  end
  local values = call("HMGET", key(b, "retained"), unpack(topics))
  for i, topic in ipairs(topics) do
    local deadline, record
    if values[i] then
      deadline, record = split_stamp(values[i])
    end
    if record and (deadline == 0 or deadline > now) then
      messages[#messages + 1] = topic
      messages[#messages + 1] = record
    else
      forget_retained(b, topic)
    end
  end
  return messages
end

function operations.retained_page(b, filter, cursor, limit, budget)
  local levels = split_filter(filter)
  local first, is_topic = first_position(levels)
  if is_topic then
    local exists = call("HEXISTS", key(b, "retained"), filter) == 1
    return { false, exists and read_retained(b, { filter }) or {} }
  end
  local topics, position = scan(b, levels, cursor or first, limit, budget)
  return { position, read_retained(b, topics) }
end
