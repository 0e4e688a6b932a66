-- One atomic step of one circuit breaker: the rules of rules.py, decided by Redis and timed by its clock.
--
-- KEYS[1]  hash: the breaker's state           KEYS[2]  stream: its transitions, entry id "<epoch>-0"
-- KEYS[3]  the last sequence counted of the process that calls (only for "report")
-- ARGV[1]  settings as JSON, or "" for those last used      ARGV[2]  event
-- ARGV[3]  the host that the caller runs on, or ""          ARGV[4..]  the event's arguments
--
-- Returns {known, accepted, now, transitions, state...}: 0/1, 0/1, ms, a list of flat lists, flat fields.
-- All keys share the hash tag {breaker:NAME}, so that a step touches one slot of a cluster.

local SLOTS = 60
local LEASE_MS = 2000
local PARKED_MS = 2000
local KEPT_TRANSITIONS = 256
local IDLE_MS = 24 * 3600 * 1000          -- a breaker that nobody uses is forgotten after a day
local HISTORY_MS = 7 * 24 * 3600 * 1000   -- its transitions wait a week for the monitor
local PROCESS_MS = 60 * 1000              -- and a window: a late report is told from a repeated one this long
local PRESENT_MS = 5000                   -- a host is alive so long after it last spoke
local SEEN_EVERY_MS = 1000                -- how finely it is noted when a host last spoke
local MAX_HOSTS = 64                      -- told apart; in a larger fleet the rest count as one
local OTHERS = '~'                        -- the name of that rest

local state_key, stream_key, process_key = KEYS[1], KEYS[2], KEYS[3]
local event, host_name = ARGV[2], ARGV[3]

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
if not known and event == 'look' and host_name == '' then
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

local fleet = {
  state = stored.state or 'closed',
  epoch = tonumber(stored.epoch or '0'),
  minted = tonumber(stored.minted or '0'),
  since = tonumber(stored.since or '0'),
  open_until = tonumber(stored.open_until or '0'),
  closed_at = tonumber(stored.closed_at or '0'),
  run = tonumber(stored.run or '0'),
  probe_successes = tonumber(stored.probe_successes or '0'),
  wanted = stored.wanted == '1',
  override = stored.override or '',
  override_actor = stored.override_actor or '',
  override_reason = stored.override_reason or '',
  override_until = tonumber(stored.override_until or '0'),
  would_open = tonumber(stored.would_open or '0'),
  leases = {},
}
fleet.minted = math.max(fleet.minted, fleet.epoch)
for token, expires, granted in string.gmatch(stored.leases or '', '([^:;]+):(%d+):(%d+)') do
  table.insert(fleet.leases, {token = token, expires = tonumber(expires), granted = tonumber(granted)})
end

-- What a host has of its own; it counts while its epoch is above the fleet's.
local function own_state(host, epoch)
  return {
    host = host, state = 'closed', epoch = epoch, since = 0, open_until = 0, closed_at = 0, run = 0,
    probe_successes = 0, wanted = false, leases = {},
  }
end

local hosts, by_name = {}, {}

local function add_host(name, seen)
  local host = {name = name, seen = seen, shared = 0}
  host.own = own_state(host, 0)
  table.insert(hosts, host)
  by_name[name] = host
  return host
end

for line in string.gmatch(stored.hosts or '', '[^;]+') do
  local field = string.gmatch(line, '[^:]+')
  local host = add_host(field(), tonumber(field()))
  local own = host.own
  host.shared, own.epoch, own.state, own.since = tonumber(field()), tonumber(field()), field(), tonumber(field())
  own.open_until, own.closed_at, own.run = tonumber(field()), tonumber(field()), tonumber(field())
  own.probe_successes, own.wanted = tonumber(field()), field() == '1'
end
for name, token, expires, granted in string.gmatch(stored.host_leases or '', '([^:;]+):([^:;]+):(%d+):(%d+)') do
  if by_name[name] then
    table.insert(by_name[name].own.leases, {token = token, expires = tonumber(expires), granted = tonumber(granted)})
  end
