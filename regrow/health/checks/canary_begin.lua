-- Begin a canary unless one is on its way. KEYS: its queue's hash. ARGV: number, seconds until one counts as lost, seconds to keep.
-- Without a number (""), it is only told what would be begun, and nothing is written.
-- Returns {begun, on its way for, lost in a row, latency of the last answer, age of the last answer}; "" is: none.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local told = redis.call('HMGET', KEYS[1], 'sent_at', 'answered', 'lost', 'latency', 'answered_at')
local waiting, lost, begun = '', tonumber(told[3] or 0), 1
if told[1] and told[2] ~= '1' then
  local age = now - tonumber(told[1])
  -- Each one that was lost is waited for twice as long as the one before: they lie in a queue that nobody reads.
  if age >= 0 and age < tonumber(ARGV[2]) * 2 ^ math.min(lost, 6) then
    waiting, begun = tostring(age), 0
  else
    lost = lost + 1
  end
end
local writes = ARGV[1] ~= ''
if writes and begun == 1 then
  redis.call('HSET', KEYS[1], 'number', ARGV[1], 'sent_at', string.format('%.6f', now), 'answered', '0', 'lost', lost)
end
if writes then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
local age = ''
if told[5] then age = tostring(now - tonumber(told[5])) end
return {begun, waiting, lost, told[4] or '', age}
