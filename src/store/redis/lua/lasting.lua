-- KEYS: index. ARGV: how the keys of values begin, where names begin, how many are looked at. Answers the last name that was looked
-- at, how many were, and name and value of what lives for ever. All values are in the index's own slot.
local names = redis.call('ZRANGE', KEYS[1], ARGV[2], '+', 'BYLEX', 'LIMIT', 0, ARGV[3])
local found = {}
for i = 1, #names do
  local key = ARGV[1] .. names[i]
  if redis.call('PTTL', key) == -1 then
    found[#found + 1] = {names[i], redis.call('GET', key)}
  end
end
return {names[#names] or '', #names, found}
