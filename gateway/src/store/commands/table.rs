//! Which Redis commands a guest may send, where each keeps its keys, and what bounds it.
//!
//! Source: the command reference of Redis 7 (<https://redis.io/docs/latest/commands/>). Default deny: what is not in
//! [`RULES`] is refused. The test `fuzz` holds the key positions against a real server's own COMMAND GETKEYS.

/// Where the keys are among a command's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// The first argument.
    First,
    /// The first two.
    Two,
    /// All of them.
    All,
    /// The first, third, fifth …
    Alternate,
    /// All but the first.
    Rest,
    /// A number, then so many.
    Counted,
    /// The first, then a number, then so many.
    FirstAndCounted,
    /// The second, where the first is one of these words.
    Under(&'static [&'static str]),
    /// The first half of what follows STREAMS.
    Streams,
}

/// What keeps a small command from a large cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// It costs about what it carries.
    Small,
    /// A number of elements, at this place if it is there.
    Count(usize),
    /// COUNT and a number, somewhere behind the key.
    CountOption,
    /// An offset in bits, at this place.
    Bit(usize),
    /// An offset in bytes, at this place, and what is written there after it.
    Byte(usize),
    /// Types and offsets, as BITFIELD has them.
    Bitfield,
    /// It makes a value longer.
    Appends,
    /// It reads, or answers with, everything that is at its keys.
    Whole,
    /// The word DB may not be among its options.
    SameDatabase,
}

/// What of the answer names keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Nothing,
    /// The first element.
    First,
    /// The first element of each element.
    FirstOfEach,
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) keys: Keys,
    pub(super) bound: Bound,
    pub(super) names: Names,
}

const fn rule(name: &'static str, keys: Keys, bound: Bound) -> Rule {
    let names = match name.as_bytes() {
        b"LMPOP" | b"ZMPOP" => Names::First,
        b"XREAD" | b"XREADGROUP" => Names::FirstOfEach,
        _ => Names::Nothing,
    };
    Rule { name, keys, bound, names }
}

use Bound::{Appends, Bit, Bitfield, Byte, Count, CountOption, SameDatabase, Small, Whole};
use Keys::{All, Alternate, Counted, First, FirstAndCounted, Rest, Streams, Two, Under};

