-- complete: PUBCOMP has come.
-- Request: bucket, client, epoch, numbers. Answer: 1, or 0 if stale.
-- Atomic, as a node that has lost the session must not end what the new one has sent again.

function operations.complete(b, client, epoch, numbers)
  if is_fenced(key(b, "s:", client), epoch) then
    return 0
  end
  call_many("ZREM", key(b, "rel:", client), numbers)
  return 1
end
