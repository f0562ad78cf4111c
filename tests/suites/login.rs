//! The gateway's connections to Redis: connections that end while idle, changed credentials, and a server that accepts
//! nothing for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::{Answer, Gateway, Protocol, Redis, Site, Tenant, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const HOSTS: [&str; 2] = ["plain.localhost", "counted.localhost"];

/// Two tenants of one Redis. One has a quota, so that its calls use scripts.
fn site(storage: &str) -> Site {
    let tenant = |host: &str| Tenant::new(host, "kv").stores(&["default"]);
    Site::new()
        .gateway(storage)
        .tenant("plain", &tenant(HOSTS[0]))
        .tenant("counted", &tenant(HOSTS[1]).with("[quota]\nstorage = { bytes = \"1MiB\", keys = 100 }"))
}

async fn call(gateway: &Gateway, host: &str, path: &str, value: &str) -> Answer {
    gateway.client(Protocol::H2).call("POST", host, path, value.to_owned()).await
}

async fn set(gateway: &Gateway, host: &str) -> String {
    call(gateway, host, "/-/set/key", "value").await.text()
}

async fn get(gateway: &Gateway, host: &str) -> String {
    call(gateway, host, "/-/get/key", "").await.text()
}

/// Ends all connections except the caller's, and waits until they are gone.
async fn end_connections(redis: &Redis, login: &[&str]) {
    let cli = |words: &[&str]| redis.cli(&[login, words].concat());
    // The gateway looks at Redis every 5 s, at times by a new connection. A call may wait for that one, and a connection that ends in the
    // middle of its login is a failure of Redis. For at most a second, since an open connection may rest after its login.
    for _ in 0..50 {
        let list = cli(&["CLIENT", "LIST"]);
        if !list
            .lines()
            .any(|line| ["cmd=NULL", "cmd=hello", "cmd=auth", "cmd=client|set"].iter().any(|cmd| line.contains(cmd)))
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let before = ids(&cli(&["CLIENT", "LIST"]));
    cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    gone(&before, || cli(&["CLIENT", "LIST"])).await;
}

/// Waits until none of these connections exists. The gateway may open others meanwhile, because it checks Redis by itself.
async fn gone(before: &[String], list: impl Fn() -> String) {
    until("the connections' end", async || ids(&list()).iter().all(|id| !before.contains(id)).then_some(())).await;
}

/// The connections in this `CLIENT LIST`, without the one that asks for it.
fn ids(list: &str) -> Vec<String> {
    let others = list.lines().filter(|line| !line.contains("cmd=client"));
    others.filter_map(|line| line.split(' ').find(|word| word.starts_with("id="))).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_connection_that_redis_closed_costs_no_call() {
    let redis = Redis::start();
    let gateway = Gateway::start_with(&site(""), &["--storage", &redis.url()]);
    gateway.storage().await;
    for host in HOSTS {
        assert_eq!(set(&gateway, host).await, "set", "{host}");
        for round in 0..5 {
            end_connections(&redis, &[]).await;
            // Reads and writes alike: nothing of them was sent.
            let (first, second) =
                if round % 2 == 0 { (set(&gateway, host).await, "set") } else { (get(&gateway, host).await, "value") };
            assert_eq!(first, second, "{host}, round {round}");
        }
    }
    // As a managed service does it, which closes idle connections.
    let before = ids(&redis.cli(&["CLIENT", "LIST"]));
    assert!(!before.is_empty());
    let _set = redis.cli(&["CONFIG", "SET", "timeout", "1"]);
    gone(&before, || redis.cli(&["CLIENT", "LIST"])).await;
    for host in HOSTS {
        assert_eq!(set(&gateway, host).await, "set", "{host}");
    }
}

/// The key whose calls a [`Relay`] cuts.
const CUT: &str = "cut-me";

/// Forwards bytes, and closes a connection when told to.
struct Relay {
    port: u16,
    /// Close the next connection on which a call for [`CUT`] arrives. The gateway's own checks of Redis are not such calls.
    cuts: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cuts, connections) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let relay = Self { port, cuts: Arc::clone(&cuts), connections: Arc::clone(&connections) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let cuts = Arc::clone(&cuts);
                tokio::spawn(async move {
                    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                        (client.into_split(), server.into_split());
                    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                        let is_meant = bytes[..count].windows(CUT.len()).any(|part| part == CUT.as_bytes());
                        if is_meant && cuts.swap(false, Ordering::Relaxed) {
                            break;
                        }
                        to_server.write_all(&bytes[..count]).await.unwrap();
                    }
                    back.abort();
                });
            }
        });
        relay
    }
}