/// By name, for a binary search.
pub(super) const RULES: [Rule; 154] = [
    rule("APPEND", First, Appends),
    rule("BITCOUNT", First, Small),
    rule("BITFIELD", First, Bitfield),
    rule("BITFIELD_RO", First, Bitfield),
    rule("BITOP", Rest, Small),
    rule("BITPOS", First, Small),
    rule("COPY", Two, SameDatabase),
    rule("DECR", First, Small),
    rule("DECRBY", First, Small),
    rule("DEL", All, Small),
    rule("EXISTS", All, Small),
    rule("EXPIRE", First, Small),
    rule("EXPIREAT", First, Small),
    rule("EXPIRETIME", First, Small),
    rule("GEOADD", First, Small),
    rule("GEODIST", First, Small),
    rule("GEOHASH", First, Small),
    rule("GEOPOS", First, Small),
    rule("GEORADIUSBYMEMBER_RO", First, Whole),
    rule("GEORADIUS_RO", First, Whole),
    rule("GEOSEARCH", First, Whole),
    rule("GEOSEARCHSTORE", Two, Whole),
    rule("GET", First, Small),
    rule("GETBIT", First, Small),
    rule("GETDEL", First, Small),
    rule("GETEX", First, Small),
    rule("GETRANGE", First, Small),
    rule("GETSET", First, Small),
    rule("HDEL", First, Small),
    rule("HEXISTS", First, Small),
    rule("HGET", First, Small),
    rule("HGETALL", First, Whole),
    rule("HINCRBY", First, Small),
    rule("HINCRBYFLOAT", First, Small),
    rule("HKEYS", First, Whole),
    rule("HLEN", First, Small),
    rule("HMGET", First, Whole),
    rule("HMSET", First, Small),
    rule("HRANDFIELD", First, Count(1)),
    rule("HSCAN", First, CountOption),
    rule("HSET", First, Small),
    rule("HSETNX", First, Small),
    rule("HSTRLEN", First, Small),
    rule("HVALS", First, Whole),
    rule("INCR", First, Small),
    rule("INCRBY", First, Small),
    rule("INCRBYFLOAT", First, Small),
    rule("LINDEX", First, Small),
    rule("LINSERT", First, Small),
    rule("LLEN", First, Small),
    rule("LMOVE", Two, Small),
    rule("LMPOP", Counted, Whole),
    rule("LPOP", First, Count(1)),
    rule("LPOS", First, Whole),
    rule("LPUSH", First, Small),
    rule("LPUSHX", First, Small),
    rule("LRANGE", First, Whole),
    rule("LREM", First, Small),
    rule("LSET", First, Small),
    rule("LTRIM", First, Small),
    rule("MEMORY", Under(&["USAGE"]), Small),
    rule("MGET", All, Whole),
    rule("MSET", Alternate, Small),
    rule("MSETNX", Alternate, Small),
    rule("OBJECT", Under(&["ENCODING"]), Small),
    rule("PERSIST", First, Small),
    rule("PEXPIRE", First, Small),
    rule("PEXPIREAT", First, Small),
    rule("PEXPIRETIME", First, Small),
    rule("PFADD", First, Small),
    rule("PFCOUNT", All, Small),
    rule("PFMERGE", All, Small),
    rule("PSETEX", First, Small),
    rule("PTTL", First, Small),
    rule("RENAME", Two, Small),
    rule("RENAMENX", Two, Small),
    rule("RPOP", First, Count(1)),
    rule("RPOPLPUSH", Two, Small),
    rule("RPUSH", First, Small),
    rule("RPUSHX", First, Small),
    rule("SADD", First, Small),
    rule("SCARD", First, Small),
    rule("SDIFF", All, Whole),
    rule("SDIFFSTORE", All, Whole),
    rule("SET", First, Small),
    rule("SETBIT", First, Bit(1)),
    rule("SETEX", First, Small),
    rule("SETNX", First, Small),
    rule("SETRANGE", First, Byte(1)),
    rule("SINTER", All, Whole),
    rule("SINTERCARD", Counted, Whole),
    rule("SINTERSTORE", All, Whole),
    rule("SISMEMBER", First, Small),
    rule("SMEMBERS", First, Whole),
    rule("SMISMEMBER", First, Small),
    rule("SMOVE", Two, Small),
    rule("SPOP", First, Count(1)),
    rule("SRANDMEMBER", First, Count(1)),
    rule("SREM", First, Small),
    rule("SSCAN", First, CountOption),
    rule("STRLEN", First, Small),
    rule("SUBSTR", First, Small),
    rule("SUNION", All, Whole),
    rule("SUNIONSTORE", All, Whole),
    rule("TOUCH", All, Small),
    rule("TTL", First, Small),
    rule("TYPE", First, Small),
    rule("UNLINK", All, Small),
    rule("XACK", First, Small),
    rule("XADD", First, Small),
    rule("XAUTOCLAIM", First, Whole),
    rule("XCLAIM", First, Whole),
    rule("XDEL", First, Small),
    rule("XGROUP", Under(&["CREATE", "CREATECONSUMER", "DELCONSUMER", "DESTROY", "SETID"]), Small),
    rule("XINFO", Under(&["STREAM", "GROUPS", "CONSUMERS"]), Whole),
    rule("XLEN", First, Small),
    rule("XPENDING", First, Whole),
    rule("XRANGE", First, Whole),
    rule("XREAD", Streams, Whole),
    rule("XREADGROUP", Streams, Whole),
    rule("XREVRANGE", First, Whole),
    rule("XTRIM", First, Small),
    rule("ZADD", First, Small),
    rule("ZCARD", First, Small),
    rule("ZCOUNT", First, Small),
    rule("ZDIFF", Counted, Whole),
    rule("ZDIFFSTORE", FirstAndCounted, Whole),
    rule("ZINCRBY", First, Small),
    rule("ZINTER", Counted, Whole),
    rule("ZINTERCARD", Counted, Whole),
    rule("ZINTERSTORE", FirstAndCounted, Whole),
    rule("ZLEXCOUNT", First, Small),
    rule("ZMPOP", Counted, Whole),
    rule("ZMSCORE", First, Small),
    rule("ZPOPMAX", First, Count(1)),
    rule("ZPOPMIN", First, Count(1)),
    rule("ZRANDMEMBER", First, Count(1)),
    rule("ZRANGE", First, Whole),
    rule("ZRANGEBYLEX", First, Whole),
    rule("ZRANGEBYSCORE", First, Whole),
    rule("ZRANGESTORE", Two, Whole),
    rule("ZRANK", First, Small),
    rule("ZREM", First, Small),
    rule("ZREMRANGEBYLEX", First, Small),
    rule("ZREMRANGEBYRANK", First, Small),
    rule("ZREMRANGEBYSCORE", First, Small),
    rule("ZREVRANGE", First, Whole),
    rule("ZREVRANGEBYLEX", First, Whole),
    rule("ZREVRANGEBYSCORE", First, Whole),
    rule("ZREVRANK", First, Small),
    rule("ZSCAN", First, CountOption),
    rule("ZSCORE", First, Small),
    rule("ZUNION", Counted, Whole),
    rule("ZUNIONSTORE", FirstAndCounted, Whole),
];

/// What changes nothing, as ACL CAT write has it not.
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

/// What changes something, but makes nothing larger: it is done over quota as well.
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

/// What a command does to the sum of a tenant's data.
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

/// The rule of a command by its name in capitals.
pub(super) fn find(name: &str) -> Option<&'static Rule> {
    RULES.binary_search_by(|rule| rule.name.cmp(name)).ok().and_then(|at| RULES.get(at))
}

/// Why a command that Redis has is not served, for the guest's developer.
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
