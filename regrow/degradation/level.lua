-- The level of the fleet: looked at, or replaced if nobody was faster. Redis' clock is everybody's.
--
-- KEYS[1] hash of revision and state, KEYS[2] list of the newest changes.
-- ARGV[1] the revision that is to be replaced ('': a look alone), ARGV[2] the new revision, ARGV[3] its state,
-- ARGV[4] the change ('': none), ARGV[5] the channel to tell it on ('': nobody), ARGV[6] how many changes stay.
-- Answers: whether it was done, the state that is there now and its revision, the time in ms.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local revision = redis.call('HGET', KEYS[1], 'revision') or '0'

if ARGV[1] ~= revision then
  return {ARGV[1] == '' and 1 or 0, redis.call('HGET', KEYS[1], 'state') or '', revision, now}
end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'state', ARGV[3])
if ARGV[4] ~= '' then
  redis.call('RPUSH', KEYS[2], ARGV[4])
  redis.call('LTRIM', KEYS[2], -tonumber(ARGV[6]), -1)
end
if ARGV[5] ~= '' then
  redis.call('PUBLISH', ARGV[5], ARGV[2])
end
return {1, ARGV[3], ARGV[2], now}
