-- Claim checks again whose claimed run is over. KEYS: their claims. ARGV: owner, then for each the milliseconds
-- that it is claimed for, and how long ago its last run began. Returns 1 or 0 for each.
-- A claim that is younger than the last run that is known is of one under way: it is left to whoever has it.
local taken = {}
for number, key in ipairs(KEYS) do
  local span, age = tonumber(ARGV[2 * number]), tonumber(ARGV[2 * number + 1])
  local left = redis.call('PTTL', key)
  taken[number] = 0
  if left < 0 or span - left >= age then
    redis.call('SET', key, ARGV[1], 'PX', span)
    taken[number] = 1
  end
end
return taken
