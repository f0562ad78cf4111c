//! `tollgate kv`: an operator's access to one tenant's data, on every backend.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tests::{Gateway, Protocol, Redis, RedisCluster, Site, Storage, Tenant};

struct House {
    gateway: Gateway,
    site: Site,
    _storage: Storage,
}

fn tenants() -> Site {
    let limits = "[limits]\nstorage_ops = 5000\nfuel = \"5G\"";
    let of = |host: &str, guest| {
        Tenant::new(host, guest).stores(&["default", "second"]).redis(&["redis://granted:6379"]).with(limits)
    };
    Site::new()
        .tenant("kv", &of("kv.localhost", "kv"))
        .tenant("raw", &of("raw.localhost", "spin"))
        .tenant("other", &of("other.localhost", "kv"))
        .tenant("copy", &of("copy.localhost", "spin"))
}

impl House {
    async fn on(storage: Storage) -> Self {
        let site = tenants();
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        Self { gateway, site, _storage: storage }
    }

    fn kv(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.gateway.tell(&self.site, &[&["kv"], arguments].concat())
    }

    fn done(&self, arguments: &[&str]) -> String {
        let (code, said) = self.kv(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    }

    async fn guest(&self, host: &str, path: &str, value: impl Into<bytes::Bytes>) -> String {
        self.gateway.client(Protocol::H2).call("POST", &format!("{host}.localhost"), path, value).await.text()
    }

    async fn execute(&self, host: &str, words: &[&[u8]]) -> String {
        self.guest(host, "/redis2/execute/granted", tests::spin_words(words)).await
    }

    /// Exports a tenant and imports it into another one, perhaps on another gateway.
    fn moved(&self, from: &str, to: &str, into: &Self) -> String {
        let file = self.site.path("export.jsonl");
        let file = file.to_str().unwrap();
        let said = self.done(&["export", "--tenant", from, "--to", file]);
        said + &into.done(&["import", "--tenant", to, file])
    }
}

#[tokio::test]
async fn a_key_can_be_read_set_listed_and_deleted() {
    for storage in Storage::each() {
        let house = House::on(storage).await;
        assert_eq!(house.guest("kv", "/-/set/a", "of the guest").await, "set");
        house.guest("other", "/-/set/a", "of another tenant").await;
        assert_eq!(house.done(&["get", "--tenant", "kv", "a"]), "of the guest");
        house.done(&["set", "--tenant", "kv", "--store", "second", "b", "of the operator"]);
        assert_eq!(house.guest("kv", "/second/get/b", "").await, "of the operator");
        house.done(&["set", "--tenant", "kv", "tab\tand\\", "x"]);
        assert_eq!(house.done(&["list", "--tenant", "kv"]).lines().count(), 2);
        assert!(house.done(&["list", "--tenant", "kv"]).contains("tab\\x09and\\\\"));
        assert_eq!(house.done(&["list", "--tenant", "kv", "--store", "second"]), "b\n");
        let usage = house.done(&["usage", "--tenant", "kv"]);
        assert!(usage.contains("in 3 keys") && usage.contains("store default\n  store second\n"), "{usage}");
        house.done(&["delete", "--tenant", "kv", "a", "missing"]);
        let (code, said) = house.kv(&["get", "--tenant", "kv", "a"]);
        assert_eq!(code, Some(1));
        assert!(said.contains("a is not in the store default of kv"), "{said}");
        let (code, said) = house.kv(&["list", "--tenant", "nobody"]);
        assert!(code == Some(1) && said.contains("no such tenant"), "{said}");
        let (code, said) = house.kv(&["purge", "--tenant", "kv"]);
        assert!(code == Some(1) && said.contains("--yes"), "{said}");
        house.done(&["purge", "--tenant", "kv", "--store", "second", "--yes"]);
        assert_eq!(house.done(&["list", "--tenant", "kv", "--store", "second"]), "");
        assert_eq!(house.done(&["list", "--tenant", "kv"]).lines().count(), 1);
        house.done(&["purge", "--tenant", "kv", "--yes"]);
        assert!(house.done(&["usage", "--tenant", "kv"]).starts_with("kv uses 0 bytes in 0 keys"));
        assert_eq!(house.guest("other", "/-/get/a", "").await, "of another tenant");
    }
}

/// Bytes that are not text, values of a MiB, and several pages; and nothing of another tenant.
#[tokio::test]
async fn an_export_contains_all_of_a_tenants_data_and_nothing_else() {
    for storage in Storage::each() {
        let house = House::on(storage).await;
        for part in 0..3 {
            let lines: Vec<_> = (0..900).map(|n| format!("key-{part}-{n}=value-{n}")).collect();
            house.guest("kv", "/-/set-many/x", lines.join("\n")).await;
        }
        let large = vec![0xfe; 1 << 20];
        for n in 0..9 {
            house.guest("kv", &format!("/second/set/large{n}"), large.clone()).await;
        }
        house.guest("other", "/-/set/secret", "of another tenant").await;
        let said = house.moved("kv", "copy", &house);
        assert!(said.contains("exported 2709 keys") && said.contains("imported 2709 keys"), "{said}");
        let exported = std::fs::read_to_string(house.site.path("export.jsonl")).unwrap();
        assert!(!exported.contains("secret"), "another tenant's");
        assert_eq!(house.done(&["list", "--tenant", "copy"]).lines().count(), 2700);
        let usage = |tenant| house.done(&["usage", "--tenant", tenant]).replace(tenant, "");
        assert_eq!(usage("kv"), usage("copy"));
        let value = house.gateway.client(Protocol::H2);
        let value = value.call("POST", "copy.localhost", "/kv2/get/second", tests::spin_words(&["large8"])).await;
        assert_eq!(value.body.len(), 2 << 20, "in hex");
        // A truncated file is detected, and what was imported before stays.
        let file = house.site.path("cut.jsonl");
        std::fs::write(&file, &exported[..exported.len() / 2]).unwrap();
        let (code, said) = house.kv(&["import", "--tenant", "copy", file.to_str().unwrap()]);
        assert_eq!(code, Some(1));
        assert!(said.contains("--skip") && said.contains("line"), "{said}");
        let (code, said) = house.kv(&["import", "--tenant", "copy", house.site.config().to_str().unwrap()]);
        assert!(code == Some(1) && said.contains("line 1 is not a line of an export"), "{said}");
    }
}

/// An interrupted export, here a part that is cut anywhere, is resumed with the same result.
#[tokio::test]
async fn an_interrupted_export_can_be_resumed() {
    for storage in Storage::each() {
        let house = House::on(storage).await;
        for part in 0..4 {
            let lines: Vec<_> = (0..900).map(|n| format!("key-{part}-{n}=value-{n}")).collect();
            house.guest("kv", "/-/set-many/x", lines.join("\n")).await;
            house.guest("kv", "/second/set-many/x", lines.join("\n")).await;
        }
        let path = house.site.path("export.jsonl");
        let (file, part) = (path.to_str().unwrap(), house.site.path("export.jsonl.part"));
        house.done(&["export", "--tenant", "kv", "--to", file]);
        let lines = |text: &str| -> std::collections::BTreeSet<String> {
            text.lines().filter(|line| !line.contains("\"at\":")).map(str::to_owned).collect()
        };
        let whole = std::fs::read_to_string(&path).unwrap();
        for cut in [60, whole.len() / 3, whole.len() * 2 / 3, whole.len() - 3] {
            std::fs::write(&part, &whole[..cut]).unwrap();
            let (code, said) = house.kv(&["export", "--tenant", "kv", "--to", file]);
            assert!(code == Some(1) && said.contains("use --resume to continue it"), "{said}");
            let said = house.done(&["export", "--tenant", "kv", "--to", file, "--resume"]);
            assert!(said.contains("exported 7200 keys"), "{said}");
            assert!(!part.exists());
            let again = std::fs::read_to_string(&path).unwrap();
            assert_eq!(lines(&again), lines(&whole), "cut at {cut}");
            assert_eq!(again.lines().filter(|line| line.contains("\"key\":")).count(), 7200, "each once");
        }
        let said = house.done(&["import", "--tenant", "copy", file]);
        assert!(said.contains("imported 7200 keys"), "{said}");
        std::fs::write(&part, &whole).unwrap();
        let (code, said) = house.kv(&["export", "--tenant", "other", "--to", file, "--resume"]);
        assert!(code == Some(1) && said.contains("an export of kv, not of other"), "{said}");
    }
}

/// A tenant that started on the embedded store moves to a cluster, and back as far as possible.
#[tokio::test]
async fn a_tenant_moves_from_the_embedded_store_to_a_cluster() {
    let small = House::on(Storage::Embedded).await;
    let large = House::on(Storage::Cluster(RedisCluster::start())).await;
    small.guest("kv", "/-/set-many/x", "a=1\nb=2").await;
    assert_eq!(small.execute("raw", &[b"SET", b"text", b"\0\xff"]).await, "status OK");
    assert_eq!(small.execute("raw", &[b"SADD", b"set", b"x", b"y\xff"]).await, "int 2");
    small.moved("kv", "kv", &large);
    small.moved("raw", "raw", &large);
    assert_eq!(large.guest("kv", "/-/get-many/x", "a\nb").await, "a=1 b=2");
    assert_eq!(large.execute("raw", &[b"GET", b"text"]).await, "bytes 00ff");
    assert_eq!(large.execute("raw", &[b"SISMEMBER", b"set", b"y\xff"]).await, "int 1");
    large.moved("raw", "copy", &small);
    assert_eq!(small.execute("copy", &[b"SCARD", b"set"]).await, "int 2");
    large.execute("raw", &[b"HSET", b"hash", b"f", b"v"]).await;
    let file = large.site.path("hash.jsonl");
    large.done(&["export", "--tenant", "raw", "--to", file.to_str().unwrap()]);
    let (code, said) = small.kv(&["import", "--tenant", "copy", file.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("HSET") && said.contains("needs Redis"), "{said}");
}

#[tokio::test]
async fn every_kind_of_raw_key_is_exported_completely() {
    let house = House::on(Storage::Redis(Redis::start())).await;
    let commands: [&[&[u8]]; 8] = [
        &[b"SET", b"text\n", b"v"],
        &[b"PEXPIREAT", b"text\n", b"32503680000000"],
        &[b"HSET", b"hash", b"f", b"1", b"g", b"\xff"],
        &[b"ZADD", b"sorted", b"1.5", b"one", b"-2", b"two"],
        &[b"SADD", b"set", b"x"],
        &[b"XADD", b"stream", b"1-1", b"f", b"v"],
        &[b"XADD", b"stream", b"2-1", b"g", b"w", b"h", b"x"],
        &[b"RPUSH", b"list", b"a", b"b", b"a"],
    ];
    for command in commands {
        let answer = house.execute("raw", command).await;
        assert!(!answer.contains("Error"), "{command:?}: {answer}");
    }
    // More than one line each, and a list that is too large to be read at once.
    for n in 0..30u16 {
        let words: Vec<Vec<u8>> = (0..50).map(|m| format!("{n}-{m}").into_bytes()).collect();
        let with =
            |head: [&'static [u8]; 2]| head.into_iter().chain(words.iter().map(Vec::as_slice)).collect::<Vec<_>>();
        house.execute("raw", &with([b"SADD", b"many"])).await;
        house.execute("raw", &with([b"HSET", b"fields"])).await;
    }
    for n in 0..6u8 {
        house.execute("raw", &[b"RPUSH", b"large", &vec![n; 1 << 20]]).await;
    }
    house.moved("raw", "copy", &house);
    let same: [&[&[u8]]; 9] = [
        &[b"GET", b"text\n"],
        &[b"PEXPIRETIME", b"text\n"],
        &[b"HGETALL", b"hash"],
        &[b"ZRANGE", b"sorted", b"0", b"-1", b"WITHSCORES"],
        &[b"XRANGE", b"stream", b"-", b"+"],
        &[b"LRANGE", b"list", b"0", b"-1"],
        &[b"SCARD", b"many"],
        &[b"HLEN", b"fields"],
        &[b"LRANGE", b"large", b"4", b"5"],
    ];
    for command in same {
        let (of, copy) = (house.execute("raw", command).await, house.execute("copy", command).await);
        assert_eq!(of, copy, "{command:?}");
        assert!(of.len() > 4 && !of.contains("Error"), "{command:?}: {of}");
    }
    assert_eq!(house.done(&["list", "--tenant", "copy", "--raw"]).lines().count(), 10 - 1);
}

/// A user who cannot read the gateway's own file cannot see a tenant's data.
#[tokio::test]
async fn a_tenants_data_needs_the_token() {
    let house = House::on(Storage::Embedded).await;
    house.guest("kv", "/-/set/a", "secret").await;
    let address = house.gateway.admin;
    let ask = |header: &str| {
        let body = r#"{"keys":["a"]}"#;
        let head = format!(
            "POST /v1/tenants/kv/data/get HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             {header}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        format!("{body} {}", head.split(' ').nth(1).unwrap())
    };
    for header in ["X-None: 1", "Authorization: Bearer wrong", "Authorization: Basic x"] {
        let said = ask(header);
        assert!(said.ends_with(" 401") && !said.contains("secret\""), "{said}");
    }
    let token = std::fs::read_to_string(house.site.path("state/admin.token")).unwrap();
    assert_eq!(ask(&format!("Authorization: Bearer {}", token.trim())), "{\"values\":[\"secret\"]} 200");
}

/// Moved to a cluster while its guests write: every acknowledged write is there, none was refused, and the tenant stays
/// there after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_moves_while_it_is_served() {
    let mut house = House::on(Storage::Embedded).await;
    let cluster = RedisCluster::start();
    for part in 0..4 {
        let lines: Vec<_> = (0..900).map(|n| format!("key-{part}-{n}=value-{n}")).collect();
        house.guest("kv", "/-/set-many/x", lines.join("\n")).await;
    }
    house.guest("other", "/-/set/stays", "here").await;
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers = (0..8).map(|writer| {
        let (client, over) = (house.gateway.client(Protocol::H2), std::sync::Arc::clone(&over));
        tokio::spawn(async move {
            let (mut written, mut added) = (0u64, 0u64);
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                written += 1;
                let path = format!("/-/set/writer-{writer}");
                let set = client.call("POST", "kv.localhost", &path, written.to_string()).await;
                assert_eq!((set.status.as_u16(), set.text()), (200, "set".to_owned()));
                let path = format!("/second/set/new-{writer}-{written}");
                assert_eq!(client.call("POST", "kv.localhost", &path, "").await.text(), "set");
                client.call("POST", "kv.localhost", &format!("/-/delete/key-0-{}", written * 8 + writer), "").await;
                let sum = client.call("POST", "kv.localhost", "/-/increment/sum", "1").await;
                assert!(sum.text().parse::<u64>().is_ok(), "{}", sum.text());
                added += 1;
            }
            (writer, written, added)
        })
    });
    let writers: Vec<_> = writers.collect();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let to = cluster.url();
    let said = tokio::task::block_in_place(|| house.done(&["move", "--tenant", "kv", "--to", &to]));
    assert!(said.contains("kv is moved"), "{said}");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mut sum, mut new) = (0, 0);
    let mut last = Vec::new();
    for writer in writers {
        let (writer, written, added) = writer.await.unwrap();
        sum += added;
        new += written;
        last.push((writer, written));
    }
    for _after_a_restart in [false, true] {
        for (writer, written) in &last {
            assert_eq!(house.guest("kv", &format!("/-/get/writer-{writer}"), "").await, written.to_string());
        }
        assert_eq!(house.guest("kv", "/-/get/sum", "").await, sum.to_string(), "no addition was lost or done twice");
        let second = house.done(&["list", "--tenant", "kv", "--store", "second"]);
        assert_eq!(second.lines().count() as u64, new);
        assert_eq!(house.guest("kv", "/-/get-many/x", "key-3-1\nkey-0-9").await, "key-3-1=value-1 (none)");
        assert_eq!(house.guest("other", "/-/get/stays", "").await, "here");
        assert_eq!(house.gateway.tenant("kv").await["storage"], "redis-cluster");
        assert_eq!(house.gateway.tenant("other").await["storage"], "embedded");
        let (code, said) = house.kv(&["move", "--tenant", "kv", "--to", &to]);
        assert!(code == Some(1) && said.contains("kv is not on the embedded store"), "{said}");
        let site = house.site.clone();
        let House { gateway, site: _, _storage: storage } = house;
        gateway.kill_9();
        house = House { gateway: Gateway::start(&site), site, _storage: storage };
        house.gateway.storage().await;
    }
    let (code, said) = house.kv(&["move", "--tenant", "other", "--to", "redis://127.0.0.1:1"]);
    assert!(code == Some(1) && said.contains("other was not moved"), "{said}");
    assert_eq!(house.guest("other", "/-/get/stays", "").await, "here");
    let (code, said) = house.kv(&["move", "--tenant", "other", "--to", "embedded"]);
    assert!(code == Some(1) && said.contains("wanted redis://"), "{said}");
}

#[tokio::test]
async fn raw_keys_move_as_well_and_nothing_is_overwritten() {
    let house = House::on(Storage::Embedded).await;
    let redis = Redis::start();
    house.execute("raw", &[b"SET", b"text", b"\0\xff"]).await;
    house.execute("raw", &[b"SADD", b"set", b"x", b"y\xff"]).await;
    house.guest("copy", "/kv2/set/default", tests::spin_words(&["k", "v"])).await;
    let said = house.done(&["move", "--tenant", "raw", "--to", &redis.url()]);
    assert!(said.contains("raw is moved: 2 keys"), "{said}");
    assert_eq!(house.execute("raw", &[b"GET", b"text"]).await, "bytes 00ff");
    assert_eq!(house.execute("raw", &[b"HSET", b"now", b"hashes", b"too"]).await, "int 1");
    assert_eq!(redis.cli(&["SCARD", "tg:{raw}:r:set"]), "2");
    let _ = redis.cli(&["SET", "tg:{copy}:r:there", "already"]);
    let (code, said) = house.kv(&["move", "--tenant", "copy", "--to", &redis.url()]);
    assert!(code == Some(1) && said.contains("copy already has keys there"), "{said}");
}
