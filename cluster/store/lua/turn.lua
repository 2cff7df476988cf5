-- turn: a chore that one process of all has to do; whoever has the turn renews it, and nobody else gets it until it
-- ends by itself or is given back.
-- Request: "m", chore, holder, milliseconds (0: gives it back). Answer: 1 if it is the holder's now (or was given back),
-- else 0.
-- Atomic, as of two that find it free one must lose; and by Redis' own clock, the only one that all of them share.

function operations.turn(_, chore, holder, milliseconds)
  local turn = key("m", "turn:" .. chore)
  local has_it = call("GET", turn)
  if has_it and has_it ~= holder then
    return 0
  end
  if milliseconds == 0 then
    call("DEL", turn)
  else
    call("SET", turn, holder, "PX", milliseconds)
  end
  return 1
end
