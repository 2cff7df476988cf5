-- settle_tokens: the handshakes of these tokens have ended: nobody will ask for them again, but for a repeat
-- of a call.
-- Request: bucket, tokens. Answer: 1.

function operations.settle_tokens(b, tokens)
  for _, token in ipairs(tokens) do
    call("PEXPIRE", once_key(b, token), REPEAT_MS)
  end
  return 1
end
