-- One exchange between a process and the retry budget that its fleet shares, by Redis' clock.
--
-- KEYS[1]  hash: the fleet's balance            ARGV  share per_second burst calls lent back ask
-- calls: first calls since the last exchange; lent: retries made without having been granted; back: granted ones
-- that were not needed; ask: retries wanted until the next exchange.
-- Returns {granted, left}: whole retries, and the balance as text, which is below 0 while lent ones are unpaid.

local IDLE_MS = 24 * 3600 * 1000

local share, per_second, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local calls, lent, back, ask = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1] or burst), tonumber(kept[2] or now)

tokens = math.min(burst, tokens + share * calls + per_second * math.max(0, now - at) / 1000 + back) - lent
local granted = math.floor(math.max(0, math.min(ask, tokens)))
tokens = tokens - granted

redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], IDLE_MS)
return {granted, string.format('%.6f', tokens)}
