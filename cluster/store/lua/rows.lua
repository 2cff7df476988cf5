-- rows: adds and deletes subscriptions in what every node loads.
-- Request: "m", adds (shard, client, filter, options, stamp, ...), deletes (shard, client, filter, stamp,
-- ...). Answer: the version then.
-- Atomic, as the rows, the log and its version must tell the same story to a node that loads and follows.
-- A row with a higher stamp stays; the same again changes nothing and is not logged.

local function add_row(changes, shard, client, filter, options, stamp)
  local rows, field = key("m", "subs:" .. shard), filter .. "\0" .. client
  local old = call("HGET", rows, field)
  if old then
    local old_stamp, old_options = split_stamp(old)
    if old_stamp > stamp or (old_stamp == stamp and old_options == options) then
      return
    end
  end
  call("HSET", rows, field, stamp .. ":" .. options)
  note_change(changes, "sub+", client, filter, options, stamp)
end

local function delete_row(changes, shard, client, filter, stamp)
  local rows, field = key("m", "subs:" .. shard), filter .. "\0" .. client
  local old = call("HGET", rows, field)
  if old and split_stamp(old) <= stamp then
    call("HDEL", rows, field)
    note_change(changes, "sub-", client, filter, "", stamp)
  end
end

function operations.rows(_, adds, deletes)
  local changes = {}
  for i = 1, #adds, 5 do
    add_row(changes, adds[i], adds[i + 1], adds[i + 2], adds[i + 3], adds[i + 4])
  end
  for i = 1, #deletes, 4 do
    delete_row(changes, deletes[i], deletes[i + 1], deletes[i + 2], deletes[i + 3])
  end
  return log_changes(changes)
end
