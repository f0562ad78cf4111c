//! The guarantees of storage when something ends or breaks: durability, and a backend that goes down and comes back.

use std::sync::Arc;

use tests::{Gateway, Protocol, Redis, Site, Tenant};

fn counter() -> Site {
    let counter = Tenant::new("counter.localhost", "counter-site").stores(&["default"]);
    Site::new().tenant("counter", &counter).tenant("other", &Tenant::new("other.localhost", "echo"))
}

/// Sixty-four writers until the gateway is killed, repeatedly; `TOLLGATE_KILLS` sets how often. Afterwards every
/// acknowledged write is there, and the sums match the data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kills_under_load() {
    let kills: u64 = std::env::var("TOLLGATE_KILLS").map_or(2, |kills| kills.parse().unwrap());
    let limits =
        "[limits]\nstorage_ops = 5000\n[quota]\nin_flight = 200\nstorage = { bytes = \"1GiB\", keys = 10_000_000 }";
    let kv = Tenant::new("kv.localhost", "kv").stores(&["default"]).with(limits);
    let site = Site::new().tenant("kv", &kv);
    let mut acknowledged = 0;
    for round in 0..kills {
        let gateway = Gateway::start(&site);
        let answered = Arc::<tokio::sync::Notify>::default();
        let writers = (0..64).map(|writer| {
            let (client, answered) = (gateway.client(Protocol::H2), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut written = Vec::new();
                for n in 0.. {
                    let key = format!("r{round}-w{writer}-{n}");
                    let request = tests::request("POST", "kv.localhost", &format!("/-/set/{key}"));
                    let client = client.clone();
                    let sent = async move { client.start("kv.localhost", request.body(tests::empty()).unwrap()).await };
                    // A connection that fails ends its task.
                    let Ok(Ok(answer)) = tokio::spawn(sent).await else { break };
                    if answer.status().as_u16() != 200 {
                        break;
                    }
                    written.push(key);
                    answered.notify_one();
                }
                written
            })
        });
        let writers: Vec<_> = writers.collect();
        // At a different moment after the first answer each time, but the same moments in every run.
        tokio::time::timeout(tests::PATIENCE, answered.notified()).await.expect("an answer");
        tokio::time::sleep(std::time::Duration::from_millis(round * 37 % 400)).await;
        gateway.kill_9();
        let mut written = Vec::new();
        for writer in writers {
            written.extend(writer.await.unwrap());
        }
        let gateway = Gateway::start(&site);
        for some in written.chunks(500) {
            let found = gateway.client(Protocol::H2);
            let found = found.call("POST", "kv.localhost", "/-/get-many/x", some.join("\n")).await.text();
            let lost = found.split(' ').filter(|pair| *pair == "(none)").count();
            assert_eq!(lost, 0, "round {round}: acknowledged and lost");
            assert_eq!(found.split(' ').count(), some.len());
        }
        acknowledged += written.len();
        let (_, usage) = gateway.tell(&site, &["kv", "usage", "--tenant", "kv"]);
        let (_, listed) = gateway.tell(&site, &["kv", "list", "--tenant", "kv"]);
        let keys = listed.lines().count();
        assert!(usage.contains(&format!("in {keys} keys\n")), "round {round}: {usage}, and {keys} are listed");
        gateway.kill_9();
    }
    println!("{kills} kills, {acknowledged} acknowledged writes, none lost");
    assert!(acknowledged > 0);
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9() {
    let site = counter();
    let mut expected = 0;
    for round in 0..4 {
        let gateway = Gateway::start(&site);
        let client = gateway.client(Protocol::H2);
        for _ in 0..10 {
            let count: u64 = client.get("counter.localhost", "/").await.text().trim().parse().unwrap();
            assert!(count > expected, "round {round}: {count} after {expected} was acknowledged");
            expected = count;
        }
        // More writes are in progress when the end comes; those may be there or not.
        let rest: Vec<_> = (0..10)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.get("counter.localhost", "/").await.text() })
            })
            .collect();
        tokio::task::yield_now().await;
        gateway.kill_9();
        for task in rest {
            if let Ok(text) = task.await {
                expected = expected.max(text.trim().parse().unwrap_or(0));
            }
        }
    }
    assert!(expected >= 40);
}

#[tokio::test]
async fn redis_receives_only_keys_with_the_tenants_prefix() {
    let redis = Redis::start();
    let kv = Tenant::new("kv.localhost", "kv").stores(&["default", "second"]).with("[limits]\nstorage_ops = 1000");
    let gateway = Gateway::start_with(&counter().tenant("kv", &kv), &["--storage", &redis.url()]);
    let seen = redis.monitor();
    let client = gateway.client(Protocol::H2);
    for _ in 0..5 {
        client.get("counter.localhost", "/").await;
    }
    let calls =
        ["set", "get", "exists", "delete", "list", "set-many", "get-many", "delete-many", "increment", "cas-add"];
    for call in calls {
        client.call("POST", "kv.localhost", &format!("/second/{call}/n"), "5=5\n6=6").await;
    }
    assert_eq!(redis.ask("ECHO done").len(), 2, "a bulk string's header: the mark below is in the stream");
    let mut keys = 0;
    for line in seen.iter().take_while(|line| !line.contains("\"ECHO\" \"done\"")) {
        let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        // EVALSHA and EVAL have a script and a count before the key; the script's own commands are separate lines.
        let key = match words[0].to_ascii_uppercase().as_str() {
            "HELLO" | "CLIENT" | "PING" | "SCRIPT" | "INFO" => continue,
            "EVALSHA" | "EVAL" => words[3],
            _ => words[1],
        };
        if ["tg:{counter}:q:layout", "tg:{kv}:q:layout", "tg:{+}:hosts"].contains(&key) {
            // A tenant's number of shards is noted beside its data, and the hosts are noted for all gateways.
            continue;
        }
        let own = ["tg:{counter}:kv:default", "tg:{kv}:kv:second"].contains(&key);
        assert!(own, "a key outside of every granted store: {line}");
        keys += 1;
    }
    assert!(keys >= 15, "only {keys} commands were seen");
}

