-- Rules that all nodes follow: `rules` has the fields `version` and, if there are any, `text`.

-- put_rules: Request: "m", text, or false for none. Answer: the version.
-- Atomic, as a version has one text.
function operations.put_rules(_, text)
  local rules = key("m", "rules")
  if text then
    call("HSET", rules, "text", text)
  else
    call("HDEL", rules, "text")
  end
  local version = tonumber(call("HGET", rules, "version") or 0) + 1
  call("HSET", rules, "version", integer(version))
  return version
end

-- read_rules: Request: "m", the version that the caller has (-1: none).
-- Answer: the version; the text, or false if there is none, or the caller has it.
-- Atomic, as the text has to be that of the version.
function operations.read_rules(_, had)
  local found = call("HMGET", key("m", "rules"), "version", "text")
  local version = tonumber(found[1] or 0)
  return { version, version ~= had and found[2] }
end
