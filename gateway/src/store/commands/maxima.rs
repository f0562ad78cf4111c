//! Every limit from both sides: at the limit a command is served; one above it, the command is refused by name, with
//! advice. The rows of `maxima.txt` are each command's maximum; `loadtest/commands.py` measures their cost for a server.

use std::collections::BTreeSet;

use super::table::RULES;
use super::*;
use crate::ids::TenantId;
use crate::store::layout::Place;
use crate::store::tests::{on_redis, server};
use crate::store::{Allowance, Prefix, Raw};

/// The words for one entry: `#N` is N bytes; `{A..B}:w,v` is `w` and `v` for each number, which replaces `%`.
fn spread(text: &str) -> Words {
    if let Some((range, each)) = text.strip_prefix('{').and_then(|rest| rest.split_once("}:")) {
        let (from, to) = range.split_once("..").unwrap();
        let numbers = from.parse::<usize>().unwrap()..to.parse().unwrap();
        return numbers
            .flat_map(|n| {
                each.split(',').flat_map(|word| spread(&word.replace('%', &n.to_string()))).collect::<Vec<_>>()
            })
            .collect();
    }
    match text.rsplit_once('#').map(|(head, size)| (head, size.parse())) {
        Some((head, Ok(size))) => vec![[head.as_bytes(), &vec![b'x'; size]].concat()],
        _ => vec![text.as_bytes().to_vec()],
    }
}

fn words(text: &str) -> Words {
    text.split(' ').filter(|word| !word.is_empty()).flat_map(spread).collect()
}

fn prepared(text: &str) -> Result<Prepared> {
    let inside = Prefix::default().namespace(&Place::of(&TenantId::parse("acme").unwrap(), 0, 1));
    let mut words = words(text);
    let name = words.remove(0);
    prepare(&inside, &name, words)
}

