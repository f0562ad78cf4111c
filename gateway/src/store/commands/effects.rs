//! How each command changes a tenant's data: not at all, by reducing it, or by growing it.

/// Commands that change nothing: those outside of ACL CAT write.
const READS: [&str; 74] = [
    "BITCOUNT",
    "BITFIELD_RO",
    "BITPOS",
    "EXISTS",
    "EXPIRETIME",
    "GEODIST",
    "GEOHASH",
    "GEOPOS",
    "GEORADIUSBYMEMBER_RO",
    "GEORADIUS_RO",
    "GEOSEARCH",
    "GET",
    "GETBIT",
    "GETRANGE",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HRANDFIELD",
    "HSCAN",
    "HSTRLEN",
    "HVALS",
    "LINDEX",
    "LLEN",
    "LPOS",
    "LRANGE",
    "MEMORY",
    "MGET",
    "OBJECT",
    "PEXPIRETIME",
    "PFCOUNT",
    "PTTL",
    "SCARD",
    "SDIFF",
    "SINTER",
    "SINTERCARD",
    "SISMEMBER",
    "SMEMBERS",
    "SMISMEMBER",
    "SRANDMEMBER",
    "SSCAN",
    "STRLEN",
    "SUBSTR",
    "SUNION",
    "TOUCH",
    "TTL",
    "TYPE",
    "XINFO",
    "XLEN",
    "XPENDING",
    "XRANGE",
    "XREAD",
    "XREVRANGE",
    "ZCARD",
    "ZCOUNT",
    "ZDIFF",
    "ZINTER",
    "ZINTERCARD",
    "ZLEXCOUNT",
    "ZMSCORE",
    "ZRANDMEMBER",
    "ZRANGE",
    "ZRANGEBYLEX",
    "ZRANGEBYSCORE",
    "ZRANK",
    "ZREVRANGE",
    "ZREVRANGEBYLEX",
    "ZREVRANGEBYSCORE",
    "ZREVRANK",
    "ZSCAN",
    "ZSCORE",
    "ZUNION",
];

/// Commands that change something but never grow it. They are allowed above the quota.
const SHRINKS: [&str; 26] = [
    "DEL",
    "EXPIRE",
    "EXPIREAT",
    "GETDEL",
    "HDEL",
    "LMPOP",
    "LPOP",
    "LREM",
    "LTRIM",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "RPOP",
    "SPOP",
    "SREM",
    "UNLINK",
    "XACK",
    "XDEL",
    "XTRIM",
    "ZMPOP",
    "ZPOPMAX",
    "ZPOPMIN",
    "ZREM",
    "ZREMRANGEBYLEX",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE",
];

/// How a command changes the sum of a tenant's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Effect {
    None,
    Shrinks,
    Grows,
}

pub(super) fn effect(name: &str) -> Effect {
    if READS.binary_search(&name).is_ok() {
        Effect::None
    } else if SHRINKS.binary_search(&name).is_ok() {
        Effect::Shrinks
    } else {
        Effect::Grows
    }
}

/// Why the gateway does not serve one of Redis's commands, in words for the guest's developer.
pub(super) fn why_not(name: &str) -> &'static str {
    match name {
        "KEYS" | "SCAN" | "RANDOMKEY" | "DBSIZE" => {
            "it looks at keys of all tenants; use HSCAN, SSCAN or ZSCAN on a key"
        }
        "EVAL" | "EVALSHA" | "EVAL_RO" | "EVALSHA_RO" | "FCALL" | "FCALL_RO" | "FUNCTION" | "SCRIPT" => {
            "a script may name any key"
        }
        "SORT" | "SORT_RO" => "BY and GET name keys by pattern",
        "GEORADIUS" | "GEORADIUSBYMEMBER" => "STORE names another key; use GEORADIUS_RO, GEOSEARCH or GEOSEARCHSTORE",
        "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "UNWATCH" => {
            "connections are shared, and a transaction would take one"
        }
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE" | "PUBSUB" => {
            "a component is started by messages, and does not wait for them"
        }
        "PUBLISH" | "SPUBLISH" => "use the interface's own publish",
        "BLPOP" | "BRPOP" | "BLMOVE" | "BLMPOP" | "BRPOPLPUSH" | "BZPOPMIN" | "BZPOPMAX" | "BZMPOP" | "WAIT"
        | "WAITAOF" => "it blocks the connection that all share",
        "LCS" => "it compares every byte with every byte and holds the server up",
        "MIGRATE" | "MOVE" | "DUMP" | "RESTORE" | "SELECT" | "SWAPDB" | "FLUSHALL" | "FLUSHDB" => {
            "it reaches past the tenant's keys"
        }
        _ => "it is not one of the commands that work on a tenant's own keys",
    }
}
