-- One atomic step of one circuit breaker: the rules of rules.py, decided by Redis and timed by its clock.
--
-- KEYS[1]  hash: the breaker's state           KEYS[2]  stream: its transitions, entry id "<epoch>-0"
-- KEYS[3]  the last sequence counted of the reporter that calls (only for "report")
-- ARGV[1]  settings as JSON, or "" for those last used      ARGV[2]  event      ARGV[3..]  its arguments
--
-- Returns {known, accepted, now, transitions, state...}: 0/1, 0/1, ms, a list of flat lists, flat fields.
-- All keys share the hash tag {breaker:NAME}, so that a step touches one slot of a cluster.

local SLOTS = 60
local LEASE_MS = 2000
local PARKED_MS = 2000
local KEPT_TRANSITIONS = 256
local IDLE_MS = 24 * 3600 * 1000          -- a breaker that nobody uses is forgotten after a day
local HISTORY_MS = 7 * 24 * 3600 * 1000   -- its transitions wait a week for the monitor
local REPORTER_MS = 60 * 1000             -- a late report is told from a repeated one this long

local state_key, stream_key, reporter_key = KEYS[1], KEYS[2], KEYS[3]
local event = ARGV[2]

local function int(number)
  return string.format('%.0f', number)    -- Lua would print large numbers in exponent form
end

local function milliseconds(seconds)
  return math.max(1, math.floor(seconds * 1000 + 0.5))
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Load ------------------------------------------------------------------------------------------------

local stored = {}
local flat = redis.call('HGETALL', state_key)
for i = 1, #flat, 2 do
  stored[flat[i]] = flat[i + 1]
end
local known = stored.epoch ~= nil

local settings_json = ARGV[1]
if settings_json == '' then
  settings_json = stored.config or ''
end
if not known and event == 'look' then
  return {0, 0, int(now), {}, settings_json, {'declared', stored.declared or ''}}
end

local settings = {
  failure_threshold = 5, recovery_timeout = 60, success_threshold = 3, window_size = 100,
  minimum_requests = 10, failure_rate = 0.5, half_open_max_calls = 1, window_seconds = 60,
  slow_call_rate = 0.5,
}
if settings_json ~= '' then
  for name, value in pairs(cjson.decode(settings_json)) do
    settings[name] = value
  end
end
local recovery_ms = milliseconds(settings.recovery_timeout)
local window_ms = milliseconds(settings.window_seconds)
local slot_ms = math.max(1, math.ceil(window_ms / SLOTS))

local breaker = {
  state = stored.state or 'closed',
  epoch = tonumber(stored.epoch or '0'),
  since = tonumber(stored.since or '0'),
  open_until = tonumber(stored.open_until or '0'),
  run = tonumber(stored.run or '0'),
  probe_successes = tonumber(stored.probe_successes or '0'),
  wanted = stored.wanted == '1',
  override = stored.override or '',
  override_actor = stored.override_actor or '',
  override_reason = stored.override_reason or '',
  override_until = tonumber(stored.override_until or '0'),
  would_open = tonumber(stored.would_open or '0'),
  window = {},
  leases = {},
}
for start, successes, failures, slow in string.gmatch(stored.window or '', '(%d+):(%d+):(%d+):(%d+)') do
  table.insert(breaker.window, {
    start = tonumber(start), successes = tonumber(successes), failures = tonumber(failures), slow = tonumber(slow),
  })
end
for token, expires, granted in string.gmatch(stored.leases or '', '([^:;]+):(%d+):(%d+)') do
  table.insert(breaker.leases, {token = token, expires = tonumber(expires), granted = tonumber(granted)})
end
if not known then
  -- The history outlives the state: epochs go on after it, so that no process takes new for old.
  local last = redis.call('XREVRANGE', stream_key, '+', '-', 'COUNT', 1)
  if #last > 0 then
    breaker.epoch = tonumber(string.match(last[1][1], '^(%d+)-')) + 1
  end
end

-- The rules -------------------------------------------------------------------------------------------

local transitions = {}

local function totals()
  local successes, failures, slow = 0, 0, 0
  for _, slot in ipairs(breaker.window) do
    successes = successes + slot.successes
    failures = failures + slot.failures
    slow = slow + slot.slow
  end
  return successes, failures, slow
end

local function shown_state()
  if breaker.state == 'open' and breaker.override == '' and now >= breaker.open_until then
    return 'half_open'
  end
  return breaker.state
end

local function move(to, reason, open_until, actor, override, would_open)
  local successes, failures, slow = totals()
  local epoch = math.max(breaker.epoch + 1, now)
  table.insert(transitions, {
    'epoch', int(epoch), 'previous', int(breaker.epoch), 'from_state', breaker.state, 'to_state', to,
    'reason', reason, 'at', int(now), 'actor', actor or '', 'successes', int(successes),
    'failures', int(failures), 'run', int(breaker.run), 'override', override and override.kind or '',
    'slow', int(slow),
  })
  breaker = {
    state = to, epoch = epoch, since = now, open_until = open_until or 0, run = 0, probe_successes = 0,
    wanted = false, window = {}, leases = {},
    override = override and override.kind or '',
    override_actor = override and override.actor or '',
    override_reason = override and override.reason or '',
    override_until = override and override.till or 0,
    would_open = would_open or 0,
  }
