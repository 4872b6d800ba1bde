-- KEYS: due times, values, leases. ARGV: id, lease proof, delay in µs (-1: done).
local lease = redis.call('HGET', KEYS[3], ARGV[1])
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or not due then
  return 0
end
local attempt, proof = string.match(lease, '^(%d+):(.*)$')
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
if proof ~= ARGV[2] or tonumber(due) <= now then
  return 0
end
if ARGV[3] == '-1' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('HSET', KEYS[3], ARGV[1], attempt .. ':')
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[1])
end
return 1