#[tokio::test]
async fn a_redis_that_goes_down_and_comes_back_affects_only_its_users() {
    let mut redis = Redis::start();
    let site = counter().gateway("[storage]\ntimeout = \"400ms\"");
    let gateway = Gateway::start_with(&site, &["--storage", &redis.url()]);
    assert_eq!(gateway.get("counter.localhost", "/").await.text(), "1\n");

    redis.stop();
    let down = gateway.get("counter.localhost", "/").await;
    assert_eq!(down.status.as_u16(), 503, "the guest's own answer to the interface's error");
    assert!(down.text().contains("unavailable:") || down.text().contains("timeout:"), "{}", down.text());
    let record = gateway.record(&down).await;
    assert!(record["duration_us"].as_u64().unwrap() < 5_000_000, "within the deadline and a margin: {record}");
    assert_eq!(gateway.get("other.localhost", "/head").await.status.as_u16(), 200, "others notice nothing");
    assert_eq!(gateway.status().await["storage"]["answers"], false);

    redis.start_again();
    tests::until("the store to recover", async || {
        (gateway.get("counter.localhost", "/").await.text() == "1\n").then_some(())
    })
    .await;

    // If Redis hangs instead, a call ends at its deadline, and it recovers too.
    redis.signal("STOP");
    let hung = gateway.get("counter.localhost", "/").await;
    assert!(hung.text().contains("timeout:") || hung.text().contains("unavailable:"), "{}", hung.text());
    redis.signal("CONT");
    tests::until("the store to recover", async || {
        (gateway.get("counter.localhost", "/").await.status.as_u16() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_gateway_can_start_while_its_redis_is_down() {
    let mut redis = Redis::start();
    redis.stop();
    let gateway = Gateway::start_with(&counter(), &["--storage", &redis.url()]);
    assert_eq!(gateway.get("other.localhost", "/head").await.status.as_u16(), 200);
    redis.start_again();
    tests::until("the store", async || (gateway.get("counter.localhost", "/").await.text() == "1\n").then_some(()))
        .await;
}

#[test]
fn a_second_gateway_on_one_embedded_store_reports_the_conflict() {
    let site = counter();
    let _first = Gateway::start(&site);
    let second =
        std::process::Command::new(tests::tollgate()).args(["serve", "--config"]).arg(site.config()).output().unwrap();
    let words = String::from_utf8_lossy(&second.stderr);
    assert!(words.contains("is another gateway using it?"), "{words}");
    assert_eq!(second.status.code(), Some(1));
}

/// A Redis that accepts only known TLS clients, and a gateway that trusts only this server.
#[tokio::test]
async fn redis_over_tls_with_certificates_of_both_sides() {
    let site = Site::new().tenant("kv", &Tenant::new("kv.localhost", "kv").stores(&["default"]));
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    site.write("config/redis.pem", made.cert.pem());
    site.write("config/redis-key.pem", made.signing_key.serialize_pem());
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    site.write("config/other.pem", other.cert.pem());
    let port = tests::free_port().to_string();
    let path = |name: &str| site.path(name).display().to_string();
    let (cert, key) = (path("config/redis.pem"), path("config/redis-key.pem"));
    let words = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    let redis = Redis::start_with(&words);
    let url = format!("rediss://127.0.0.1:{port}");
    let told = |tls: &str| format!("[storage]\nbackend = \"redis\"\nurl = \"{url}\"\n{tls}");
    let pair = "cert = \"redis.pem\"\nkey = \"redis-key.pem\"";
    let answers = async |tls: &str| {
        let site = site.clone().gateway(&told(tls));
        let gateway = Gateway::start(&site);
        let set = gateway.client(Protocol::H2).call("POST", "kv.localhost", "/-/set/a", "over TLS").await;
        set.text()
    };
    assert_eq!(answers(&format!("[storage.tls]\nca = \"redis.pem\"\n{pair}")).await, "set");
    assert_eq!(redis.cli(&["HGET", "tg:{kv}:kv:default", "a"]), "over TLS");
    let wrong = answers(&format!("[storage.tls]\nca = \"other.pem\"\n{pair}")).await;
    assert!(wrong.contains("unavailable:"), "a server that it does not trust: {wrong}");
    let nobody = answers("[storage.tls]\nca = \"redis.pem\"").await;
    assert!(nobody.contains("unavailable:"), "a server that does not trust it: {nobody}");
}