end
local window = {}
for start, successes, failures, slow, at in string.gmatch(stored.window or '', '(%d+):(%d+):(%d+):(%d+):?(%d*)') do
  local host = hosts[tonumber(at) or 0]   -- none: written by a version that did not tell hosts apart
  table.insert(window, {
    start = tonumber(start), successes = tonumber(successes), failures = tonumber(failures), slow = tonumber(slow),
    host = host and host.name or '',
  })
end
if not known then
  -- The history outlives the state: epochs go on after it, so that no process takes new for old.
  local last = redis.call('XREVRANGE', stream_key, '+', '-', 'COUNT', 1)
  if #last > 0 then
    fleet.epoch = tonumber(string.match(last[1][1], '^(%d+)-')) + 1
    fleet.minted = fleet.epoch
  end
end

-- The rules -------------------------------------------------------------------------------------------

-- `part` is the fleet's state or what a host has of its own: the same rules hold for both.

local transitions = {}

-- The calls in the window: of all hosts, of one only, or of all but one.
local function totals(only, but)
  local successes, failures, slow = 0, 0, 0
  for _, slot in ipairs(window) do
    if (not only or slot.host == only) and (not but or slot.host ~= but) then
      successes = successes + slot.successes
      failures = failures + slot.failures
      slow = slow + slot.slow
    end
  end
  return successes, failures, slow
end

local function shown_state(part)
  if part.state == 'open' and fleet.override == '' and now >= part.open_until then
    return 'half_open'
  end
  return part.state
end

local function has_own(host)
  return host.own.epoch > fleet.epoch
end

-- What holds for the process that calls: its host's own state where there is one, else the fleet's.
local function seen()
  local host = by_name[host_name]
  return host and has_own(host) and host.own or fleet
end

-- A state after a transition: nothing of the one before stays but what is given.
local function become(part, to, epoch, open_until, closed_at)
  part.state, part.epoch, part.since = to, epoch, now
  part.open_until, part.closed_at = open_until, closed_at
  part.run, part.probe_successes, part.wanted, part.leases = 0, 0, false, {}
end

local function become_fleet(to, epoch, open_until, closed_at, override, would_open)
  become(fleet, to, epoch, open_until, closed_at)
  fleet.override = override and override.kind or ''
  fleet.override_actor = override and override.actor or ''
  fleet.override_reason = override and override.reason or ''
  fleet.override_until = override and override.till or 0
  fleet.would_open = would_open or 0
  window = {}
  for _, host in ipairs(hosts) do     -- every transition of the fleet ends what hosts had of their own
    host.shared, host.own = 0, own_state(host, host.own.epoch)
  end
end

-- `told`: the calls behind it, where they are not those of the whole window
local function move(part, to, reason, open_until, actor, override, would_open, told)
  local successes, failures, slow = 0, 0, 0
  if told then
    successes, failures, slow = unpack(told)
  elseif not part.host then
    successes, failures, slow = totals()
  end
  local epoch = math.max(part.epoch + 1, fleet.epoch + 1, fleet.minted + 1, now)
  table.insert(transitions, {
    'epoch', int(epoch), 'previous', int(part.epoch), 'from_state', part.state, 'to_state', to,
    'reason', reason, 'at', int(now), 'actor', actor or '', 'successes', int(successes),
    'failures', int(failures), 'run', int(part.run), 'override', override and override.kind or '',
    'slow', int(slow), 'reporter', part.host and part.host.name or '',
  })
  local closed_at = (to == 'closed' and part.state ~= 'closed' and not override) and now or 0
  fleet.minted = epoch
  if part.host then
    become(part, to, epoch, open_until or 0, closed_at)
    fleet.would_open = would_open or fleet.would_open
  else
    become_fleet(to, epoch, open_until or 0, closed_at, override, would_open)
  end
end