#[test]
fn every_served_command_has_a_row_of_its_maximum() {
    let rows =
        include_str!("../../../redis/maxima.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut seen = BTreeSet::new();
    for row in rows {
        let [name, _data, words] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{row}") };
        assert!(words.starts_with(name), "{row}");
        prepared(words).unwrap_or_else(|error| panic!("{row}: {error}"));
        seen.insert(name);
    }
    let missing: Vec<_> = RULES.iter().map(|rule| rule.name).filter(|name| !seen.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "these have no row in maxima.txt");
}

/// Limits on the words alone: at the limit, one above it, and the error text.
#[test]
fn one_past_each_bound_of_the_words_is_refused_by_name() {
    for (at, past, why) in [
        ("HSCAN k 0 MATCH #128", "HSCAN k 0 MATCH #129", "HSCAN: a pattern may have 128 bytes"),
        ("SSCAN k 0 MATCH *a?b[c]*", "SSCAN k 0 MATCH *a?b[c]*d*", "SSCAN: a pattern may have 128 bytes and four"),
        ("ZSCAN k 0 COUNT 1000", "ZSCAN k 0 COUNT 1001", "ZSCAN: COUNT may be 1 to 1000"),
        ("HSCAN k 0 NOVALUES MATCH ****", "HSCAN k 0 NOVALUES MATCH *****", "HSCAN: a pattern"),
        ("SSCAN k 0 MATCH a", "SSCAN k 0 COUNT 5 MATCH *****", "SSCAN: a pattern"),
        ("SRANDMEMBER k 250", "SRANDMEMBER k 251", "SRANDMEMBER: a count may be 0 to 250"),
        ("SRANDMEMBER k 0", "SRANDMEMBER k -1", "SRANDMEMBER: a count may be 0 to 250"),
        ("HRANDFIELD k 250", "HRANDFIELD k -1 WITHVALUES", "HRANDFIELD: a count"),
        ("ZRANDMEMBER k 250", "ZRANDMEMBER k -1", "ZRANDMEMBER: a count"),
        ("SPOP k 250", "SPOP k 251", "SPOP: a count"),
        ("ZPOPMIN k 250", "ZPOPMIN k 251", "ZPOPMIN: a count"),
        ("ZMPOP 2 k l MIN COUNT 250", "ZMPOP 2 k l MIN COUNT 251", "ZMPOP: a count"),
        ("LMPOP 2 k l LEFT COUNT 250", "LMPOP 2 k l LEFT COUNT 251", "LMPOP: a count"),
        ("LPOP k 250", "LPOP k 251", "LPOP: a count"),
        ("SETBIT k 8388607 1", "SETBIT k 8388608 1", "SETBIT: an offset may reach 1 MiB"),
        ("SETRANGE k 1048575 x", "SETRANGE k 1048576 x", "SETRANGE: an offset"),
        ("DEL {0..500}:k%", "DEL {0..501}:k%", "DEL: 500 keys at once"),
        ("BITOP AND d {0..8}:k", "BITOP AND d {0..9}:k", "BITOP: 8 sources at once"),
        ("PFCOUNT {0..32}:k", "PFCOUNT {0..33}:k", "PFCOUNT: 32 keys at once"),
        ("PFMERGE {0..32}:k", "PFMERGE {0..33}:k", "PFMERGE: 32 keys at once"),
        ("SADD k #4096", "SADD k a #4097", "SADD: a member, or a field's name, may have 4 KiB"),
        ("SADD k {0..127}:%-#4000", "SADD k {0..132}:%-#4000", "SADD: members may have 512 KiB together"),
        ("ZADD k 1 a 2 #4096", "ZADD k NX CH 1 a 2 #4097", "ZADD: a member"),
        ("GEOADD k 1 2 #4096", "GEOADD k XX 1 2 a 1 2 #4097", "GEOADD: a member"),
        ("ZINCRBY k 1 #4096", "ZINCRBY k 1 #4097", "ZINCRBY: a member"),
        ("HSET k #4096 #1048576", "HSET k f v #4097 v", "HSET: a member, or a field's name"),
        ("HINCRBY k #4096 1", "HINCRBY k #4097 1", "HINCRBY: a member"),
        ("XADD k * {0..128}:f,v", "XADD k * {0..129}:f,v", "XADD: an entry may have 128 fields and 64 KiB"),
        ("XADD k MAXLEN ~ 5 * f #65535", "XADD k MAXLEN ~ 5 * f #65536", "XADD: an entry"),
        ("XREAD COUNT 1000 STREAMS k 0", "XREAD COUNT 1001 STREAMS k 0", "XREAD: COUNT may be 0 to 1000"),
        ("XRANGE k - + COUNT 1000", "XRANGE k - + COUNT 1001", "XRANGE: COUNT may be 0 to 1000"),
        ("XCLAIM k g c 0 {0..16}:1-%", "XCLAIM k g c 0 {0..17}:1-%", "XCLAIM: 16 ids at once"),
        ("XCLAIM k g c 0 {0..250}:1-% JUSTID", "XCLAIM k g c 0 {0..251}:1-% JUSTID", "XCLAIM: 16 ids at once, or 250"),
        ("XDEL k {0..100}:1-%", "XDEL k {0..101}:1-%", "XDEL: 100 ids at once"),
        ("XPENDING k g - + 1000", "XPENDING k g IDLE 5 - + 1001", "XPENDING: a count may be 0 to 1000"),
        ("XINFO STREAM k", "XINFO STREAM k FULL", "XINFO: FULL is not served"),
        ("XAUTOCLAIM k g c 0 0 COUNT 1000", "XAUTOCLAIM k g c 0 0 COUNT 1001", "XAUTOCLAIM: COUNT may be 1 to 1000"),
        ("MEMORY USAGE k SAMPLES 100", "MEMORY USAGE k SAMPLES 0", "MEMORY: SAMPLES may be 1 to 100"),
        ("MEMORY USAGE k SAMPLES 1", "MEMORY USAGE k SAMPLES 101", "MEMORY: SAMPLES may be 1 to 100"),
        ("LPOS k x COUNT 1000", "LPOS k x COUNT 1001", "LPOS: COUNT may be 1000"),
    ] {
        assert!(prepared(at).is_ok(), "{at}: {:?}", prepared(at).err());
        let error = prepared(past).unwrap_err().to_string();
        assert!(error.starts_with(&format!("too-large: {why}")), "{past}: {error}");
    }
    assert!(prepared("MSET k #1048576 l #65534").is_ok());
    let error = prepared("MSET k #1048576 l #65535").unwrap_err().to_string();
    assert!(error.starts_with("too-large: a command may carry 1 MiB and 64 KiB"), "{error}");
}

/// A pattern never reaches the server, in whatever order the options are.
#[test]
fn no_pattern_is_sent_to_the_server() {
    for text in [
        "SSCAN k 0 MATCH a*",
        "HSCAN k 0 NOVALUES MATCH a*",
        "ZSCAN k 0 COUNT 9 MATCH x MATCH a*",
        "HSCAN k 0 MATCH MATCH MATCH a*",
    ] {
        let sent = prepared(text).unwrap();
        assert!(!sent.words().iter().skip(2).any(|word| word.contains(&b'a')), "{text}: {:?}", sent.words());
    }
    assert!(prepared("SSCAN k 0 a*").is_err() && prepared("SSCAN k 0 MATCH").is_err());
}

/// Limits that depend on the data: how to create the keys, a command at the limit, one above it, and the error text.
const ON_THE_SERVER: [(&[&str], &str, &str, &str); 28] = [
    (&["SADD k {0..9999}:m%"], "SMEMBERS k", "SMEMBERS k", "it would go through too many elements"),
    (
        &["HSET k a #1000000 b #1000000 c #1000000", "HSET k d #900000"],
        "HGETALL k",
        "HGETALL k",
        "it would read more than 4 MiB",
    ),
    (&["SET k #1048576"], "MGET k k k k", "MGET k k k k k", "it would read more than 4 MiB"),
    (&["HSET k f #1048576"], "HMGET k f f f f", "HMGET k f f f f f", "it would read more than 4 MiB"),
    (&["SADD k {0..1500}:m%"], "SUNION k k", "SUNION k k l", "it would go through too many elements"),
    (
        &["SADD k {0..5000}:m%", "SADD l {0..9000}:m%"],
        "SINTERCARD 2 k l",
        "SINTERCARD 3 k l l",
        "it would go through too many",
    ),
    (&["ZADD k {0..9999}:%,m%"], "ZRANGE k 0 -1", "ZRANGE k 0 -1", "it would go through too many elements"),
    (
        &["ZADD k {0..9999}:%,m%"],
        "ZRANGEBYSCORE k -inf +inf",
        "ZRANGEBYSCORE k -inf +inf LIMIT 0 1 LIMIT 0 -1",
        "it would go through too many",
    ),
    (&["ZADD k {0..9999}:0,m%"], "ZRANGE k - + BYLEX", "ZRANGE k (0 (x BYSCORE BYLEX", "it would go through too many"),
    (
        &["ZADD k {0..9999}:%,m%"],
        "ZRANGEBYSCORE k 0 +inf LIMIT 10000 1",
        "ZRANGEBYSCORE k 0 +inf LIMIT 10001 1",
        "an offset may be 10000",
    ),
    (
        &["ZADD k {0..9999}:%,m%"],
        "ZREMRANGEBYRANK k 0 2999",
        "ZREMRANGEBYRANK k 0 3000",
        "it would remove more than 3000",
    ),
    (&["ZADD k {0..9999}:%,m%"], "ZRANGESTORE d k 0 2999", "ZRANGESTORE d k 0 3000", "it would go through too many"),
    (&["ZADD k {0..2999}:%,m%"], "COPY k d REPLACE", "COPY k d REPLACE", "it would go through too many"),
    (&["SADD k {0..9999}:m%"], "EXPIRE k 100", "EXPIRE k 100", "a key that expires may have 10000 elements"),
    (&["SADD k {0..9999}:m%"], "SET k v XX", "SET k v XX", "what would be replaced has more than 10000"),
    (&["SADD k {0..9999}:m%", "SET s v"], "RENAME s k", "RENAME s k", "what would be replaced has more than 10000"),
    (&["SADD k {0..9999}:m%"], "MSET k v l v", "MSET k v l v", "what would be replaced has more than 10000"),
    (
        &["{0..9}:SADD,k,m%", "PEXPIRE k 1000000", "SADD k {10..9999}:m%"],
        "SADD k m9999",
        "SADD k m9999 more",
        "a key that expires may have",
    ),
    (&["SADD k {0..99999}:m%"], "SADD k m99999", "SADD k m1 more even-more", "a key may have at most 100000 elements"),
    (&["HSET k {0..999}:f%,v"], "HSET k f #300000", "HSET k g #300000", "a value in a hash with more than 1000 fields"),
    (&["RPUSH k #200000 #1048576"], "LPOP k 1", "LPOP k 2", "several elements at once may have 256 KiB"),
    (&["RPUSH k {0..49999}:e"], "LREM k 0 none", "LREM k 0 none", "it would compare more than 50000 elements"),
    (
        &["SET k #1048576"],
        "BITOP OR d k k k k",
        "BITOP OR d k k k k l",
        "the longest source, times the number of sources",
    ),
    (&["APPEND k #1048575"], "APPEND k x", "APPEND k y", "a value may have at most 1 MiB"),
    (
        &["XGROUP CREATE k {0..1}:g% 0 MKSTREAM", "XADD k 1-1 f v"],
        "XREADGROUP GROUP g0 c STREAMS k >",
        "XGROUP CREATE k g100 0",
        "a stream may have 100 groups",
    ),
    (&["XADD k 1-1 {0..64}:f,v"], "XRANGE k - +", "XRANGE k - +", "the entries have more than 256 KiB or 2000 fields"),
    (&["RPUSH k #1048576"], "LTRIM k 5 6", "LTRIM k 0 0", "it would free more than 32 MiB at once"),
    (&["SET k0 #1048576"], "DEL k0 k1", "DEL {0..34}:k%", "it would free more than 32 MiB at once"),
];

/// Creates one element more than the first command may process.
fn one_more(raw: &mut impl FnMut(&str), past: &str, why: &str) {
    match why {
        _ if past.starts_with("XGROUP") => (1..100).for_each(|n| raw(&format!("XGROUP CREATE k g{n} 0"))),
        _ if past.starts_with("LTRIM") => {
            raw("DEL k");
            (0..66).for_each(|_| raw("RPUSH k #1048576"));
        }
        _ if past.starts_with("DEL") => (0..34).for_each(|n| raw(&format!("SET k{n} #1048576"))),
        _ if past.starts_with("XRANGE") => (0..16).for_each(|n| raw(&format!("XADD k 2-{n} {{0..64}}:f,v"))),
        _ if past.starts_with("LREM") => raw("RPUSH k 1 2"),
        _ if past.starts_with("LPOP") => raw("RPUSH k #200000 #200000"),
        _ if past.starts_with("HGETALL") => raw("HSET k e #400000"),
        _ if past.starts_with("HSET") => raw("HSET k h v"),
        _ if past.starts_with("SUNION") => raw("SADD l x"),
        _ if past.starts_with("COPY") => raw("ZADD k 0 x 0 y"),
        _ if past.starts_with('Z') => raw("ZADD k 0 x 1 y 99999 z"),
        _ if past.starts_with("EXPIRE") => raw("PERSIST k"),
        _ => {}
    }
    if ["SMEMBERS", "EXPIRE", "SET", "RENAME", "MSET"].iter().any(|name| past.starts_with(name)) {
        raw("UNLINK k");
        raw("SADD k {0..5001}:m%");
        raw("SADD k {5001..10001}:m%");
        raw("SET s v");
    }
}

#[tokio::test]
async fn one_past_each_bound_on_the_server_is_refused_by_name() {
    let (redis, mut connection) = server();
    let store = on_redis(&redis);
    let tenant = TenantId::parse("acme").unwrap();
    for allowance in [None, Some(Allowance { bytes: 1 << 40, keys: 1 << 30 })] {
        let raw = store.raw(&tenant, allowance);
        for (made, at, past, why) in &ON_THE_SERVER {
            redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
            let mut make = |text: &str| {
                let prefix = "tg:{acme}:r:";
                let mut words = words(text);
                let name = String::from_utf8(words.remove(0)).unwrap();
                // Their keys come first, except for XGROUP's.
                let rest = words.split_off(usize::from(name == "XGROUP"));
                let key = [prefix.as_bytes(), &rest[0]].concat();
                // In parts, because a command is limited for the client too.
                let step = 5_000;
                if rest.len() > step && name != "XADD" {
                    for some in rest[1..].chunks(step) {
                        redis::cmd(&name).arg(&key).arg(some).exec(&mut connection).unwrap();
                    }
                } else if name == "UNLINK" || name == "DEL" {
                    redis::cmd("UNLINK").arg(&key).exec(&mut connection).unwrap();
                } else {
                    redis::cmd(&name).arg(&words).arg(&key).arg(&rest[1..]).exec(&mut connection).unwrap();
                }
            };
            for text in *made {
                // Several commands, or one.
                let many = text.strip_prefix('{').map(|_| spread(text));
                match many {
                    Some(words) => words.chunks(3).for_each(|three| {
                        make(&three.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" "));
                    }),
                    None => make(text),
                }
            }
            say(&raw, at).await.unwrap_or_else(|error| panic!("at the bound: {at}: {error}"));
            one_more(&mut make, past, why);
            let error = say(&raw, past).await.map(|_| "served".to_owned()).unwrap_or_else(|error| error.to_string());
            let name = past.split(' ').next().unwrap();
            let wanted = format!("too-large: {}: {why}", if name == "DEL" { "DEL" } else { name });
            assert!(error.starts_with(&wanted), "{past}: {error}");
        }
    }
}

