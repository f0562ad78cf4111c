//! Guests while Redis fails: a server that goes down, hangs, or hands a slot over. There is no wrong answer, no effect on
//! other tenants, and everything recovers by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::{Answer, Client, Gateway, Protocol, Redis, RedisCluster, RedisSentinel, Site, Tenant};

const TENANTS: [&str; 12] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "t10", "t11"];

/// With tenants on all primaries, and this time limit for a storage call.
async fn start(storage: &str, timeout: &str) -> Gateway {
    let mut site = Site::new().gateway(&format!("[storage]\ntimeout = \"{timeout}\""));
    for id in TENANTS {
        let limits = "[limits]\nstorage_ops = 5000\nfuel = \"5G\"";
        let tenant = Tenant::new(&format!("{id}.localhost"), "kv").stores(&["default"]).with(limits);
        site = site.tenant(id, &tenant);
    }
    let site = site.tenant("none", &Tenant::new("none.localhost", "echo"));
    let gateway = Gateway::start_with(&site, &["--storage", storage]);
    gateway.storage().await;
    gateway
}

async fn call(client: &Client, tenant: &str, path: &str, value: String) -> Answer {
    client.call("POST", &format!("{tenant}.localhost"), path, value).await
}

/// A tenant whose keys are on this one of the first three primaries, and their slot.
fn tenant_on(cluster: &RedisCluster, primary: usize) -> (&'static str, u16) {
    let found = TENANTS.iter().find_map(|id| {
        let slot: u16 = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", id]).parse().unwrap();
        let at = [5461, 10_923, 16_384].iter().position(|end| slot < *end).unwrap();
        (at == primary).then_some((*id, slot))
    });
    found.expect("twelve tenants are on all three")
}

/// Writes increasing numbers until told to stop. Returns the last acknowledged one, and every error.
fn writer(
    gateway: &Gateway,
    tenant: &'static str,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<(u64, Vec<String>)> {
    let (client, stop) = (gateway.client(Protocol::H2), Arc::clone(stop));
    tokio::spawn(async move {
        let (mut acknowledged, mut errors) = (0, Vec::new());
        for number in 1u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let answer = call(&client, tenant, "/-/set/number", number.to_string()).await;
            match answer.text().as_str() {
                "set" => acknowledged = number,
                error => errors.push(error.to_owned()),
            }
        }
        (acknowledged, errors)
    })
}

/// Waits until the tenant can write again.
async fn writes_flow(client: &Client, tenant: &str) {
    tests::until("writes", async || {
        (call(client, tenant, "/-/set/again", "x".to_owned()).await.text() == "set").then_some(())
    })
    .await;
}

fn are_typed(errors: &[String]) {
    for error in errors {
        assert!(error.contains("unavailable: ") || error.contains("timeout: "), "{error}");
    }
}

