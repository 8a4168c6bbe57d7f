"""What Redis has to do in one step, as Lua: nobody comes in between."""

from __future__ import annotations

# region release
# KEYS: the lease, and where the text goes. ARGV: the token, the text, its life in ms.
# A lease that is not ours any more was withdrawn by a delete: nothing may be stored.
RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1])
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
# endregion release

# region take
# KEYS: the tag. ARGV: how the names of values and of leases begin.
# In one step: a retry after a lost answer finds the tag gone, and its keys too.
TAKE = """
local removed = 0
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    redis.call('UNLINK', ARGV[2] .. key)
    removed = removed + redis.call('UNLINK', ARGV[1] .. key)
end
redis.call('UNLINK', KEYS[1])
return removed
"""
# endregion take
