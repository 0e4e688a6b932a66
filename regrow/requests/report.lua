-- What a process counted in some minutes, all of each minute: told twice or late it is there once.
--
-- KEYS: the era, then one key a minute.
-- ARGV: the source (a process), its sequence number, seconds to keep, an era to begin, then the counts of each
-- minute as JSON.
-- Returns the era. Another one than before means that this server has forgotten what it was told.

redis.call('SET', KEYS[1], ARGV[4], 'NX')
redis.call('EXPIRE', KEYS[1], 86400)
for i = 2, #KEYS do
  local held = redis.call('HGET', KEYS[i], ARGV[1])
  if not held or tonumber(string.match(held, '^%d+')) < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[i], ARGV[1], ARGV[2] .. ' ' .. ARGV[i + 3])
    redis.call('HINCRBY', KEYS[i], '#version', 1)
    redis.call('EXPIRE', KEYS[i], ARGV[3])
  end
end
return redis.call('GET', KEYS[1])
