//! The Redis commands that a guest may send, the positions of their keys, and their limits.
//!
//! Source: the command reference of Redis 7 (<https://redis.io/docs/latest/commands/>). Denied by default: a command that
//! is not in [`RULES`] is refused. The test `fuzz` compares the key positions with COMMAND GETKEYS of a real server.

/// The positions of the keys among a command's arguments.
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
    /// A number, then that many.
    Counted,
    /// The first, then a number, then that many.
    FirstAndCounted,
    /// The second, if the first is one of these words.
    Under(&'static [&'static str]),
    /// The first half of what follows STREAMS.
    Streams,
}

/// What bounds a command's cost: limits on its arguments (`bounds.rs`), and what the server checks first (`guard.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// It costs about as much as its arguments, and answers with at most one value.
    Small,
    /// An offset in bits, at this index.
    Bit(usize),
    /// An offset in bytes, at this index, and after it the value that is written there.
    Byte(usize),
    /// Types and offsets, as for BITFIELD.
    Bitfield,
    /// It makes a value longer.
    Appends,
    /// At most this many keys.
    Keys(usize),
    /// An optional number of elements at the second index.
    Count,
    /// COUNT and a number, after the keys.
    CountOption,
    /// Ids from this index on, at most this many.
    Ids(usize, usize),
    /// HSCAN and similar commands.
    Scan,
    /// It adds elements to the first key. Their names begin at this index, this far apart.
    Adds(Kind, usize, usize),
    /// It adds one element to the second key, whose name is at this index.
    Moves(Kind, usize),
    /// It replaces the values at its keys.
    Replaces,
    /// It replaces the value at its second key.
    Renames,
    Copies,
    /// It computes the first key from the others, bit by bit.
    Bits,
    /// The server's own thread will free the key, later or at once.
    Expires,
    /// It frees its keys.
    Frees,
    /// It frees fields of a hash.
    FreesFields,
    /// It processes everything at its keys, from the first or the second on, up to this many elements.
    Whole(Goal, u32),
    /// It intersects its keys.
    Common(Goal),
    /// The values of its keys, or of fields.
    Values,
    /// It pops from one end of a list, or of the first of several.
    Pops,
    /// A part of a list, which is returned or stays.
    List,
    Trims,
    /// It compares a list's elements with the one at this index.
    Walks(usize),
    Inserts,
    /// A range of a sorted set.
    Sorted(By),
    /// It removes a range of a sorted set.
    Removes(By),
    /// It adds an entry to a stream, or trims one.
    Stream,
    Entries,
    Reads,
    Claims,
    AutoClaims,
    Group,
    Info,
    Pending,
    /// MEMORY USAGE.
    Samples,
}

/// The type of a key to which elements are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hash,
    List,
    Set,
    Sorted,
}

/// Where the result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Answer,
    FirstKey,
}

/// How a range of a sorted set is specified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Name,
    /// An option of the command decides.
    Option,
}

/// The parts of an answer that are names of keys.
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

use Bound::{
    Adds, Appends, AutoClaims, Bit, Bitfield, Bits, Byte, Claims, Common, Copies, Count, CountOption, Entries, Expires,
    Frees, FreesFields, Group, Ids, Info, Inserts, Moves, Pending, Pops, Reads, Removes, Renames, Replaces, Samples,
    Scan, Small, Trims, Values, Walks, Whole,
};
use Keys::{All, Alternate, Counted, First, FirstAndCounted, Rest, Streams, Two, Under};

/// There is one name, and nothing follows it.
pub(super) const ONE: usize = usize::MAX;
/// Elements that one command may read, if it only reads.
pub(super) const ALL: u32 = 10_000;
/// Elements that it may combine, sort or copy.
pub(super) const GATHERED: u32 = 3_000;
/// Elements whose distances it may compute.
pub(super) const GEO: u32 = 2_000;

