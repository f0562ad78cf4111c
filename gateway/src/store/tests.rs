use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use deadpool_redis::redis as client;
use proptest::prelude::*;

use super::layout::Place;
use super::*;
use crate::ids::StoreName;

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn name(name: &str) -> StoreName {
    StoreName::parse(name).unwrap()
}

fn names() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9-]{0,62}"
}

fn open(dir: &std::path::Path) -> Arc<Store> {
    let kind = Kind::Embedded(dir.to_owned());
    let settings = settings(kind, 10);
    Arc::new(Store::open(&settings, Arc::default()).unwrap())
}

proptest! {
    /// A backend's key is (bucket, field), and the field is the guest's key, byte for byte. So two (tenant, store, key) can
    /// be equal only if two (tenant, store) have the same bucket; and a key can leave its prefix only if another tenant's
    /// bucket begins with it.
    #[test]
    fn no_two_stores_share_a_bucket_and_none_leaves_its_tenants_prefix(
        a in (names(), names()),
        b in (names(), names()),
        prefix in "[a-zA-Z0-9._-]{1,32}",
    ) {
        let prefix = Prefix::parse(&prefix).unwrap();
        let bucket = |(id, store): &(String, String)| prefix.bucket(&Place::of(&tenant(id), 0, 1), &name(store));
        prop_assert_eq!(bucket(&a) == bucket(&b), a == b);
        let own = |id: &str| format!("{}{{{id}}}:", prefix_text(&prefix));
        prop_assert!(bucket(&a).as_bytes().starts_with(own(&a.0).as_bytes()));
        if a.0 != b.0 {
            prop_assert!(!bucket(&a).as_bytes().starts_with(own(&b.0).as_bytes()));
        }
    }

    /// Redis Cluster hashes the text in the first braces (cluster specification, "Hash tags"): all buckets of a tenant are
    /// in one slot, whatever the names of its stores.
    #[test]
    fn the_hash_tag_of_a_bucket_is_the_tenant(id in names(), store in names()) {
        let bucket = Prefix::default().bucket(&Place::of(&tenant(&id), 0, 1), &name(&store));
        let text = String::from_utf8(bucket.as_bytes().to_vec()).unwrap();
        let tag = text.split_once('{').unwrap().1.split_once('}').unwrap().0;
        prop_assert_eq!(tag, id);
    }

    /// Only a valid name makes a tenant or a store: no text in a file can give another one's bucket.
    #[test]
    fn an_invalid_name_makes_no_bucket(text in "\\PC{0,70}") {
        if TenantId::parse(&text).is_some() {
            prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}

fn prefix_text(prefix: &Prefix) -> String {
    let bucket = prefix.bucket(&Place::of(&tenant("x"), 0, 1), &name("x"));
    let text = String::from_utf8(bucket.as_bytes().to_vec()).unwrap();
    text.split_once('{').unwrap().0.to_owned()
}

/// A history of calls on a few tenants' stores, whose results a plain map predicts.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    Add(usize, Vec<u8>, i64),
    Swap(usize, Vec<u8>, Option<Vec<u8>>, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few scopes and short keys of few bytes, so that they collide.
    let key = || proptest::collection::vec(prop_oneof![Just(0u8), Just(b':'), Just(b'}'), Just(0xff)], 0..3);
    let value = || proptest::collection::vec(any::<u8>(), 0..3);
    let scope = || 0..4usize;
    let step = prop_oneof![
        (scope(), key(), value()).prop_map(|(s, k, v)| Step::Set(s, k, v)),
        (scope(), key()).prop_map(|(s, k)| Step::Delete(s, k)),
        (scope(), key(), any::<i64>()).prop_map(|(s, k, n)| Step::Add(s, k, n)),
        (scope(), key(), proptest::option::of(value()), value()).prop_map(|(s, k, e, v)| Step::Swap(s, k, e, v)),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_embedded_store_behaves_as_a_separate_map_for_each_tenant(steps in steps(), shards in 1..4u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.spread([(tenant("a"), shards), (tenant("b"), 2)].into_iter());
        // `a` and `a-b`, `s` and `s-t`: names with a common beginning.
        let scopes = [("a", "s"), ("a", "s-t"), ("a-b", "s"), ("b", "s")]
            .map(|(id, store_name)| store.scoped(&tenant(id), &name(store_name), None, None));
        let mut model: [BTreeMap<Vec<u8>, Vec<u8>>; 4] = Default::default();
        runtime.block_on(async {
            for step in steps {
                follow(&scopes, &mut model, step).await?;
            }
            for (scope, expected) in scopes.iter().zip(&model) {
                let (mut keys, mut cursor) = (Vec::new(), None);
                loop {
                    let page = scope.list(cursor.as_deref()).await.unwrap();
                    keys.extend(page.keys);
                    cursor = page.cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                keys.sort();
                prop_assert_eq!(keys, expected.keys().cloned().collect::<Vec<_>>());
                for (key, value) in expected {
                    prop_assert_eq!(scope.get(key).await.unwrap(), Some(value.clone()));
                }
            }
            Ok(())
        })?;
    }
}

async fn follow(
    scopes: &[Scoped; 4],
    model: &mut [BTreeMap<Vec<u8>, Vec<u8>>; 4],
    step: Step,
) -> std::result::Result<(), TestCaseError> {
    match step {
        Step::Set(s, key, value) => {
            scopes[s].set_many(vec![(key.clone(), value.clone())]).await.unwrap();
            model[s].insert(key, value);
        }
        Step::Delete(s, key) => {
            scopes[s].delete_many(vec![key.clone()]).await.unwrap();
            model[s].remove(&key);
        }
        Step::Add(s, key, delta) => {
            let text = |value: &Vec<u8>| String::from_utf8(value.clone()).ok();
            let now = model[s].get(&key).map_or(Some(0), |value| {
                let number: i64 = text(value)?.parse().ok()?;
                (Some(number.to_string()) == text(value)).then_some(number)
            });
            let expected = now.and_then(|now| now.checked_add(delta)).ok_or(Error::NotANumber);
            prop_assert_eq!(scopes[s].increment(&key, delta).await, expected.clone());
            if let Ok(sum) = expected {
                model[s].insert(key, sum.to_string().into_bytes());
            }
        }
        Step::Swap(s, key, expected, new) => {
            let is_same = model[s].get(&key) == expected.as_ref();
            prop_assert_eq!(scopes[s].swap(&key, expected, new.clone()).await, Ok(is_same));
            if is_same {
                model[s].insert(key, new);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn acknowledged_writes_are_there_when_the_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let scope = |store: &Arc<Store>| store.scoped(&tenant("a"), &name("s"), None, None);
    let store = open(dir.path());
    scope(&store).set_many(vec![(b"k".to_vec(), b"v".to_vec())]).await.unwrap();
    drop(store);
    // The writer releases the file once its queue is closed.
    let store = loop {
        let kind = Kind::Embedded(dir.path().to_owned());
        let settings = settings(kind, 10);
        match Store::open(&settings, Arc::default()) {
            Ok(store) => break Arc::new(store),
            Err(_still_open) => std::thread::yield_now(),
        }
    };
    assert_eq!(scope(&store).get(b"k").await.unwrap(), Some(b"v".to_vec()));
}

#[tokio::test]
async fn a_bad_redis_url_is_refused_without_being_shown() {
    let kind = Kind::Redis(servers("not-a-url://:hunter2@x"));
    let settings = settings(kind, 1);
    let error = format!("{:#}", Store::open(&settings, Arc::default()).unwrap_err());
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_prefix_cannot_look_like_something_else() {
    for bad in ["", "a:b", "a{", "}", "a b", &"a".repeat(33)] {
        assert!(Prefix::parse(bad).is_none(), "{bad}");
    }
}

pub(super) struct Server(Child, u16);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Server {
    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.1)
    }
}

/// A real server for this test, and a connection to it.
pub(super) fn server() -> (Server, client::Connection) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = std::env::var("TOLLGATE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let child = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server must be installed: make test does that");
    let server = Server(child, port);
    let started = Instant::now();
    loop {
        let client = client::Client::open(server.url()).unwrap();
        match client.get_connection() {
            Ok(connection) => return (server, connection),
            Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Keys that could be mistaken for another tenant's, a pattern, a tag or an end.
const KEYS: [&[u8]; 14] = [
    b"",
    b":",
    b"{",
    b"}",
    b"{}",
    b"*",
    b"?",
    b"\\",
    b"\0",
    b"\xff\xfe",
    b"tg:{t1}:r:x",
    b"{t1}:kv:s",
    b"\r\nGET x\r\n",
    b"a key",
];

/// A random generator for each run; a failure's message names its seed (xorshift64*, Vigna 2016).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n as u64).unwrap()
    }
}

async fn say(raw: &Raw, words: &[&[u8]]) -> Result<Vec<Reply>> {
    raw.execute(words[0], words[1..].iter().map(|word| word.to_vec()).collect()).await.map(|answered| answered.replies)
}

/// A store on this server.
pub(super) fn on_redis(server: &Server) -> Arc<Store> {
    let settings = settings(Kind::Redis(servers(&server.url())), 10);
    Arc::new(Store::open(&settings, Arc::default()).unwrap())
}

/// Runs a long history of eight tenants, with keys that try to reach other tenants, on a real server and compares it with a map:
/// each tenant sees only its own data, and every key that is sent has a tenant's prefix. `TOLLGATE_OPS` makes it longer.
#[tokio::test]
async fn no_tenant_sees_anothers_keys_in_a_long_history_on_redis() {
    let ops: usize = std::env::var("TOLLGATE_OPS").map_or(20_000, |ops| ops.parse().unwrap());
    let (redis, _connection) = server();
    let store = on_redis(&redis);
    let monitored = monitor(redis.1);
    let tenants: Vec<(Scoped, Raw)> = (0..8)
        .map(|n| {
            // Half of them are counted as well, which uses other scripts.
            let allowance = (n % 2 == 0).then_some(Allowance { bytes: u64::MAX >> 12, keys: u64::MAX >> 12 });
            let id = tenant(&format!("t{n}"));
            (store.scoped(&id, &name("s"), allowance, None), store.raw(&id, allowance))
        })
        .collect();
    let mut model: BTreeMap<(usize, bool, &[u8]), Vec<u8>> = BTreeMap::new();
    let seed = u64::from(std::process::id()) << 20 | 1;
    let mut dice = Dice(seed);
    for op in 0..ops {
        let (who, key) = (dice.below(tenants.len()), KEYS[dice.below(KEYS.len())]);
        let (scoped, raw) = &tenants[who];
        let value = format!("{who}-{op}").into_bytes();
        let (kv, own) = ((who, false, key), (who, true, key));
        match dice.below(9) {
            0 => {
                scoped.set_many(vec![(key.to_vec(), value.clone())]).await.unwrap();
                model.insert(kv, value);
            }
            1 => {
                scoped.delete_many(vec![key.to_vec()]).await.unwrap();
                model.remove(&kv);
            }
            2 => {
                let expected = model.get(&kv).cloned();
                assert_eq!(scoped.swap(key, expected, value.clone()).await, Ok(true), "seed {seed}, op {op}");
                model.insert(kv, value);
            }
            3 => assert_eq!(scoped.get(key).await.unwrap(), model.get(&kv).cloned(), "seed {seed}, op {op}"),
            4 => {
                let page = scoped.list(None).await.unwrap();
                let own = model.keys().filter(|(of, is_raw, _)| *of == who && !is_raw).map(|(.., key)| key.to_vec());
                assert_eq!(page.keys.into_iter().collect::<BTreeSet<_>>(), own.collect(), "seed {seed}, op {op}");
            }
            5 => {
                say(raw, &[b"SET", key, &value]).await.unwrap();
                model.insert(own, value);
            }
            6 => {
                let gone = say(raw, &[b"DEL", key]).await.unwrap();
                assert_eq!(gone, [Reply::Int(model.remove(&own).is_some().into())], "seed {seed}, op {op}");
            }
            7 => {
                let other = KEYS[dice.below(KEYS.len())];
                let to = (who, true, other);
                let renamed = say(raw, &[b"RENAME", key, other]).await;
                assert_eq!(renamed.is_ok(), model.contains_key(&own), "seed {seed}, op {op}");
                if let Some(value) = model.remove(&own) {
                    model.insert(to, value);
                }
            }
            _ => {
                let wanted = model.get(&own).cloned().map_or(Reply::Nil, Reply::Bytes);
                assert_eq!(say(raw, &[b"GET", key]).await.unwrap(), [wanted], "seed {seed}, op {op}");
            }
        }
    }
    drop(redis);
    let seen = monitored.join().unwrap();
    assert!(seen >= ops, "{seen} keys were seen on the wire");
}

/// Reads a server's MONITOR output until it ends, and checks that every key has a tenant's prefix. Returns the number of
/// keys.
fn monitor(port: u16) -> std::thread::JoinHandle<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(std::result::Result::ok);
    assert_eq!(lines.next().as_deref(), Some("+OK"));
    std::thread::spawn(move || {
        let mut seen = 0;
        for line in lines {
            // `+time [db who] "COMMAND" "argument" …`, with escaped quotes in arguments.
            let Some((_, words)) = line.split_once("] \"") else { continue };
            let words: Vec<&str> = words.split("\" \"").collect();
            let keys = match words[0].to_ascii_uppercase().as_str() {
                "EVALSHA" => {
                    let count: usize = words[2].parse().unwrap();
                    &words[3..3 + count]
                }
                "RENAME" => &words[1..3],
                "HELLO" | "CLIENT" | "SCRIPT" | "PING" | "MONITOR" => continue,
                "MEMORY" => &words[2..3],
                _ => &words[1..2],
            };
            for key in keys {
                assert!(key.starts_with("tg:{t") && key.as_bytes()[6..8] == *b"}:", "{line}");
                seen += 1;
            }
        }
        seen
    })
}

fn servers(url: &str) -> Servers {
    let (urls, primary, tls) = (Secret(url.to_owned()), String::new(), Tls::default());
    Servers { urls, topology: Topology::Single, primary, user: None, tls, source: None }
}

fn settings(kind: Kind, seconds: u64) -> Settings {
    let (prefix, timeout, tls) = (Prefix::default(), Duration::from_secs(seconds), Tls::default());
    Settings { kind, prefix, timeout, share_rates: false, tenant_users: None, tls }
}
