-- Keep results of checks. KEYS: the last results (a hash), then the history of each check (a list). ARGV: how many
-- results a history holds, for how many milliseconds it is kept; then for each check its name, how many results
-- follow, and these, the newest last.
local size, span, at = tonumber(ARGV[1]), ARGV[2], 3
for number = 2, #KEYS do
  local check, count = ARGV[at], tonumber(ARGV[at + 1])
  local first, last = at + 2, at + 1 + count
  for result = first, last do
    redis.call('LPUSH', KEYS[number], ARGV[result])
  end
  redis.call('LTRIM', KEYS[number], 0, size - 1)
  redis.call('PEXPIRE', KEYS[number], span)
  redis.call('HSET', KEYS[1], check, ARGV[last])
  at = last + 1
end
return at - 3