// The relay runs before the gateway starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_read_whose_connection_ends_is_retried_once_and_a_write_is_not() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port()).await;
    let url = format!("redis://127.0.0.1:{}", relay.port);
    let gateway = Gateway::start_with(&site(""), &["--storage", &url]);
    gateway.storage().await;
    let (set, get) = (format!("/-/set/{CUT}"), format!("/-/get/{CUT}"));
    for host in HOSTS {
        assert_eq!(call(&gateway, host, &set, "value").await.text(), "set", "{host}");
        let before = relay.connections.load(Ordering::Relaxed);
        relay.cuts.store(true, Ordering::Relaxed);
        assert_eq!(call(&gateway, host, &get, "").await.text(), "value", "{host}");
        assert!(relay.connections.load(Ordering::Relaxed) > before, "{host}: on another connection");
        // Nobody knows whether a write was applied.
        relay.cuts.store(true, Ordering::Relaxed);
        let said = call(&gateway, host, &set, "value").await.text();
        assert!(said.contains("unavailable: "), "{host}: {said}");
        assert_eq!(call(&gateway, host, &set, "value").await.text(), "set", "{host}");
    }
}

#[tokio::test]
async fn changed_credentials_are_read_again_and_redis_errors_are_quoted() {
    let redis = Redis::start();
    let to = redis.port();
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{to}\n");
    let _set = redis.cli(&["CONFIG", "SET", "requirepass", "one"]);
    let storage = "[storage]\nbackend = \"redis\"\nurl = { file = \"redis.url\" }";
    let site = site(storage).file("config/redis.url", url("one"));
    let gateway = Gateway::start(&site);
    gateway.storage().await;
    assert_eq!(set(&gateway, HOSTS[0]).await, "set");
    assert_eq!(gateway.status().await["storage"]["refused"], serde_json::Value::Null);
    // The server now has another password, and refuses clients with the old one.
    let _set = redis.cli(&["-a", "one", "CONFIG", "SET", "requirepass", "two"]);
    end_connections(&redis, &["-a", "two"]).await;
    let said = set(&gateway, HOSTS[0]).await;
    assert!(said.contains("unavailable: "), "{said}");
    assert_eq!(gateway.status().await["storage"]["refused"], "WRONGPASS");
    assert!(gateway.metric("tollgate_store_refusals_total{code=\"WRONGPASS\"}").await >= 1.0);
    let lines = gateway.log("store");
    assert!(lines.iter().any(|line| line["code"] == "WRONGPASS"), "{lines:?}");
    assert!(!format!("{lines:?}").contains("one@"), "no line has the password");
    let (_, told) = gateway.tell(&site, &["status"]);
    assert!(told.contains("refused a call by WRONGPASS"), "{told}");
    // At a refusal: no reload is needed.
    site.write("config/redis.url", url("two"));
    until("the new password", async || (set(&gateway, HOSTS[0]).await == "set").then_some(())).await;
    // At a reload: nothing is refused.
    site.write("config/redis.url", url("three"));
    let _set = redis.cli(&["-a", "two", "CONFIG", "SET", "requirepass", "three"]);
    let (code, told) = gateway.tell(&site, &["reload"]);
    assert_eq!(code, Some(0), "{told}");
    end_connections(&redis, &["-a", "three"]).await;
    for host in HOSTS {
        assert_eq!(set(&gateway, host).await, "set", "{host}");
    }
}

#[tokio::test]
async fn a_redis_with_a_new_password_works_once_the_file_contains_it() {
    let redis = Redis::start();
    let storage = "[storage]\nbackend = \"redis\"\nurl = { file = \"redis.url\" }";
    let site = site(storage).file("config/redis.url", redis.url());
    let gateway = Gateway::start(&site);
    gateway.storage().await;
    assert_eq!(set(&gateway, HOSTS[0]).await, "set");
    let _set = redis.cli(&["CONFIG", "SET", "requirepass", "one"]);
    end_connections(&redis, &["-a", "one"]).await;
    let said = set(&gateway, HOSTS[0]).await;
    assert!(said.contains("unavailable: "), "{said}");
    assert_eq!(gateway.status().await["storage"]["refused"], "NOAUTH");
    site.write("config/redis.url", format!("redis://:one@127.0.0.1:{}", redis.port()));
    until("the new password", async || (set(&gateway, HOSTS[0]).await == "set").then_some(())).await;
}

#[tokio::test]
async fn a_server_without_room_or_replicas_is_unavailable_until_it_has_them() {
    let redis = Redis::start();
    let gateway = Gateway::start_with(&site(""), &["--storage", &redis.url()]);
    gateway.storage().await;
    for (code, key, bad, good) in [("OOM", "maxmemory", "1", "0"), ("NOREPLICAS", "min-replicas-to-write", "1", "0")] {
        for host in HOSTS {
            assert_eq!(set(&gateway, host).await, "set", "{host}");
        }
        let _set = redis.cli(&["CONFIG", "SET", key, bad]);
        for host in HOSTS {
            for path in ["/-/set/key", "/-/increment/number"] {
                let said = call(&gateway, host, path, "1").await.text();
                assert!(said.contains("unavailable: "), "{code} {host}{path}: {said}");
            }
            assert_eq!(get(&gateway, host).await, "value", "{code} {host}: reads go on");
        }
        assert_eq!(gateway.status().await["storage"]["refused"], code);
        assert!(gateway.metric(&format!("tollgate_store_refusals_total{{code=\"{code}\"}}")).await >= 4.0);
        let _set = redis.cli(&["CONFIG", "SET", key, good]);
        for host in HOSTS {
            assert_eq!(set(&gateway, host).await, "set", "{code} {host}: at once");
        }
    }
}
