//! Spin's key-value and redis interfaces, of Spin 1, 2.0.0 and 3.0.0, on every backend, also from components built with
//! Spin's own SDKs; and what a tenant's commands cannot reach.

use tests::{Answer, Gateway, Protocol, Redis, Site, Storage, Tenant, hex};

struct Store {
    gateway: Gateway,
    storage: Storage,
}

fn tenant(host: &str) -> Tenant {
    of(host, "spin")
}

fn of(host: &str, guest: &str) -> Tenant {
    let limits = "[limits]\nstorage_ops = 5000\nfuel = \"5G\"";
    Tenant::new(host, guest).stores(&["default"]).redis(&["redis://granted:6379"]).with(limits)
}

impl Store {
    async fn on(storage: Storage) -> Self {
        let site = Site::new()
            .tenant("a", &tenant("a.localhost"))
            .tenant("b", &tenant("b.localhost"))
            .tenant("sdk3", &of("sdk3.localhost", "spin-sdk-3"))
            .tenant("sdk5", &of("sdk5.localhost", "spin-sdk-5"))
            .tenant("sdk6", &of("sdk6.localhost", "spin-sdk-6"))
            .tenant("module3", &of("module3.localhost", "spin-sdk-3-module"))
            .tenant("module5", &of("module5.localhost", "spin-sdk-5-module"))
            .tenant("sdk7", &of("sdk7.localhost", "spin-sdk-7"));
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        Self { gateway, storage }
    }

    async fn call(&self, tenant: &str, path: &str, arguments: &[&[u8]]) -> Answer {
        let client = self.gateway.client(Protocol::H2);
        client.call("POST", &format!("{tenant}.localhost"), path, tests::spin_words(arguments)).await
    }

    async fn text(&self, path: &str, arguments: &[&[u8]]) -> String {
        self.call("a", path, arguments).await.text()
    }

    /// Runs a command of tenant a, and returns the answer as text.
    async fn execute(&self, command: &[&[u8]]) -> String {
        self.text("/redis2/execute/granted", command).await
    }
}

/// How the guest prints the only error of Spin 1.
const ONE: &str = "Error { code: 1, name: \"error\", message: \"\" }";

async fn each(test: impl AsyncFn(Store)) {
    for storage in Storage::each() {
        test(Store::on(storage).await).await;
    }
}

/// The guest that makes every call itself; SDKs of Spin 2 and 3, as components and as the core modules that templates up to
/// 3.6 build; and those of Spin 4, whose calls are asynchronous, by the release candidate of WASI 0.3 and by 0.3.0.
const OF_SPIN_2: [&str; 7] = ["a", "sdk3", "sdk5", "module3", "module5", "sdk6", "sdk7"];

#[tokio::test]
async fn key_value_of_spin_2_and_3_is_the_same_store_as_wasis() {
    each(async |store| {
        for tenant in OF_SPIN_2 {
            let text = async |path: &str, arguments: &[&[u8]]| store.call(tenant, path, arguments).await.text();
            assert_eq!(text("/kv2/get/default", &[b"k"]).await, "(none)", "{tenant}");
            assert_eq!(text("/kv2/set/default", &[b"k", b"\0\xff"]).await, "set", "{tenant}");
            assert_eq!(text("/kv2/get/default", &[b"k"]).await, "00ff");
            assert_eq!(text("/kv2/exists/default", &[b"k"]).await, "true");
            text("/kv2/set/default", &[b"j", b""]).await;
            let keys = text("/kv2/get-keys/default", &[]).await;
            let mut keys: Vec<&str> = keys.split(' ').collect();
            keys.sort_unstable();
            assert_eq!(keys, ["j", "k"], "{tenant}");
            assert_eq!(text("/kv2/delete/default", &[b"k"]).await, "deleted");
            assert_eq!(text("/kv2/exists/default", &[b"k"]).await, "false");
            assert_eq!(text("/kv2/get/other", &[b"k"]).await, "Error::AccessDenied");
            let long = vec![b'k'; 1025];
            let refused = text("/kv2/set/default", &[&long, b"v"]).await;
            assert_eq!(refused, "Error::Other(\"too-large: a key may have at most 1024 bytes\")", "{tenant}");
        }
        store.text("/kv2/set/default", &[b"k", b"\0\xff"]).await;
        assert_eq!(store.text("/kv1/get/default", &[b"k"]).await, "00ff", "Spin 1 sees the same");
        assert_eq!(store.call("b", "/kv2/get-keys/default", &[]).await.text(), "", "another tenant's store is empty");
    })
    .await;
}