end

local aged = false   -- whether time alone has changed something that must be kept

local function refresh()
  local window, leases = {}, {}
  local open_until = math.min(breaker.open_until, now + recovery_ms)
  for _, slot in ipairs(breaker.window) do
    if slot.start > now - window_ms and slot.start <= now then
      table.insert(window, slot)
    end
  end
  for _, lease in ipairs(breaker.leases) do
    if lease.expires > now then
      aged = aged or lease.expires > now + LEASE_MS
      lease.expires = math.min(lease.expires, now + LEASE_MS)
      table.insert(leases, lease)
    end
  end
  aged = aged or #window < #breaker.window or #leases < #breaker.leases or open_until < breaker.open_until
  breaker.window, breaker.leases, breaker.open_until = window, leases, open_until
  if breaker.override ~= '' and breaker.override_until > 0 and now >= breaker.override_until then
    local lifted = breaker.override
    breaker.override = ''
    move(lifted == 'forced_open' and 'half_open' or 'closed', lifted .. ' expired')
  end
end

local function take_lease(token)
  for index, lease in ipairs(breaker.leases) do
    if lease.token == token then
      return table.remove(breaker.leases, index)
    end
  end
end

local function count(successes, failures, slow)
  local slots = breaker.window
  local start = now - now % slot_ms
  local last = slots[#slots]
  if last and last.start >= start then
    last.successes = last.successes + successes
    last.failures = last.failures + failures
    last.slow = last.slow + slow
  else
    table.insert(slots, {start = start, successes = successes, failures = failures, slow = slow})
  end
  local kept_successes, kept_failures = totals()
  local total = kept_successes + kept_failures
  while #slots > 1 and (#slots > SLOTS or total - slots[1].successes - slots[1].failures >= settings.window_size) do
    total = total - slots[1].successes - slots[1].failures
    table.remove(slots, 1)
  end
end

local function trip_reason()
  if breaker.run >= settings.failure_threshold then
    return int(breaker.run) .. ' failures in a row'
  end
  local successes, failures, slow = totals()
  local total = successes + failures
  if total >= settings.minimum_requests and failures >= settings.failure_rate * total then
    return int(failures) .. ' of ' .. int(total) .. ' calls failed'
  end
  if total >= settings.minimum_requests and slow > 0 and slow >= settings.slow_call_rate * total then
    return int(slow) .. ' of ' .. int(total) .. ' calls slow'
  end
end

local function half_open()
  if breaker.state ~= 'half_open' then
    move('half_open', 'recovery timeout passed')
  end
end

-- Whether outcomes count. One that refuses nobody counts none while it would have been open.
local function counts()
  if breaker.override ~= '' then
    return breaker.override == 'metrics_only' and now >= breaker.open_until
  end
  return breaker.state == 'closed'
end

local events = {}

-- report EPOCH SUCCESSES FAILURES RUN SLOW SEQUENCE: outcomes of one process, counted once
function events.report(epoch, successes, failures, run, slow, sequence)
  if tonumber(epoch) ~= breaker.epoch or not counts() then
    return false
  end
  if reporter_key then
    if tonumber(redis.call('GET', reporter_key) or '0') >= tonumber(sequence) then
      return false
    end
    redis.call('SET', reporter_key, sequence, 'PX', REPORTER_MS)
  end
  successes, failures = tonumber(successes), tonumber(failures)
  if successes > 0 then
    breaker.run = tonumber(run)
  else
    breaker.run = breaker.run + failures
  end
  count(successes, failures, tonumber(slow))
  local reason = trip_reason()
  if reason and breaker.override ~= '' then
    move('closed', 'would have opened: ' .. reason, now + recovery_ms, nil, {
      kind = breaker.override, actor = breaker.override_actor, reason = breaker.override_reason,
      till = breaker.override_until,
    }, breaker.would_open + 1)
  elseif reason then
    move('open', reason, now + recovery_ms)
  end
  return true
end

-- ask TOKEN: a lease for one probe
function events.ask(token)
  if breaker.override ~= '' or shown_state() ~= 'half_open' then
    return false
  end
  half_open()
  if #breaker.leases >= settings.half_open_max_calls then
    breaker.wanted = true
    return false
  end
  table.insert(breaker.leases, {token = token, expires = now + LEASE_MS, granted = now})
  breaker.wanted = false
  return true
end

-- renew TOKEN PARKED: the lease is still held; PARKED 1 when no call is using it yet
function events.renew(token, parked)
  local lease = take_lease(token)
  if not lease then
    return false
  end
  if parked == '1' and breaker.wanted and now - lease.granted >= PARKED_MS then
    breaker.wanted = false
    return false
  end
  lease.expires = now + LEASE_MS
  table.insert(breaker.leases, lease)
  return true
end

-- settle TOKEN EPOCH RESULT: a probe ended: success, slow, failure, or release (unscored)
function events.settle(token, epoch, result)
  if tonumber(epoch) ~= breaker.epoch or breaker.state ~= 'half_open' or not take_lease(token) then
    return false
  end
  if result == 'failure' then
    move('open', 'a probe failed', now + recovery_ms)
  elseif result == 'slow' then
    move('open', 'a probe was slow', now + recovery_ms)
  elseif result == 'success' then
    breaker.probe_successes = breaker.probe_successes + 1
    if breaker.probe_successes >= settings.success_threshold then
      move('closed', int(breaker.probe_successes) .. ' probes succeeded')
    end
  end
  return true
end

-- order KIND ACTOR REASON EXPIRES_MS OVER AFTER: a person's command. With OVER, one that stood before: only
-- while the breaker is at that epoch, and AFTER is the epoch it had
function events.order(kind, actor, reason, expires, over, after)
  local told = reason == '' and kind or kind .. ': ' .. reason
  if over ~= '' then
    if tonumber(over) ~= breaker.epoch then
      return false
    end
    told = 'restored: ' .. told
    breaker.epoch = math.max(breaker.epoch, tonumber(after))
  end
  local till = tonumber(expires) > 0 and now + tonumber(expires) or 0
  if kind == 'force_open' then
    move('open', told, 0, actor, {kind = 'forced_open', actor = actor, reason = reason, till = till})
  elseif kind == 'disable' then
    move('closed', told, 0, actor, {kind = 'disabled', actor = actor, reason = reason, till = till})
  elseif kind == 'metrics_only' then
    move('closed', told, 0, actor, {kind = kind, actor = actor, reason = reason, till = till})
  else
    move('closed', told, 0, actor)
  end
  return true
end

-- restore EPOCH STATE OPEN_MS OVERRIDE ACTOR REASON OVERRIDE_MS: what a process last knew
function events.restore(epoch, state, open_ms, override, actor, reason, override_ms)
  if breaker.epoch >= tonumber(epoch) then
    return false
  end
  local overridden = override ~= ''
  breaker = {
    state = state, epoch = tonumber(epoch), since = now, run = 0, probe_successes = 0, wanted = false,
    open_until = (state == 'open' and not overridden) and now + tonumber(open_ms) or 0,
    window = {}, leases = {}, override = override,
    override_actor = overridden and actor or '', override_reason = overridden and reason or '',
    override_until = (overridden and tonumber(override_ms) > 0) and now + tonumber(override_ms) or 0,
    would_open = 0,
  }
  return true
end

-- look ADVANCE: see the state; ADVANCE 1 records as half-open what was open for its whole time
function events.look(advance)
  if advance == '1' and breaker.state == 'open' and shown_state() == 'half_open' then
    half_open()
  end
  return true
end

refresh()
local accepted = events[event](unpack(ARGV, 3))

-- Save ------------------------------------------------------------------------------------------------

local slots, leases = {}, {}
for _, slot in ipairs(breaker.window) do
  table.insert(slots, int(slot.start) .. ':' .. int(slot.successes) .. ':' .. int(slot.failures)
    .. ':' .. int(slot.slow))
end
for _, lease in ipairs(breaker.leases) do
  table.insert(leases, lease.token .. ':' .. int(lease.expires) .. ':' .. int(lease.granted))
end
local fields = {
  'state', breaker.state, 'epoch', int(breaker.epoch), 'since', int(breaker.since),
  'open_until', int(breaker.open_until), 'run', int(breaker.run),
  'probe_successes', int(breaker.probe_successes), 'wanted', breaker.wanted and '1' or '0',
  'override', breaker.override, 'override_actor', breaker.override_actor,
  'override_reason', breaker.override_reason, 'override_until', int(breaker.override_until),
  'would_open', int(breaker.would_open), 'window', table.concat(slots, ';'), 'leases', table.concat(leases, ';'), 'config', settings_json,
  'declared', stored.declared or '',      -- what regrow.toml says, as the monitor wrote it
}
if event ~= 'look' or aged or #transitions > 0 then
  redis.call('HSET', state_key, unpack(fields))
  if breaker.override ~= '' and breaker.override_until == 0 then
    redis.call('PERSIST', state_key)      -- an order without an end is not forgotten
  else
    redis.call('PEXPIRE', state_key, int(IDLE_MS + math.max(0, breaker.override_until - now)))
  end
end
for _, told in ipairs(transitions) do
  redis.call('XADD', stream_key, 'MAXLEN', KEPT_TRANSITIONS, told[2] .. '-0', unpack(told))
end
if #transitions > 0 then
  redis.call('PEXPIRE', stream_key, HISTORY_MS)
  -- A wake-up for who listens, no more: it may get lost. Nor may a user without channels lose the step.
  redis.pcall('PUBLISH', (string.gsub(state_key, ':state$', ':changed')), int(breaker.epoch))
end

return {1, accepted and 1 or 0, int(now), transitions, settings_json, fields}
