-- KEYS: due times, values, leases. ARGV: lease proof, lease in µs, limit.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local ends = string.format('%.0f', now + tonumber(ARGV[2]))
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[3])
local answer = {}
for i = 1, #ids do
  local value = redis.call('HGET', KEYS[2], ids[i])
  if value then
    local before = redis.call('HGET', KEYS[3], ids[i]) or '0:'
    local attempt = tonumber(string.match(before, '^(%d+):')) + 1
    redis.call('HSET', KEYS[3], ids[i], attempt .. ':' .. ARGV[1])
    redis.call('ZADD', KEYS[1], ends, ids[i])
    answer[#answer + 1] = {ids[i], value, attempt}
  else
    redis.call('ZREM', KEYS[1], ids[i])
  end
end
return answer
