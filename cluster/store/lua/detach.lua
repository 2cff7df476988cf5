-- detach: the owner gives a session back, as its connection has ended.
-- Request: bucket, client, epoch, last number sent, expiry seconds (false: unchanged), fire_will, is_plain: the
-- session is direct, and its connection had no will.
-- Answer: is stale, rows of the session if it ended (filter, stamp), its will if that is due now, leased to
-- the caller (member, token, record).
-- Atomic, as the session is free, has its deadline and has its will decided at one moment; a claim comes
-- before or after that.

-- A direct session without a will is nothing but its hash. False if it has ended, or is another's.
local function end_plain(b, client, epoch)
  local session = key(b, "s:", client)
  if tonumber(call("HGET", session, "epoch")) ~= epoch then
    return false
  end
  call("DEL", session)
  call("SREM", own_key(b), client)
  return true
end

local PLAIN_END = { false, {}, {} }

function operations.detach(b, client, epoch, sent, expiry, fire_will, is_plain)
  if is_plain and end_plain(b, client, epoch) then
    return PLAIN_END
  end
  local fields = read_ownership(b, client)
  if tonumber(fields.epoch) ~= epoch then
    -- Another claim has it, or this is a repeat and the session has ended; the will of a session that was taken
    -- over is leased to the one who took it.
    local rows = rows_of_ended(b, client, epoch)
    local will = fields.epoch and {} or will_if_due(b, client, epoch)
    return { #rows == 0 and #will == 0, rows, will }
  end
  local rows = {}
  local may_have_will = fields.will_delay or not fields.owner
  if fields.owner then -- otherwise it was done before: a repeat
    -- None beyond hi was sent: what this connection sent, or an earlier one.
    local hi = fields.direct and 0 or math.max(sent, cmsgpack.unpack(fields.claim)[3])
    rows = give_back(b, client, fields, hi, expiry or tonumber(fields.expiry), fire_will)
  end
  return { false, rows, may_have_will and will_if_due(b, client, epoch) or {} }
end
