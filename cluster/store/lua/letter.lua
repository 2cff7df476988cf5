-- letter: a dead letter for a message that a node has dropped.
-- Request: bucket, client, topic, reason. Answer: 1.

function operations.letter(b, client, topic, reason)
  write_letter(b, client, topic, reason)
  return 1
end
