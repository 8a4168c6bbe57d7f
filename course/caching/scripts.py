"""What Redis has to do in one step, as Lua: nobody comes in between.

All keys of a call begin with the cache's prefix: in Redis Cluster, where that holds a
hash tag such as {cache}, they lie on one node.
"""

from __future__ import annotations

# region claim
# KEYS: the lease, the generation, then what else is asked for.
# ARGV: a token; how long a lease is kept, and after how long another caller may
# take it, in ms; a new generation, and how long that lives, in s.
# Nobody can tell a slow process from a dead one. So time alone ends no lease: it is
# lost only to somebody who takes it. A load that nobody else waits for is stored
# however long it takes.
CLAIM = """
local found = redis.call('MGET', unpack(KEYS))
if not found[2] then
    redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[5])
    found[2] = ARGV[4]
end
local age = tonumber(ARGV[2]) - redis.call('PTTL', KEYS[1])
-- Below 0: it lives longer than any lease does. Somebody else has put it there.
if not found[1] or age < 0 or age >= tonumber(ARGV[3]) then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    found[1] = ARGV[1]
end
return found
"""
# endregion claim

# KEYS: the generation. ARGV: a new one, for where there is none; its life in s.
BEGIN = """
local found = redis.call('MGET', KEYS[1])[1]
if found then return found end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ARGV[1]
"""

# region release
# KEYS: the lease, and where the text goes.
# ARGV: the token, the text, its life in ms.
# A lease that is not ours any more was withdrawn by a delete, or taken by another
# process that had waited too long: nothing may be stored.
RELEASE = """
if redis.call('MGET', KEYS[1])[1] ~= ARGV[1] then return 0 end
-- A user who may not delete lets it expire: else others wait for nothing.
local gone = redis.pcall('UNLINK', KEYS[1])
if type(gone) == 'table' then redis.call('SET', KEYS[1], '', 'PX', 1) end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
# endregion release

# region take
# KEYS: the tag. ARGV: how the names of values and of leases begin.
# In one step: a retry after a lost answer finds the tag gone, and its keys too.
TAKE = """
local removed = 0
local members = redis.pcall('SMEMBERS', KEYS[1])
-- Not a set: nobody can tell what is under the tag. The caller makes all invalid.
if members.err then redis.call('UNLINK', KEYS[1]) return members end
for _, key in ipairs(members) do
    redis.call('UNLINK', ARGV[2] .. key)
    removed = removed + redis.call('UNLINK', ARGV[1] .. key)
end
redis.call('UNLINK', KEYS[1])
return removed
"""
# endregion take
