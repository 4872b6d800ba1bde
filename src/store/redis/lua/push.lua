-- KEYS: due times, values, leases. ARGV: id, value, delay in µs.
local clock = redis.call('TIME')
local due = tonumber(clock[1]) * 1000000 + tonumber(clock[2]) + tonumber(ARGV[3])
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 0 then
  -- What waits comes at the earlier of both times; what is claimed stays so.
  local lease = redis.call('HGET', KEYS[3], ARGV[1])
  local waits = redis.call('ZSCORE', KEYS[1], ARGV[1])
  if not lease or not waits or not string.match(lease, ':$') or tonumber(waits) <= due then
    return 0
  end
else
  redis.call('HSET', KEYS[3], ARGV[1], '0:')
end
redis.call('ZADD', KEYS[1], string.format('%.0f', due), ARGV[1])
return 1
