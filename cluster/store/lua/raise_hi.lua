-- raise_hi: allows the owner to send a window further, if it has all there is.
-- Request: bucket, client, epoch, window. Answer: 1, hi (raised); 2, hi, n (the queue holds entries beyond hi:
-- read a page); 0 if stale.
-- Atomic, as no policy may drop an entry between the look at n and the promise of hi.

function operations.raise_hi(b, client, epoch, window)
  local session = key(b, "s:", client)
  local found = call("HMGET", session, "epoch", "n", "hi")
  if tonumber(found[1]) ~= epoch then
    return { 0 }
  end
  local n, hi = tonumber(found[2]), tonumber(found[3])
  if n > hi then
    return { 2, hi, n }
  end
  if n + window > hi then
    hi = n + window
    call("HSET", session, "hi", hi)
  end
  return { 1, hi }
end
