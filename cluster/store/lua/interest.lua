-- interest: what the clients of a node want, so that the others send it there.
-- Request: "m", node, adds, removes. Answer: the version then.
-- Fields of the hash are `<kind>:<filter>`. Kind 1: direct subscribers at QoS 1 and 2. These are versioned: they
-- are in the change log, and each batch looks whether that has moved. Kind 0: subscribers at QoS 0; kind p:
-- persistent subscribers at QoS 1 and 2 that are connected, which get messages at QoS 0 only while they are. All
-- are told on a channel: for those of kind 1 that says no more than to look at the log, for the others it is all
-- there is, and a node that may have missed some reads the hashes again.
-- Atomic, for the same reason as `rows`.

local VERSIONED = "1:"

local function note_interest(changes, told, kind, node, field)
  told[#told + 1] = field
  if string.sub(field, 1, 2) == VERSIONED then
    note_change(changes, kind, node, string.sub(field, 3), "", 0)
  end
end

function operations.interest(_, node, adds, removes)
  local changes, added, removed = {}, {}, {}
  local interest = key("m", "interest:", node)
  for _, field in ipairs(adds) do
    if call("HSET", interest, field, "") == 1 then
      note_interest(changes, added, "int+", node, field)
    end
  end
  for _, field in ipairs(removes) do
    if call("HDEL", interest, field) == 1 then
      note_interest(changes, removed, "int-", node, field)
    end
  end
  local version = log_changes(changes)
  if #added + #removed > 0 then
    call("PUBLISH", key("m", "interest"), cmsgpack.pack({ node, added, removed }))
  end
  return version
end