/// Asynchronous calls run concurrently, and a listing has many pages.
#[tokio::test]
async fn calls_of_spin_3_are_concurrent_and_list_page_by_page() {
    each(async |store| {
        let names: Vec<String> = (0..2500).map(|n| format!("key-{n:04}")).collect();
        for part in names.chunks(100) {
            let part: Vec<&[u8]> = part.iter().map(String::as_bytes).collect();
            assert_eq!(store.call("sdk7", "/kv2/together/default", &part).await.text(), "100 set");
        }
        let answer = store.call("sdk7", "/kv2/get-keys/default", &[]).await;
        let text = answer.text();
        let mut keys: Vec<&str> = text.split(' ').collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys, names);
        let operations = store.gateway.record(&answer).await["storage_ops"].as_u64().unwrap();
        assert!((3..=2500 / 16).contains(&operations), "each page is an operation: {operations}");
    })
    .await;
}

#[tokio::test]
async fn key_value_of_spin_1_has_its_own_errors() {
    each(async |store| {
        assert_eq!(store.text("/kv1/get/default", &[b"k"]).await, "Error::NoSuchKey");
        assert_eq!(store.text("/kv1/set/default", &[b"k", b"v"]).await, "set");
        assert_eq!(store.text("/kv1/get/default", &[b"k"]).await, hex(b"v"));
        assert_eq!(store.text("/kv1/get-keys/default", &[]).await, "k");
        assert_eq!(store.text("/kv1/get/other", &[b"k"]).await, "Error::AccessDenied");
        assert_eq!(store.text("/kv1/made-up/default", &[b"k"]).await, "Error::InvalidStore");
        assert_eq!(store.text("/kv1/closed/default", &[b"k"]).await, "Error::InvalidStore");
        assert_eq!(store.text("/kv1/delete/default", &[b"k"]).await, "deleted");
        assert_eq!(store.text("/kv1/exists/default", &[b"k"]).await, "false");
    })
    .await;
}

#[tokio::test]
async fn redis_of_all_generations_has_every_call() {
    each(async |store| {
        for (tenant, redis) in [("a", "redis1")].into_iter().chain(OF_SPIN_2.map(|tenant| (tenant, "redis2"))) {
            let call = async |call: &str, arguments: &[&[u8]]| {
                store.call(tenant, &format!("/{redis}/{call}/granted"), arguments).await.text()
            };
            let missing = if redis == "redis1" { "" } else { "(none)" };
            assert_eq!(call("get", &[b"k"]).await, missing);
            assert_eq!(call("set", &[b"k", b"\0v"]).await, "set");
            assert_eq!(call("get", &[b"k"]).await, "0076");
            assert_eq!(call("incr", &[b"n"]).await, "1");
            assert_eq!(call("incr", &[b"n"]).await, "2");
            assert_eq!(call("sadd", &[b"s", b"x", b"y", b"x"]).await, "2");
            let members = call("smembers", &[b"s"]).await;
            let mut members: Vec<&str> = members.split(' ').collect();
            members.sort_unstable();
            assert_eq!(members, ["x", "y"]);
            assert_eq!(call("srem", &[b"s", b"x", b"z"]).await, "1");
            assert_eq!(call("publish", &[b"channel", b"hello"]).await, "published");
            assert_eq!(call("execute", &[b"type", b"s"]).await, "status set");
            assert_eq!(call("execute", &[b"MGET", b"k", b"none"]).await, "bytes 0076\nnil");
            let number = store
                .gateway
                .client(Protocol::H1)
                .call(
                    "POST",
                    &format!("{tenant}.localhost"),
                    &format!("/{redis}/execute/granted"),
                    format!("{}\n{}\ni:40", hex(b"INCRBY"), hex(b"n")),
                )
                .await;
            assert_eq!(number.text(), "int 42");
            assert_eq!(call("del", &[b"k", b"n", b"s", b"none"]).await, "3");
            let wrong = if redis == "redis1" { ONE } else { "Error::TypeError" };
            call("set", &[b"k", b"text"]).await;
            assert_eq!(call("sadd", &[b"k", b"x"]).await, wrong);
            call("del", &[b"k"]).await;
        }
        assert_eq!(store.text("/redis2/get/elsewhere", &[b"k"]).await, "Error::InvalidAddress");
        assert_eq!(store.text("/redis1/get/elsewhere", &[b"k"]).await, ONE);
    })
    .await;
}