local aged = false   -- whether time alone, or a host that spoke, has changed something that must be kept

local function rest(part)
  local leases = {}
  local open_until, closed_at = math.min(part.open_until, now + recovery_ms), math.min(part.closed_at, now)
  for _, lease in ipairs(part.leases) do
    if lease.expires > now then
      aged = aged or lease.expires > now + LEASE_MS
      lease.expires = math.min(lease.expires, now + LEASE_MS)
      table.insert(leases, lease)
    end
  end
  aged = aged or #leases < #part.leases or open_until < part.open_until or closed_at < part.closed_at
  part.leases, part.open_until, part.closed_at = leases, open_until, closed_at
end

local function has_slots(name)
  for _, slot in ipairs(window) do
    if slot.host == name then
      return true
    end
  end
  return false
end

local function forget_hosts_that_are_gone()
  local left = {}
  for _, host in ipairs(hosts) do
    if now - host.seen >= math.max(window_ms, PRESENT_MS) and not has_slots(host.name) then
      if has_own(host) and host.own.state ~= 'closed' then
        move(host.own, 'closed', 'its reporter is gone')
      end
      by_name[host.name] = nil
      aged = true
    else
      table.insert(left, host)
    end
  end
  hosts = left
end

local function refresh()
  local kept = {}
  for _, slot in ipairs(window) do
    if slot.start > now - window_ms and slot.start <= now then
      table.insert(kept, slot)
    end
  end
  aged = aged or #kept < #window
  window = kept
  rest(fleet)
  for _, host in ipairs(hosts) do
    aged = aged or host.seen > now
    host.seen = math.min(host.seen, now)
    rest(host.own)
  end
  forget_hosts_that_are_gone()
  if fleet.override ~= '' and fleet.override_until > 0 and now >= fleet.override_until then
    local lifted = fleet.override
    fleet.override = ''
    move(fleet, lifted == 'forced_open' and 'half_open' or 'closed', lifted .. ' expired')
  end
end

local function note_host()
  if host_name == '' then
    return
  end
  if #hosts >= MAX_HOSTS and not by_name[host_name] then
    host_name = OTHERS
  end
  local host = by_name[host_name]
  if not host then
    add_host(host_name, now)
    aged = true
  elseif now - host.seen >= SEEN_EVERY_MS then
    host.seen = now
    aged = true
  end
end

local function take_lease(part, token)
  for index, lease in ipairs(part.leases) do
    if lease.token == token then
      return table.remove(part.leases, index)
    end
  end
end

