-- The functions that Redis knows, two for each revision of callers. All take one call: a list of requests, each with its own result.
-- KEYS[1]: a key of the slot. ARGV: prefix, incarnation of the caller, msgpack of [bodies, requests], and the bodies if
-- they are large and not in there: of what is, Lua makes strings twice.
-- Answer: msgpack list with one answer per request; an error is a map {err = text} in its place, and harms no
-- other request; a fence that finds something ends the call. The whole call is refused with NODEGONE if the caller has
-- been declared dead in this slot.

local function begin(keys, arguments)
  call = redis.call
  if prefix ~= arguments[1] then
    prefix = arguments[1]
    bases = {}
  end
  incarnation = arguments[2]
  calls = calls + 1
  local time = call("TIME")
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  local slot = string.match(string.sub(keys[1], #prefix + 1), "^{([^}]*)}")
  local bucket = string.find(slot, "^%d+$") and tonumber(slot) or slot
  return call("EXISTS", key(bucket, "gone:", incarnation)) == 0
end

local function dispatch(keys, arguments)
  if not begin(keys, arguments) then
    return redis.error_reply("NODEGONE this incarnation has been declared dead")
  end
  local blob = cmsgpack.unpack(arguments[3])
  bodies = blob[1]
  for i = 4, #arguments do
    bodies[i - 3] = arguments[i]
  end
  local requests, answers = blob[2], {}
  for i = 1, #requests do
    local request = requests[i]
    local operation = operations[request[1]]
    if operation then
      local done, answer = pcall(operation, unpack(request, 2))
      if not done then
        local text = error_text(answer)
        if string.sub(text, 1, 9) == "NODEGONE " then
          return redis.error_reply(text)
        end
        answer = { err = text }
      end
      answers[i] = answer
      if request[1] == "fence" and done and #answer > 0 then
        for rest = i + 1, #requests do
          answers[rest] = false
        end
        break
      end
    else
      answers[i] = { err = "no such request: " .. tostring(request[1]) }
    end
  end
  bodies = nil
  return cmsgpack.pack(answers)
end

-- One name for each revision of callers that is served; see library.py. SCHEMA, REVISION and OLDEST_CALLER are
-- in the head of the library. The second function is for what frees memory, or has to go through when Redis is
-- full.
for caller = OLDEST_CALLER, REVISION do
  local ending = caller > 1 and "_" .. SCHEMA .. "_" .. caller or ""
  redis.register_function("moorline_write" .. ending, dispatch)
  redis.register_function({ function_name = "moorline_free" .. ending, callback = dispatch, flags = { "allow-oom" } })
end