/// A command that is not served is refused by name with a reason, and nothing of it reaches the server.
#[tokio::test]
async fn commands_that_reach_past_a_tenants_keys_are_refused_by_name() {
    each(async |store| {
        let commands: [&[&[u8]]; 24] = [
            &[b"KEYS", b"*"],
            &[b"SCAN", b"0"],
            &[b"RANDOMKEY"],
            &[b"DBSIZE"],
            &[b"FLUSHALL"],
            &[b"FLUSHDB"],
            &[b"CONFIG", b"GET", b"*"],
            &[b"EVAL", b"return 1", b"0"],
            &[b"SCRIPT", b"FLUSH"],
            &[b"SORT", b"k", b"BY", b"tg:{b}:r:*"],
            &[b"GEORADIUS", b"k", b"0", b"0", b"1", b"m", b"STORE", b"tg:{b}:r:k"],
            &[b"MIGRATE", b"h", b"1", b"k", b"0", b"1"],
            &[b"COPY", b"k", b"l", b"DB", b"3"],
            &[b"SUBSCRIBE", b"c"],
            &[b"PUBLISH", b"c", b"m"],
            &[b"BLPOP", b"k", b"0"],
            &[b"XREAD", b"BLOCK", b"0", b"STREAMS", b"k", b"$"],
            &[b"MULTI"],
            &[b"SELECT", b"1"],
            &[b"CLIENT", b"LIST"],
            &[b"AUTH", b"x"],
            &[b"OBJECT", b"HELP"],
            &[b"MEMORY", b"DOCTOR"],
            &[b"no such\r\ncommand"],
        ];
        for command in commands {
            let answer = store.execute(command).await;
            assert!(
                answer.starts_with("Error::Other(\"refused: "),
                "{:?}: {answer}",
                String::from_utf8_lossy(command[0])
            );
        }
        let told = store.execute(&[b"keys", b"*"]).await;
        assert!(told.contains("KEYS: it looks at keys of all tenants; use HSCAN"), "{told}");
    })
    .await;
}

/// Commands whose cost exceeds their size are refused before they are sent.
#[tokio::test]
async fn small_commands_of_large_cost_are_capped() {
    let store = Store::on(Storage::Redis(Redis::start())).await;
    let commands: [&[&[u8]]; 9] = [
        &[b"SETBIT", b"k", b"4294967295", b"1"],
        &[b"SETRANGE", b"k", b"536870910", b"x"],
        &[b"SRANDMEMBER", b"s", b"-5000000"],
        &[b"HRANDFIELD", b"h", b"-100000", b"WITHVALUES"],
        &[b"BITFIELD", b"k", b"SET", b"u8", b"#500000000", b"1"],
        &[b"BITFIELD", b"k", b"GET", b"u8", b"0", b"INCRBY", b"u8", b"4294967200", b"1"],
        &[b"SSCAN", b"s", b"0", b"COUNT", b"100000"],
        &[b"LPOP", b"l", b"100000"],
        &[b"SPOP", b"s", b"100000"],
    ];
    for command in commands {
        let answer = store.execute(command).await;
        assert!(answer.starts_with("Error::Other(\"too-large: "), "{command:?}: {answer}");
    }
    // A value that grows in small steps, and a set that is read completely.
    let piece = vec![b'x'; 600_000];
    assert_eq!(store.execute(&[b"APPEND", b"k", &piece]).await, "int 600000");
    assert!(store.execute(&[b"APPEND", b"k", &piece]).await.starts_with("Error::Other(\"too-large: "));
    assert_eq!(store.execute(&[b"STRLEN", b"k"]).await, "int 600000");
    for n in 0..8u8 {
        store.execute(&[b"HSET", b"large", &[n], &piece]).await;
    }
    let refused = store.execute(&[b"HGETALL", b"large"]).await;
    assert!(refused.starts_with("Error::Other(\"too-large: HGETALL: it would read more than 4 MiB"), "{refused}");
    assert_eq!(store.execute(&[b"HLEN", b"large"]).await, "int 8");
    // Each mention counts.
    let mut many: Vec<&[u8]> = vec![b"HMGET", b"large"];
    many.extend([[0u8].as_slice(); 8]);
    let refused = store.execute(&many).await;
    assert!(refused.starts_with("Error::Other(\"too-large: HMGET: it would read more than 4 MiB"), "{refused}");
}

/// Keys in answers and in the server's texts are the guest's own; no prefix shows.
#[tokio::test]
async fn answers_name_the_guests_own_keys() {
    let store = Store::on(Storage::Redis(Redis::start())).await;
    store.execute(&[b"RPUSH", b"list", b"one", b"two"]).await;
    let popped = store.execute(&[b"LMPOP", b"2", b"none", b"list", b"LEFT"]).await;
    assert_eq!(popped, format!("bytes {}\nbytes {}", hex(b"list"), hex(b"one")));
    store.execute(&[b"XADD", b"stream", b"1-1", b"f", b"v"]).await;
    let read = store.execute(&[b"XREAD", b"COUNT", b"2", b"STREAMS", b"stream", b"0"]).await;
    assert!(read.starts_with(&format!("bytes {}\n", hex(b"stream"))), "{read}");
    let error = store.execute(&[b"XREADGROUP", b"GROUP", b"STREAMS", b"c", b"STREAMS", b"stream", b">"]).await;
    assert!(error.contains("NOGROUP No such key 'stream'"), "{error}");
    assert!(!error.contains("tg:"), "{error}");
    store.execute(&[b"SET", b"text", b"x"]).await;
    assert_eq!(
        store.execute(&[b"INCR", b"text"]).await,
        "Error::Other(\"ERR value is not an integer or out of range\")"
    );
    assert_eq!(store.execute(&[b"GET"]).await, "Error::Other(\"ERR wrong number of arguments for 'get' command\")");
}

