-- A canary has run. KEYS: its queue's hash. ARGV: its number. By this server's clock, so that no other one matters.
local told = redis.call('HMGET', KEYS[1], 'number', 'sent_at', 'answered')
if told[1] ~= ARGV[1] or told[3] == '1' then return 0 end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('HSET', KEYS[1], 'answered', '1', 'lost', 0, 'latency', string.format('%.6f', now - tonumber(told[2])),
  'answered_at', string.format('%.6f', now))
return 1
