-- KEYS: index, then values found missing. ARGV: their names. Drops from the index what is still missing.
for i = 1, #ARGV do
  if redis.call('EXISTS', KEYS[i + 1]) == 0 then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return #ARGV