async fn say(raw: &Raw, text: &str) -> Result<Vec<Reply>> {
    let mut words = words(text);
    let name = words.remove(0);
    raw.execute(&name, words).await.map(|answered| answered.replies)
}

/// A large answer is fetched completely, on a connection of its own, and equals the data. Its cost is reported.
#[tokio::test]
async fn large_answers_are_complete_and_their_work_is_reported() {
    let (redis, mut connection) = server();
    let store = on_redis(&redis);
    let raw = store.raw(&TenantId::parse("acme").unwrap(), None);
    let wide: Vec<Vec<u8>> = (0..10_000).map(|n| format!("member-{n:05}-{}", "x".repeat(200)).into_bytes()).collect();
    redis::cmd("SADD").arg("tg:{acme}:r:wide").arg(&wide).exec(&mut connection).unwrap();
    let answered = raw.execute(b"SMEMBERS", vec![b"wide".to_vec()]).await.unwrap();
    let members: BTreeSet<Vec<u8>> = answered
        .replies
        .into_iter()
        .filter_map(|reply| if let Reply::Bytes(b) = reply { Some(b) } else { None })
        .collect();
    assert_eq!(members, wide.into_iter().collect());
    assert!(answered.work >= 10_000, "{}", answered.work);
    let small = raw.execute(b"SCARD", vec![b"wide".to_vec()]).await.unwrap();
    assert!(small.work < 10, "{}", small.work);
    let calls: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
    assert!(calls.contains("cmdstat_exec:calls=1"), "{calls}");
}

