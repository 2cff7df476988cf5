-- release: PUBREC has come for entries at QoS 2: they leave the queue for the PUBREL phase.
-- Request: bucket, client, epoch, entries (gen, n, ...). Answer: 1, or 0 if stale.
-- Atomic, as an exchange is in the queue or in `rel`, never in both or in none.

function operations.release(b, client, epoch, numbers)
  if is_fenced(key(b, "s:", client), epoch) then
    return 0
  end
  local scores = {}
  for i = 2, #numbers, 2 do
    scores[i - 1] = numbers[i]
    scores[i] = numbers[i]
  end
  call_many("ZADD", key(b, "rel:", client), scores)
  delete_entries(key(b, "q:", client), numbers)
  return 1
end