/// Adversarial keys from two tenants, and what the server receives: only keys with a tenant's own prefix.
#[tokio::test]
async fn redis_receives_only_raw_keys_and_channels_with_the_tenants_prefix() {
    let store = Store::on(Storage::Redis(Redis::start())).await;
    let Storage::Redis(redis) = &store.storage else { unreachable!() };
    let monitor = redis.monitor();
    let keys: [&[u8]; 9] = [b"", b":", b"{b}", b"}", b"*", b"a\0b", b"\xff\xfe", b"tg:{b}:r:x", b"\r\nFLUSHALL\r\n"];
    for key in keys {
        store.execute(&[b"SET", key, b"of a"]).await;
        let of_b = store.call("b", "/redis2/execute/granted", &[b"GET", key]).await.text();
        assert_eq!(of_b, "nil", "{key:?}");
        store.execute(&[b"RENAME", key, b"elsewhere"]).await;
        store.execute(&[b"SUNIONSTORE", key, b"{b}", b"tg:{b}:kv:default"]).await;
    }
    store.text("/redis2/publish/granted", &[b"tg:{b}:ch:c", b"m"]).await;
    store.execute(&[b"GET", b"the last"]).await;
    let mut seen = Vec::new();
    loop {
        let line = monitor.recv_timeout(tests::PATIENCE).unwrap();
        let is_last = line.contains("the last");
        seen.push(line);
        if is_last {
            break;
        }
    }
    let mut checked = 0;
    for line in &seen {
        let words: Vec<&str> = line.split("\" \"").collect();
        let command = words[0].rsplit('"').next().unwrap().to_ascii_uppercase();
        let keys: &[&str] = match command.as_str() {
            "SET" | "GET" => &words[1..2],
            "RENAME" => &words[1..3],
            "PUBLISH" => &words[1..2],
            "SUNIONSTORE" => &words[1..],
            _ => continue,
        };
        // A tenant's number of shards is noted beside its data.
        for key in
            keys.iter().filter(|key| !["tg:{a}:q:layout", "tg:{b}:q:layout"].iter().any(|own| key.starts_with(own)))
        {
            assert!(
                key.starts_with("tg:{a}:r:") || key.starts_with("tg:{b}:r:") || key.starts_with("tg:{a}:ch:"),
                "{line}"
            );
            checked += 1;
        }
    }
    assert!(checked >= 9 * 5, "{checked} keys were seen");
}

#[test]
fn a_component_that_needs_redis_without_a_grant_is_reported() {
    let tenant = Tenant::new("a.localhost", "spin").stores(&["default"]);
    let output = tests::check(&Site::new().tenant("a", &tenant), &["--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("redis-not-granted") && text.contains("redis://localhost:6379"), "{text}");
}

/// A flood of messages is a flood of storage operations: the request's limit ends it, and the tenant's quota refuses the
/// next ones.
#[tokio::test]
async fn a_flood_of_messages_is_limited() {
    for storage in [Storage::Embedded, Storage::Redis(Redis::start())] {
        let rest = "[limits]\nstorage_ops = 200\nfuel = \"5G\"\n[quota]\nstorage_ops = { rate = 1, per = \"60s\", burst = 300 }";
        let tenant =
            |host, rest| Tenant::new(host, "spin").stores(&["default"]).redis(&["redis://granted:6379"]).with(rest);
        let site = Site::new()
            .tenant("a", &tenant("a.localhost", rest))
            .tenant("b", &tenant("b.localhost", "[limits]\nstorage_ops = 200"));
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let client = gateway.client(Protocol::H2);
        let flood = async |host: &str| {
            let words = tests::spin_words(&["channel", "message"]);
            client.call("POST", host, "/redis2/flood/granted", words).await.text()
        };
        assert_eq!(flood("a.localhost").await, "Error::Other(\"quota-exceeded: storage_ops 200\") after 200");
        assert_eq!(
            flood("a.localhost").await,
            "Error::Other(\"quota-exceeded: storage-ops\") after 100",
            "the tenant's own"
        );
        assert_eq!(
            flood("b.localhost").await,
            "Error::Other(\"quota-exceeded: storage_ops 200\") after 200",
            "another's is its own"
        );
    }
}
