-- retained_count: how many topics have a retained message.
-- Request: bucket. Answer: the number.
-- Only reads.

function operations.retained_count(b)
  return call("HLEN", key(b, "retained"))
end