/// By name, for a binary search.
pub(super) const RULES: [Rule; 154] = [
    rule("APPEND", First, Appends),
    rule("BITCOUNT", First, Small),
    rule("BITFIELD", First, Bitfield),
    rule("BITFIELD_RO", First, Bitfield),
    rule("BITOP", Rest, Bits),
    rule("BITPOS", First, Small),
    rule("COPY", Two, Copies),
    rule("DECR", First, Small),
    rule("DECRBY", First, Small),
    rule("DEL", All, Frees),
    rule("EXISTS", All, Small),
    rule("EXPIRE", First, Expires),
    rule("EXPIREAT", First, Expires),
    rule("EXPIRETIME", First, Small),
    rule("GEOADD", First, Adds(Kind::Sorted, 1, 3)),
    rule("GEODIST", First, Small),
    rule("GEOHASH", First, Small),
    rule("GEOPOS", First, Small),
    rule("GEORADIUSBYMEMBER_RO", First, Whole(Goal::Answer, GEO)),
    rule("GEORADIUS_RO", First, Whole(Goal::Answer, GEO)),
    rule("GEOSEARCH", First, Whole(Goal::Answer, GEO)),
    rule("GEOSEARCHSTORE", Two, Whole(Goal::FirstKey, GEO)),
    rule("GET", First, Small),
    rule("GETBIT", First, Small),
    rule("GETDEL", First, Small),
    rule("GETEX", First, Small),
    rule("GETRANGE", First, Small),
    rule("GETSET", First, Small),
    rule("HDEL", First, FreesFields),
    rule("HEXISTS", First, Small),
    rule("HGET", First, Small),
    rule("HGETALL", First, Whole(Goal::Answer, ALL)),
    rule("HINCRBY", First, Adds(Kind::Hash, 1, ONE)),
    rule("HINCRBYFLOAT", First, Adds(Kind::Hash, 1, ONE)),
    rule("HKEYS", First, Whole(Goal::Answer, ALL)),
    rule("HLEN", First, Small),
    rule("HMGET", First, Values),
    rule("HMSET", First, Adds(Kind::Hash, 1, 2)),
    rule("HRANDFIELD", First, Count),
    rule("HSCAN", First, Scan),
    rule("HSET", First, Adds(Kind::Hash, 1, 2)),
    rule("HSETNX", First, Adds(Kind::Hash, 1, ONE)),
    rule("HSTRLEN", First, Small),
    rule("HVALS", First, Whole(Goal::Answer, ALL)),
    rule("INCR", First, Small),
    rule("INCRBY", First, Small),
    rule("INCRBYFLOAT", First, Small),
    rule("LINDEX", First, Small),
    rule("LINSERT", First, Inserts),
    rule("LLEN", First, Small),
    rule("LMOVE", Two, Moves(Kind::List, ONE)),
    rule("LMPOP", Counted, Pops),
    rule("LPOP", First, Pops),
    rule("LPOS", First, Walks(1)),
    rule("LPUSH", First, Adds(Kind::List, 1, 1)),
    rule("LPUSHX", First, Adds(Kind::List, 1, 1)),
    rule("LRANGE", First, Bound::List),
    rule("LREM", First, Walks(2)),
    rule("LSET", First, Small),
    rule("LTRIM", First, Trims),
    rule("MEMORY", Under(&["USAGE"]), Samples),
    rule("MGET", All, Values),
    rule("MSET", Alternate, Replaces),
    rule("MSETNX", Alternate, Small),
    rule("OBJECT", Under(&["ENCODING"]), Small),
    rule("PERSIST", First, Small),
    rule("PEXPIRE", First, Expires),
    rule("PEXPIREAT", First, Expires),
    rule("PEXPIRETIME", First, Small),
    rule("PFADD", First, Small),
    rule("PFCOUNT", All, Bound::Keys(32)),
    rule("PFMERGE", All, Bound::Keys(32)),
    rule("PSETEX", First, Replaces),
    rule("PTTL", First, Small),
    rule("RENAME", Two, Renames),
    rule("RENAMENX", Two, Small),
    rule("RPOP", First, Pops),
    rule("RPOPLPUSH", Two, Moves(Kind::List, ONE)),
    rule("RPUSH", First, Adds(Kind::List, 1, 1)),
    rule("RPUSHX", First, Adds(Kind::List, 1, 1)),
    rule("SADD", First, Adds(Kind::Set, 1, 1)),
    rule("SCARD", First, Small),
    rule("SDIFF", All, Whole(Goal::Answer, GATHERED)),
    rule("SDIFFSTORE", All, Whole(Goal::FirstKey, GATHERED)),
    rule("SET", First, Replaces),
    rule("SETBIT", First, Bit(1)),
    rule("SETEX", First, Replaces),
    rule("SETNX", First, Small),
    rule("SETRANGE", First, Byte(1)),
    rule("SINTER", All, Common(Goal::Answer)),
    rule("SINTERCARD", Counted, Common(Goal::Answer)),
    rule("SINTERSTORE", All, Common(Goal::FirstKey)),
    rule("SISMEMBER", First, Small),
    rule("SMEMBERS", First, Whole(Goal::Answer, ALL)),
    rule("SMISMEMBER", First, Small),
    rule("SMOVE", Two, Moves(Kind::Set, 2)),
    rule("SPOP", First, Count),
    rule("SRANDMEMBER", First, Count),
    rule("SREM", First, Small),
    rule("SSCAN", First, Scan),
    rule("STRLEN", First, Small),
    rule("SUBSTR", First, Small),
    rule("SUNION", All, Whole(Goal::Answer, GATHERED)),
    rule("SUNIONSTORE", All, Whole(Goal::FirstKey, GATHERED)),
    rule("TOUCH", All, Small),
    rule("TTL", First, Small),
    rule("TYPE", First, Small),
    rule("UNLINK", All, Frees),
    rule("XACK", First, Small),
    rule("XADD", First, Bound::Stream),
    rule("XAUTOCLAIM", First, AutoClaims),
    rule("XCLAIM", First, Claims),
    rule("XDEL", First, Ids(1, 100)),
    rule("XGROUP", Under(&["CREATE", "CREATECONSUMER", "DELCONSUMER", "DESTROY", "SETID"]), Group),
    rule("XINFO", Under(&["STREAM", "GROUPS", "CONSUMERS"]), Info),
    rule("XLEN", First, Small),
    rule("XPENDING", First, Pending),
    rule("XRANGE", First, Entries),
    rule("XREAD", Streams, Reads),
    rule("XREADGROUP", Streams, Reads),
    rule("XREVRANGE", First, Entries),
    rule("XTRIM", First, Bound::Stream),
    rule("ZADD", First, Adds(Kind::Sorted, 1, 2)),
    rule("ZCARD", First, Small),
    rule("ZCOUNT", First, Small),
    rule("ZDIFF", Counted, Whole(Goal::Answer, GATHERED)),
    rule("ZDIFFSTORE", FirstAndCounted, Whole(Goal::FirstKey, GATHERED)),
    rule("ZINCRBY", First, Adds(Kind::Sorted, 2, ONE)),
    rule("ZINTER", Counted, Common(Goal::Answer)),
    rule("ZINTERCARD", Counted, Common(Goal::Answer)),
    rule("ZINTERSTORE", FirstAndCounted, Common(Goal::FirstKey)),
    rule("ZLEXCOUNT", First, Small),
    rule("ZMPOP", Counted, CountOption),
    rule("ZMSCORE", First, Small),
    rule("ZPOPMAX", First, Count),
    rule("ZPOPMIN", First, Count),
    rule("ZRANDMEMBER", First, Count),
    rule("ZRANGE", First, Bound::Sorted(By::Option)),
    rule("ZRANGEBYLEX", First, Bound::Sorted(By::Name)),
    rule("ZRANGEBYSCORE", First, Bound::Sorted(By::Score)),
    rule("ZRANGESTORE", Two, Bound::Sorted(By::Option)),
    rule("ZRANK", First, Small),
    rule("ZREM", First, Small),
    rule("ZREMRANGEBYLEX", First, Removes(By::Name)),
    rule("ZREMRANGEBYRANK", First, Removes(By::Rank)),
    rule("ZREMRANGEBYSCORE", First, Removes(By::Score)),
    rule("ZREVRANGE", First, Bound::Sorted(By::Rank)),
    rule("ZREVRANGEBYLEX", First, Bound::Sorted(By::Name)),
    rule("ZREVRANGEBYSCORE", First, Bound::Sorted(By::Score)),
    rule("ZREVRANK", First, Small),
    rule("ZSCAN", First, Scan),
    rule("ZSCORE", First, Small),
    rule("ZUNION", Counted, Whole(Goal::Answer, GATHERED)),
    rule("ZUNIONSTORE", FirstAndCounted, Whole(Goal::FirstKey, GATHERED)),
];

/// Finds the rule of a command by its name in upper case.
pub(super) fn find(name: &str) -> Option<&'static Rule> {
    RULES.binary_search_by(|rule| rule.name.cmp(name)).ok().and_then(|at| RULES.get(at))
}