local function count(successes, failures, slow)
  local start = now - now % slot_ms
  if #window > 0 then
    start = math.max(start, window[#window].start)
  end
  local slot
  for _, other in ipairs(window) do
    if other.start == start and other.host == host_name then
      slot = other
    end
  end
  if not slot then
    slot = {start = start, successes = 0, failures = 0, slow = 0, host = host_name}
    table.insert(window, slot)
  end
  slot.successes = slot.successes + successes
  slot.failures = slot.failures + failures
  slot.slow = slot.slow + slow

  local order, calls, total = {}, {}, 0     -- the calls of each part of the window, oldest first
  for _, other in ipairs(window) do
    if not calls[other.start] then
      table.insert(order, other.start)
      calls[other.start] = 0
    end
    calls[other.start] = calls[other.start] + other.successes + other.failures
    total = total + other.successes + other.failures
  end
  local first = 1
  while first < #order
    and (#order - first + 1 > SLOTS or total - calls[order[first]] >= settings.window_size) do
    total = total - calls[order[first]]
    calls[order[first]] = nil
    first = first + 1
  end
  local kept = {}
  for _, other in ipairs(window) do
    if calls[other.start] then
      table.insert(kept, other)
    end
  end
  window = kept
end

-- Who fails: the fleet, or one of its hosts alone

local function failing(successes, failures, _slow)
  local total = successes + failures
  if total >= settings.minimum_requests and failures >= settings.failure_rate * total then
    return int(failures) .. ' of ' .. int(total) .. ' calls failed'
  end
end

local function slow_calls(successes, failures, slow)
  local total = successes + failures
  if total >= settings.minimum_requests and slow > 0 and slow >= settings.slow_call_rate * total then
    return int(slow) .. ' of ' .. int(total) .. ' calls slow'
  end
end

local function reason_to_open(run, only)
  if run >= settings.failure_threshold then
    return int(run) .. ' failures in a row'
  end
  return failing(totals(only)) or slow_calls(totals(only))
end

local function lives(host)
  return now - host.seen < PRESENT_MS
end

local function alive()
  local number = 0
  for _, host in ipairs(hosts) do
    number = number + (lives(host) and 1 or 0)
  end
  return number
end

local function is_out(host)
  return has_own(host) and (host.own.state ~= 'closed' or now < host.own.open_until)
end

local function without_any_one(rule)
  for _, slot in ipairs(window) do
    if not rule(totals(nil, slot.host)) then
      return false
    end
  end
  return true
end

local function reason_for_the_fleet()
  local agreed = alive() <= 1
  for _, host in ipairs(hosts) do
    agreed = agreed or (lives(host) and is_out(host))
  end
  if agreed then
    return reason_to_open(fleet.run)
  end
  local known, in_the_run = 0, 0
  for _, host in ipairs(hosts) do
    known = known + host.shared
    in_the_run = in_the_run + (host.shared > 0 and 1 or 0)
  end
  in_the_run = in_the_run + (fleet.run > known and 1 or 0)
  if fleet.run >= settings.failure_threshold and in_the_run > 1 then
    return int(fleet.run) .. ' failures in a row'
  end
  for _, rule in ipairs({failing, slow_calls}) do
    local reason = rule(totals())
    if reason and without_any_one(rule) then
      return reason
    end
  end
end

local function trip(part, reason, told)
  if fleet.override ~= '' then
    move(part, 'closed', 'would have opened: ' .. reason, now + recovery_ms, nil, {
      kind = fleet.override, actor = fleet.override_actor, reason = fleet.override_reason,
      till = fleet.override_until,
    }, fleet.would_open + 1, told)
  else
    move(part, 'open', reason, now + recovery_ms, nil, nil, nil, told)
  end
end

local function open_alone(host, reason)
  if not has_own(host) then
    host.own.state = 'closed'
  end
  trip(host.own, reason, {totals(host.name)})
  fleet.run = fleet.run - host.shared     -- its calls said something about the host, not about the fleet
  host.shared = 0
  local others = {}
  for _, slot in ipairs(window) do
    if slot.host ~= host.name then
      table.insert(others, slot)
    end
  end
  window = others
end

local function half_open(part)
  if part.state ~= 'half_open' then
    move(part, 'half_open', 'recovery timeout passed')
  end
end

-- Whether outcomes count. One that refuses nobody counts none while it would have been open.
local function counts(part)
  if fleet.override ~= '' then
    return fleet.override == 'metrics_only' and now >= part.open_until
  end
  return part.state == 'closed'
end

local events = {}

-- report EPOCH SUCCESSES FAILURES RUN SLOW SEQUENCE: outcomes of one process, counted once
function events.report(epoch, successes, failures, run, slow, sequence)
  if tonumber(epoch) ~= seen().epoch or not counts(seen()) then
    return false
  end
  if process_key then
    if tonumber(redis.call('GET', process_key) or '0') >= tonumber(sequence) then
      return false
    end
    redis.call('SET', process_key, sequence, 'PX', int(PROCESS_MS + window_ms))
  end
  successes, failures, run = tonumber(successes), tonumber(failures), tonumber(run)
  local function longer(before)
    return successes > 0 and run or before + failures
  end
  fleet.run = longer(fleet.run)
  for _, host in ipairs(hosts) do
    if host.name == host_name then
      host.shared, host.own.run = longer(host.shared), longer(host.own.run)
    elseif successes > 0 then
      host.shared = 0
    end
  end
  count(successes, failures, tonumber(slow))
  local reason = reason_for_the_fleet()
  if reason then
    trip(fleet, reason)
    return true
  end
  local host = alive() > 1 and by_name[host_name]
  reason = host and reason_to_open(host.own.run, host.name)
  if reason then
    open_alone(host, reason)
  end
  return true
end

-- ask TOKEN: a lease for one probe
function events.ask(token)
  local part = seen()
  if fleet.override ~= '' or shown_state(part) ~= 'half_open' then
    return false
  end
  half_open(part)
  if #part.leases >= settings.half_open_max_calls then
    part.wanted = true
    return false
  end
  table.insert(part.leases, {token = token, expires = now + LEASE_MS, granted = now})
  part.wanted = false
  return true
end

-- renew TOKEN PARKED: the lease is still held; PARKED 1 when no call is using it yet
function events.renew(token, parked)
  local part = seen()
  local lease = take_lease(part, token)
  if not lease then
    return false
  end
  if parked == '1' and part.wanted and now - lease.granted >= PARKED_MS then
    part.wanted = false
    return false
  end
  lease.expires = now + LEASE_MS
  table.insert(part.leases, lease)
  return true
end

-- settle TOKEN EPOCH RESULT: a probe ended: success, slow, failure, or release (unscored)
function events.settle(token, epoch, result)
  local part = seen()
  if tonumber(epoch) ~= part.epoch or part.state ~= 'half_open' or not take_lease(part, token) then
    return false
  end
  if result == 'failure' then
    move(part, 'open', 'a probe failed', now + recovery_ms)
  elseif result == 'slow' then
    move(part, 'open', 'a probe was slow', now + recovery_ms)
  elseif result == 'success' then
    part.probe_successes = part.probe_successes + 1
    if part.probe_successes >= settings.success_threshold then
      move(part, 'closed', int(part.probe_successes) .. ' probes succeeded')
    end
  end
  return true
end

-- order KIND ACTOR REASON EXPIRES_MS OVER AFTER: a person's command. With OVER, only while the breaker is at
-- that epoch; with AFTER above 0 it stood before, and that is the epoch it had
function events.order(kind, actor, reason, expires, over, after)
  local told = reason == '' and kind or kind .. ': ' .. reason
  if over ~= '' and tonumber(over) ~= fleet.epoch then
    return false
  end
  if tonumber(after) > 0 then
    told = 'restored: ' .. told
    fleet.epoch = math.max(fleet.epoch, tonumber(after))
  end
  local till = tonumber(expires) > 0 and now + tonumber(expires) or 0
  if kind == 'force_open' then
    move(fleet, 'open', told, 0, actor, {kind = 'forced_open', actor = actor, reason = reason, till = till})
  elseif kind == 'disable' then
    move(fleet, 'closed', told, 0, actor, {kind = 'disabled', actor = actor, reason = reason, till = till})
  elseif kind == 'metrics_only' then
    move(fleet, 'closed', told, 0, actor, {kind = kind, actor = actor, reason = reason, till = till})
  else
    move(fleet, 'closed', told, 0, actor)
  end
  return true
end

-- restore EPOCH STATE OPEN_MS OVERRIDE ACTOR REASON OVERRIDE_MS ALONE CLOSED_MS: what a process last knew;
-- ALONE 1: what its host had of its own; CLOSED_MS "" or how long ago it closed after it had refused
function events.restore(epoch, state, open_ms, override, actor, reason, override_ms, alone, closed_ms)
  epoch = tonumber(epoch)
  local host = by_name[host_name]
  if (alone == '1' and seen() or fleet).epoch >= epoch or (alone == '1' and not host) then
    return false
  end
  local overridden = override ~= ''
  local open_until = (state == 'open' and not overridden) and now + tonumber(open_ms) or 0
  local closed_at = (closed_ms ~= '' and not overridden) and math.max(1, now - tonumber(closed_ms)) or 0
  if alone == '1' then
    become(host.own, state, epoch, open_until, closed_at)
  else
    become_fleet(state, epoch, open_until, closed_at, overridden and {
      kind = override, actor = actor, reason = reason,
      till = tonumber(override_ms) > 0 and now + tonumber(override_ms) or 0,
    })
  end
  fleet.minted = math.max(fleet.minted, epoch)
  return true
end

-- look ADVANCE: see the state; ADVANCE 1 records as half-open what was open for its whole time
function events.look(advance)
  if advance == '1' then
    for _, host in ipairs(hosts) do
      if has_own(host) and host.own.state == 'open' and shown_state(host.own) == 'half_open' then
        half_open(host.own)
      end
    end
    if fleet.state == 'open' and shown_state(fleet) == 'half_open' then
      half_open(fleet)
    end
  end
  return true
end

refresh()
note_host()
local accepted = events[event](unpack(ARGV, 4))

-- Save ------------------------------------------------------------------------------------------------

local places, told_hosts, host_leases = {}, {}, {}
for place, host in ipairs(hosts) do
  local own = host.own
  places[host.name] = place
  table.insert(told_hosts, table.concat({
    host.name, int(host.seen), int(host.shared), int(own.epoch), own.state, int(own.since), int(own.open_until),
    int(own.closed_at), int(own.run), int(own.probe_successes), own.wanted and '1' or '0',
  }, ':'))
  for _, lease in ipairs(own.leases) do
    table.insert(host_leases, table.concat({host.name, lease.token, int(lease.expires), int(lease.granted)}, ':'))
  end
end
local slots, leases = {}, {}
for _, slot in ipairs(window) do
  table.insert(slots, table.concat({
    int(slot.start), int(slot.successes), int(slot.failures), int(slot.slow), int(places[slot.host] or 0),
  }, ':'))
end
for _, lease in ipairs(fleet.leases) do
  table.insert(leases, lease.token .. ':' .. int(lease.expires) .. ':' .. int(lease.granted))
end
local fields = {
  'state', fleet.state, 'epoch', int(fleet.epoch), 'minted', int(fleet.minted), 'since', int(fleet.since),
  'open_until', int(fleet.open_until), 'closed_at', int(fleet.closed_at), 'run', int(fleet.run),
  'probe_successes', int(fleet.probe_successes), 'wanted', fleet.wanted and '1' or '0',
  'override', fleet.override, 'override_actor', fleet.override_actor,
  'override_reason', fleet.override_reason, 'override_until', int(fleet.override_until),
  'would_open', int(fleet.would_open), 'window', table.concat(slots, ';'), 'leases', table.concat(leases, ';'),
  'hosts', table.concat(told_hosts, ';'), 'host_leases', table.concat(host_leases, ';'), 'config', settings_json,
  'declared', stored.declared or '',      -- what regrow.toml says, as the monitor wrote it
}
if event ~= 'look' or aged or #transitions > 0 then
  redis.call('HSET', state_key, unpack(fields))
  if fleet.override ~= '' and fleet.override_until == 0 then
    redis.call('PERSIST', state_key)      -- an order without an end is not forgotten
  else
    redis.call('PEXPIRE', state_key, int(IDLE_MS + math.max(0, fleet.override_until - now)))
  end
end
for _, told in ipairs(transitions) do
  redis.call('XADD', stream_key, 'MAXLEN', KEPT_TRANSITIONS, told[2] .. '-0', unpack(told))
end
if #transitions > 0 then
  redis.call('PEXPIRE', stream_key, HISTORY_MS)
  -- A wake-up for who listens, no more: it may get lost. Nor may a user without channels lose the step.
  redis.pcall('PUBLISH', (string.gsub(state_key, ':state$', ':changed')), int(fleet.minted))
end

return {1, accepted and 1 or 0, int(now), transitions, settings_json, fields}
