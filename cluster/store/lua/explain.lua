-- What Redis knows of one client, of one message, of a topic: for a person who asks. Nothing is changed, and each
-- request is bounded: by numbers of items, and by bytes where a message may be large. No payload is answered.

do
  local ENTRY_BYTES = 262144 -- no further entry of a queue is read after so many
  local LETTER_STEP = 50
  local LETTER_BYTES = 131072
  local OWN_FIELDS = {
    "gen", "epoch", "owner", "n", "hi", "protocol", "expiry", "deadline", "will_delay", "direct", "stamp",
    "claim", "counted", "bytes",
  }

  -- Appends what an entry of a queue is: gen, n, flags, topic, bytes of the payload, deadline in ms or 0.
  local function describe_entry(flat, entry)
    local fields = cmsgpack.unpack(entry[2][2])
    local gen, n = string.match(entry[1], "^(%d+)-(%d+)$")
    local at = #flat
    flat[at + 1], flat[at + 2], flat[at + 3] = tonumber(gen), tonumber(n), fields[2]
    flat[at + 4], flat[at + 5], flat[at + 6] = fields[4] or "", #(fields[5] or ""), fields[7] or 0
    return #entry[2][2]
  end

  -- At most `count` entries from one end of a queue, one by one, as they may be large.
  local function describe_end(queue, command, from, to, count)
    local flat, bytes = {}, 0
    for _ = 1, count do
      local entry = call(command, queue, from, to, "COUNT", 1)[1]
      if not entry then
        break
      end
      bytes = bytes + describe_entry(flat, entry)
      if bytes >= ENTRY_BYTES then
        break
      end
      from = "(" .. entry[1]
    end
    return flat
  end

  -- Subscriptions (filter, options, stamp, ...), at least `count` of them if there are as many; replays (filter,
  -- cursor, ...); whether these are all.
  local function some_subscriptions(session, count)
    local subscriptions, replays, cursor = {}, {}, "0"
    repeat
      local page = call("HSCAN", session, cursor, "COUNT", count)
      cursor = page[1]
      for i = 1, #page[2], 2 do
        local name, value = page[2][i], page[2][i + 1]
        local kind, filter = string.sub(name, 1, 2), string.sub(name, 3)
        if kind == "f:" then
          local stamp, options = split_stamp(value)
          local at = #subscriptions
          subscriptions[at + 1], subscriptions[at + 2], subscriptions[at + 3] = filter, options, stamp
        elseif kind == "r:" then
          replays[#replays + 1] = filter
          replays[#replays + 1] = value
        end
      end
    until cursor == "0" or #subscriptions >= count * 3
    return subscriptions, replays, cursor == "0"
  end

  -- The will of a session's last connection: topic, flags, bytes, when it is due (ms) or false.
  local function describe_will(b, client, epoch)
    local will = epoch and call("GET", will_key(b, client, epoch))
    if not will then
      return false
    end
    local fields = cmsgpack.unpack(will)
    local due = call("ZSCORE", key(b, "due"), "w:" .. client .. ":" .. epoch)
    return { fields[2], fields[4], #fields[3], due and tonumber(due) or false }
  end

  -- explain: a session, and what has become of its client of late.
  -- Request: bucket, client, most subscriptions, most entries of each end of its queue, most exchanges.
  -- Answer: the time (ms), its fields (values of OWN_FIELDS, false where there is none), how many fields there are,
  -- subscriptions, replays, length of the queue, its head, its tail (the newest first), will or false, numbers in the
  -- PUBREL phase, inbound exchanges (identifier, value, ...), how many, events or false, whether these are all
  -- subscriptions, bytes of memory that the queue takes, about.
  -- Atomic, as queue, numbers and owner are to be of one moment.
  function operations.explain(b, client, subscriptions_most, entries_most, exchanges_most)
    local session, queue, receiving = key(b, "s:", client), key(b, "q:", client), key(b, "rx:", client)
    local fields = call("HMGET", session, unpack(OWN_FIELDS))
    local subscriptions, replays, is_all = some_subscriptions(session, subscriptions_most)
    local exchanges = call("HSCAN", receiving, "0", "COUNT", exchanges_most)[2]
    return {
      now,
      fields,
      call("HLEN", session),
      subscriptions,
      replays,
      call("XLEN", queue),
      describe_end(queue, "XRANGE", "-", "+", entries_most),
      describe_end(queue, "XREVRANGE", "+", "-", entries_most),
      describe_will(b, client, fields[2]),
      call("ZRANGE", key(b, "rel:", client), 0, exchanges_most - 1),
      exchanges,
      call("HLEN", receiving),
      call("GET", key(b, "events:", client)),
      is_all,
      call("MEMORY", "USAGE", queue, "SAMPLES", 20) or 0,
    }
  end

  -- explain_letters: dead letters of a client, among the newest of its bucket.
  -- Request: bucket, client, id to go on before or false, how many letters to look at.
  -- Answer: the id to go on before, or false if there are no more; how many were looked at; letters (ms, topic,
  -- reason, ...).
  -- Not atomic: it is here as the letters of others need not be sent.
  function operations.explain_letters(b, client, before, most)
    local letters, from = key(b, "letters"), before and "(" .. before or "+"
    local found, looked, bytes, last = {}, 0, 0, false
    while looked < most and bytes < LETTER_BYTES do
      local page = call("XREVRANGE", letters, from, "-", "COUNT", math.min(LETTER_STEP, most - looked))
      for _, letter in ipairs(page) do
        local values = letter[2]
        bytes = bytes + #values[4]
        if values[2] == client then
          local at = #found
          found[at + 1] = tonumber(string.match(letter[1], "^%d+"))
          found[at + 2], found[at + 3] = values[4], values[6]
        end
      end
      looked = looked + #page
      if #page < LETTER_STEP then
        return { looked == most and #page > 0 and page[#page][1] or false, looked, found }
      end
      last = page[#page][1]
      from = "(" .. last
    end
    return { last, looked, found }
  end

  -- explain_entry: where the entry with a number is.
  -- Request: bucket, client, number. Answer: 0 if there is no session; else gen, n, hi, whether it is in the PUBREL
  -- phase, the entry as in `explain` (empty if it is not in the queue), the number at the head of the queue or 0.
  -- Atomic, as an entry moves from one place to the next.
  function operations.explain_entry(b, client, number)
    local found = call("HMGET", key(b, "s:", client), "gen", "n", "hi")
    if not found[1] then
      return 0
    end
    local queue, flat = key(b, "q:", client), {}
    local beyond = entries_beyond(queue, number - 1, 1)[1]
    if beyond and entry_number(beyond[1]) == number then
      describe_entry(flat, beyond)
    end
    local head = call("XRANGE", queue, "-", "+", "COUNT", 1)[1]
    local is_released = call("ZSCORE", key(b, "rel:", client), integer(number))
    return {
      tonumber(found[1]), tonumber(found[2] or 0), tonumber(found[3] or 0), is_released and true or false, flat,
      head and entry_number(head[1]) or 0,
    }
  end

  -- explain_token: who of a bucket has the message of a token.
  -- Request: bucket, token, most names. Answer: how many have it, and who, if they are not more than that.
  -- Atomic, as it may end in between.
  function operations.explain_token(b, token, most)
    local once = once_key(b, token)
    local count = call("SCARD", once)
    return { count, count > 0 and count <= most and call("SMEMBERS", once) or {} }
  end

  -- explain_queue: how it is with a session, in brief.
  -- Request: bucket, client. Answer: false if there is none; else owner or false, deadline or false, length of the
  -- queue.
  -- Atomic, as they are to be of one moment.
  function operations.explain_queue(b, client)
    local found = call("HMGET", key(b, "s:", client), "epoch", "owner", "deadline")
    return found[1] and { found[2], tonumber(found[3] or nil) or false, call("XLEN", key(b, "q:", client)) }
  end

  -- explain_retained: the retained message of a topic.
  -- Request: bucket, topic. Answer: false if there is none; else bytes of its record, and its deadline in ms or 0.
  function operations.explain_retained(b, topic)
    local value = call("HGET", key(b, "retained"), topic)
    return value and { #value, tonumber(string.match(value, "^%d+")) or 0 }
  end
end