/// A scan returns the elements that match its pattern, with their values. All elements that it looked at count as work.
#[tokio::test]
async fn scans_are_filtered_in_the_gateway() {
    let (redis, _connection) = server();
    let store = on_redis(&redis);
    let raw = store.raw(&TenantId::parse("acme").unwrap(), None);
    say(&raw, "HSET h {0..300}:user-%,value-%").await.unwrap();
    let mut found = BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let page = say(&raw, &format!("HSCAN h {cursor} COUNT 1000 MATCH user-1?")).await.unwrap();
        let texts: Vec<String> = page
            .into_iter()
            .map(|reply| match reply {
                Reply::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        found.extend(texts[1..].chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())));
        cursor.clone_from(&texts[0]);
        if cursor == "0" {
            break;
        }
    }
    let wanted = (10..20).map(|n| (format!("user-{n}"), format!("value-{n}")));
    assert_eq!(found, wanted.collect());
}

/// A stream's readers get everything in it, page by page, and each entry once.
#[tokio::test]
async fn streams_are_read_in_pages_that_miss_nothing() {
    let (redis, mut connection) = server();
    let store = on_redis(&redis);
    let raw = store.raw(&TenantId::parse("acme").unwrap(), None);
    for n in 1..=1_500 {
        redis::cmd("XADD").arg("tg:{acme}:r:s").arg(format!("{n}-1")).arg("n").arg(n).exec(&mut connection).unwrap();
    }
    say(&raw, "XGROUP CREATE s g 0").await.unwrap();
    for read in ["XREADGROUP GROUP g c STREAMS s >", "XREAD STREAMS s %"] {
        let (mut ids, mut last) = (Vec::new(), "0".to_owned());
        loop {
            let page = say(&raw, &read.replace('%', &last)).await.unwrap();
            let some: Vec<String> = page
                .iter()
                .filter_map(|reply| match reply {
                    Reply::Bytes(bytes) if bytes.ends_with(b"-1") => String::from_utf8(bytes.clone()).ok(),
                    _ => None,
                })
                .collect();
            let Some(end) = some.last() else { break };
            last.clone_from(end);
            ids.extend(some);
        }
        assert_eq!(ids, (1..=1_500).map(|n| format!("{n}-1")).collect::<Vec<_>>(), "{read}");
    }
    let first = say(&raw, "XRANGE s - + COUNT 7").await.unwrap();
    assert_eq!(first.len(), 7 * 3);
    let page = say(&raw, "XAUTOCLAIM s g other 0 0 COUNT 20").await.unwrap();
    assert_eq!((page.len(), &page[0]), (1 + 20 * 3, &Reply::Bytes(b"21-1".to_vec())));
}
