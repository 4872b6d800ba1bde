-- KEYS: lock, fencing counter. ARGV: owner, ttl in ms.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
local clock = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local fence = string.format('%.0f', math.max(last + 1, tonumber(clock[1]) * 1000000 + tonumber(clock[2])))
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. fence, 'PX', ARGV[2], 'NX')
redis.call('SET', KEYS[2], fence, 'EX', 172800)
return fence