/// A primary that is killed, and one that hangs: its tenants get typed errors until its replica is the primary; the others
/// notice nothing.
async fn a_primary_fails(fail: impl Fn(&mut RedisCluster)) {
    let mut cluster = RedisCluster::start();
    cluster.hurry();
    let gateway = start(&cluster.url(), "2s").await;
    let client = gateway.client(Protocol::H1);
    let ((hit, _), (spared, _)) = (tenant_on(&cluster, 0), tenant_on(&cluster, 1));
    for tenant in [hit, spared] {
        assert_eq!(call(&client, tenant, "/-/set/before", tenant.to_owned()).await.text(), "set");
    }
    assert_eq!(cluster.nodes[0].cli(&["WAIT", "1", "5000"]), "1");
    let stop = Arc::new(AtomicBool::new(false));
    let (of_hit, of_spared) = (writer(&gateway, hit, &stop), writer(&gateway, spared, &stop));
    fail(&mut cluster);
    tests::until("an error", async || {
        (call(&client, hit, "/-/get/before", String::new()).await.text() != hit).then_some(())
    })
    .await;
    assert_eq!(client.get("none.localhost", "/head").await.status, 200, "who needs no storage is served");
    writes_flow(&client, hit).await;
    assert_eq!(call(&client, hit, "/-/get/before", String::new()).await.text(), hit, "what was replicated is there");
    stop.store(true, Ordering::Relaxed);
    let (_, errors) = of_hit.await.unwrap();
    are_typed(&errors);
    assert!(!errors.is_empty());
    let (last, errors) = of_spared.await.unwrap();
    assert_eq!(errors, Vec::<String>::new(), "another shard's tenant");
    assert_eq!(call(&client, spared, "/-/get/number", String::new()).await.text(), last.to_string());
    // Paused servers must be continued.
    cluster.nodes[0].signal("CONT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_primary_that_is_killed_is_replaced() {
    a_primary_fails(|cluster| cluster.nodes[0].signal("KILL")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_primary_that_hangs_is_replaced() {
    a_primary_fails(|cluster| cluster.nodes[0].signal("STOP")).await;
}

/// A slot moves to another server, key by key, while its tenant writes and reads: no error, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_load_costs_no_error() {
    let cluster = RedisCluster::start();
    let gateway = start(&cluster.url(), "5s").await;
    let client = gateway.client(Protocol::H1);
    let (tenant, slot) = tenant_on(&cluster, 0);
    let slot = slot.to_string();
    assert_eq!(call(&client, tenant, "/-/set/before", "here".to_owned()).await.text(), "set");
    let stop = Arc::new(AtomicBool::new(false));
    let writing = writer(&gateway, tenant, &stop);
    let (from, to) = (&cluster.nodes[0], &cluster.nodes[1]);
    let (from_id, to_id) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
    for _round in 0..3 {
        for (from, from_id, to, to_id) in [(from, &from_id, to, &to_id), (to, &to_id, from, &from_id)] {
            assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", from_id]), "OK");
            assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", to_id]), "OK");
            loop {
                let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
                let Some(key) = keys.lines().next().filter(|key| !key.is_empty()) else { break };
                let port = to.port().to_string();
                assert_eq!(from.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]), "OK", "{key}");
                assert_eq!(call(&client, tenant, "/-/get/before", String::new()).await.text(), "here");
            }
            for node in [to, from] {
                assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", to_id]), "OK");
            }
            assert_eq!(call(&client, tenant, "/-/get/before", String::new()).await.text(), "here");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (last, errors) = writing.await.unwrap();
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(call(&client, tenant, "/-/get/number", String::new()).await.text(), last.to_string());
}

/// The sentinels name another primary, and the connections follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_behind_sentinels_is_replaced() {
    let mut sentinel = RedisSentinel::start();
    let gateway = start(&sentinel.url(), "500ms").await;
    let client = gateway.client(Protocol::H1);
    assert_eq!(call(&client, "t0", "/-/set/before", "here".to_owned()).await.text(), "set");
    assert_eq!(sentinel.primary.cli(&["WAIT", "1", "5000"]), "1");
    sentinel.primary.stop();
    tests::until("an error", async || {
        (call(&client, "t0", "/-/get/before", String::new()).await.text() != "here").then_some(())
    })
    .await;
    writes_flow(&client, "t0").await;
    assert_eq!(call(&client, "t0", "/-/get/before", String::new()).await.text(), "here");
    assert!(sentinel.replica.cli(&["INFO", "replication"]).contains("role:master"));
}

/// A server that hangs is not called all the time: most calls fail at once without waiting. When it continues, so do they.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_not_called_for_a_while() {
    let redis = Redis::start();
    let gateway = start(&redis.url(), "500ms").await;
    let client = gateway.client(Protocol::H1);
    assert_eq!(call(&client, "t0", "/-/set/before", "here".to_owned()).await.text(), "set");
    redis.signal("STOP");
    let mut answers = Vec::new();
    tests::until("a breaker that is open", async || {
        let answer = call(&client, "t0", "/-/get/before", String::new()).await;
        let text = answer.text();
        let is_open = text.contains("circuit open");
        answers.push(text);
        is_open.then_some(())
    })
    .await;
    are_typed(&answers);
    assert!(answers.len() >= 5, "five failures open it: {answers:?}");
    let refused = gateway.metric("tollgate_storage_calls_total{call=\"get\",outcome=\"left-alone\"}").await;
    assert!(refused >= 1.0);
    assert_eq!(client.get("none.localhost", "/head").await.status, 200, "who needs no storage is served");
    redis.signal("CONT");
    writes_flow(&client, "t0").await;
    assert_eq!(call(&client, "t0", "/-/get/before", String::new()).await.text(), "here");
}

/// A server that delays one tenant's writes is not down: another tenant's reads continue, and the breaker stays closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tenants_late_answers_do_not_affect_another_tenant() {
    let redis = Redis::start();
    let gateway = start(&redis.url(), "300ms").await;
    let client = gateway.client(Protocol::H1);
    for tenant in ["t0", "t1"] {
        assert_eq!(call(&client, tenant, "/-/set/before", "here".to_owned()).await.text(), "set");
    }
    // Meanwhile reads and PING continue.
    assert_eq!(redis.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]), "OK");
    for n in 0..12 {
        let late = call(&client, "t0", "/-/set/late", "x".to_owned()).await.text();
        assert!(late.contains("timeout: "), "{n}: {late}");
    }
    assert_eq!(call(&client, "t1", "/-/get/before", String::new()).await.text(), "here");
    let metrics = gateway.admin("/metrics").await;
    let left: Vec<&str> = metrics.lines().filter(|line| line.contains("left-alone") && !line.ends_with(" 0")).collect();
    assert_eq!(left, Vec::<&str>::new());
    assert_eq!(redis.cli(&["CLIENT", "UNPAUSE"]), "OK");
    writes_flow(&client, "t0").await;
}
