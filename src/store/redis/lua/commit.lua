-- KEYS: index, version counter, lock (or the index again when there is no fence), then one per write.
-- ARGV: fence ("" for none), then per write: kind (P, D, C), expectation (*, -, a version), name, ttl in ms (0: for ever), value.
if ARGV[1] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[1] then
  return {'fenced'}
end
local count = #KEYS - 3
for i = 1, count do
  local at = 2 + (i - 1) * 5
  local expect = ARGV[at + 1]
  if expect ~= '*' then
    local head = redis.call('GETRANGE', KEYS[3 + i], 0, 20)
    local present = string.match(head, '^(%d+):')
    if (expect == '-' and present) or (expect ~= '-' and present ~= expect) then
      return {'conflict', ARGV[at + 2]}
    end
  end
end
local clock = redis.call('TIME')
local version = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(clock[1]) * 1000000 + tonumber(clock[2]))
local answer = {'ok'}
local puts = 0
for i = 1, count do
  local at = 2 + (i - 1) * 5
  local kind, name, key = ARGV[at], ARGV[at + 2], KEYS[3 + i]
  local given = '0'
  if kind == 'P' then
    version = version + 1
    puts = puts + 1
    given = string.format('%.0f', version)
    local value = given .. ':' .. ARGV[at + 4]
    if ARGV[at + 3] == '0' then
      redis.call('SET', key, value)
    else
      redis.call('SET', key, value, 'PX', ARGV[at + 3])
    end
    redis.call('ZADD', KEYS[1], 0, name)
  elseif kind == 'D' then
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], name)
  end
  answer[i + 1] = given
end
if puts > 0 then
  redis.call('SET', KEYS[2], string.format('%.0f', version), 'EX', 172800)
end
return answer
