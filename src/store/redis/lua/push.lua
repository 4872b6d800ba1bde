-- KEYS: due times, values, leases. ARGV: id, value, delay in µs.
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 0 then
  return 0
end
local clock = redis.call('TIME')
local due = tonumber(clock[1]) * 1000000 + tonumber(clock[2]) + tonumber(ARGV[3])
redis.call('HSET', KEYS[3], ARGV[1], '0:')
redis.call('ZADD', KEYS[1], string.format('%.0f', due), ARGV[1])
return 1
