-- KEYS: bucket, holding the time at which it is full again. ARGV: µs per token, capacity. Answers {allowed, remaining, wait in µs}.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local step, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + step
local over = full - now - step * capacity
if over > 0 then
  return {0, 0, string.format('%.0f', over)}
end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
return {1, math.floor(-over / step), '0'}
