//! The second line of defence: a separate Redis user for the gateway. With it every call still works, and Redis itself
//! refuses what the first line of defence should have stopped.

use tests::{Gateway, Protocol, Redis, RedisCluster, RedisSentinel, Site, Tenant};

const PASSWORD: &str = "correct-horse";

fn site() -> Site {
    let limits = "[limits]\nstorage_ops = 5000\nfuel = \"5G\"";
    Site::new()
        .file("password", PASSWORD)
        .tenant("kv", &Tenant::new("kv.localhost", "kv").stores(&["default"]).with(limits))
        .tenant(
            "raw",
            &Tenant::new("raw.localhost", "spin").stores(&["default"]).redis(&["redis://granted:6379"]).with(limits),
        )
}

fn apply(site: &Site, storage: &str) -> (Option<i32>, String) {
    let config = site.config();
    let password = site.path("password");
    let words = ["redis", "acl", "--apply", "--user", "gate", "--storage", storage, "--password-file"];
    let output = std::process::Command::new(tests::tollgate())
        .args(words)
        .arg(password)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

fn with_user(url: &str) -> String {
    url.replace("redis://", &format!("redis://gate:{PASSWORD}@"))
}

/// Every kind of call that the gateway sends, as this user.
async fn everything_works(site: &Site, storage: &str) {
    let gateway = Gateway::start_with(site, &["--storage", storage]);
    gateway.storage().await;
    let client = gateway.client(Protocol::H2);
    let call = async |host: &str, path: &str, body: &str| client.call("POST", host, path, body.to_owned()).await.text();
    for (path, body, wanted) in [
        ("/-/set/a", "1", "set"),
        ("/-/get/a", "", "1"),
        ("/-/exists/a", "", "true"),
        ("/-/set-many/x", "b=2\nc=3", "set 2"),
        ("/-/get-many/x", "b\nc", "b=2 c=3"),
        ("/-/delete-many/x", "b\nc", "deleted"),
        ("/-/list/x", "", "1 pages: a"),
    ] {
        assert_eq!(call("kv.localhost", path, body).await, wanted, "{path}");
    }
    let execute = async |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        call("raw.localhost", "/redis2/execute/granted", &tests::spin_words(&words)).await
    };
    for (words, wanted) in [
        ("SET k v", "status OK"),
        ("APPEND k v", "int 2"),
        ("DEL k", "int 1"),
        ("SADD s m", "int 1"),
        ("SMEMBERS s", "bytes 6d"),
        ("XADD x 1-1 f v", "bytes 312d31"),
        ("XGROUP CREATE x g 0", "status OK"),
        ("OBJECT ENCODING s", "bytes"),
        ("ZADD z 1 m", "int 1"),
        ("ZRANGE z 0 -1", "bytes 6d"),
    ] {
        let answer = execute(words).await;
        assert!(answer.starts_with(wanted), "{words}: {answer}");
    }
    assert_eq!(call("raw.localhost", "/redis2/publish/granted", "63\n6d").await, "published");
}

/// What would be sent if the rewriting of keys were broken: Redis refuses it for this user.
fn the_wall_holds(redis: &Redis) {
    for words in [
        &["SET", "elsewhere", "x"][..],
        &["GET", "tgx:{kv}:kv:default"],
        &["HGETALL", "other"],
        &["RENAME", "tg:{raw}:r:k", "elsewhere"],
        &["SUNIONSTORE", "tg:{raw}:r:s", "elsewhere"],
        &["PUBLISH", "elsewhere", "m"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["EVAL", "return 1", "0"],
        &["SORT", "tg:{raw}:r:s", "BY", "elsewhere*"],
        &["ACL", "LIST"],
        &["SUBSCRIBE", "elsewhere"],
    ] {
        let user = ["--no-auth-warning", "--user", "gate", "--pass", PASSWORD];
        let said = redis.cli(&[&user, words].concat());
        assert!(said.starts_with("NOPERM"), "{words:?}: {said}");
    }
}

#[tokio::test]
async fn the_gateways_user_can_do_what_it_needs_and_nothing_else() {
    let (site, redis) = (site(), Redis::start());
    let (code, said) = apply(&site, &redis.url());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("gate may use ~tg:* &tg:*") && !said.contains(PASSWORD), "{said}");
    everything_works(&site, &with_user(&redis.url())).await;
    the_wall_holds(&redis);
}

#[tokio::test]
async fn all_servers_of_a_cluster_and_behind_sentinels_get_the_user() {
    let site = site();
    let cluster = RedisCluster::start();
    let (code, said) = apply(&site, &cluster.url());
    assert_eq!((code, said.lines().count()), (Some(0), 6), "replicas too: {said}");
    everything_works(&site, &with_user(&cluster.url())).await;
    cluster.nodes.iter().for_each(the_wall_holds);
    let sentinel = RedisSentinel::start();
    let (code, said) = apply(&site, &sentinel.url());
    assert_eq!((code, said.lines().count()), (Some(0), 2), "{said}");
    everything_works(&site, &with_user(&sentinel.url())).await;
    the_wall_holds(&sentinel.replica);
}

/// If each tenant has its own user, Redis isolates tenants too: it refuses a call for another tenant's keys.
#[tokio::test]
async fn each_tenants_user_can_access_only_that_tenants_keys() {
    let secret = "0123456789abcdef0123456789abcdef";
    let site = site().file("secret", secret).gateway("[storage]\ntenant_users = { file = \"../secret\" }");
    let (single, cluster) = (Redis::start(), RedisCluster::start());
    for (url, nodes) in [(single.url(), vec![&single]), (cluster.url(), cluster.nodes.iter().collect())] {
        let (code, said) = apply(&site, &url);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("tg.kv may use ~tg:{kv}:* ~tg:{kv.*}:* &tg:{kv}:ch:*"), "{said}");
        everything_works(&site, &with_user(&url)).await;
        let gateway = Gateway::start_with(&site, &["--storage", &with_user(&url)]);
        gateway.storage().await;
        let set = gateway.client(Protocol::H2);
        assert_eq!(set.call("POST", "kv.localhost", "/-/set/a", "1").await.text(), "set");
        assert!(nodes.iter().any(|node| node.cli(&["CLIENT", "LIST"]).contains(" user=tg.kv ")), "as its own user");
        for node in nodes {
            for (key, allowed) in
                [("{kv}:r:k", true), ("{kv.3}:r:k", true), ("{raw}:r:k", false), ("{kv-b}:r:k", false)]
            {
                let said = node.cli(&["ACL", "DRYRUN", "tg.kv", "GET", &format!("tg:{key}")]);
                assert_eq!(said == "OK", allowed, "{key}: {said}");
            }
            let said = node.cli(&["ACL", "DRYRUN", "tg.kv", "PUBLISH", "tg:{raw}:ch:c", "m"]);
            assert_ne!(said, "OK", "another's channel");
        }
    }
}

#[test]
fn acl_explains_what_it_cannot_do() {
    let site = site();
    let (code, said) = apply(&site, "embedded");
    assert!(code == Some(1) && said.contains("the storage is embedded"), "{said}");
    let (code, said) = apply(&site, "redis://127.0.0.1:1");
    assert!(code == Some(1) && said.contains("cannot be reached"), "{said}");
    let empty = site.file("password", "\n");
    let (code, said) = apply(&empty, "redis://127.0.0.1:1");
    assert!(code == Some(1) && said.contains("is empty"), "{said}");
}
