//! `delivery = "once"`: one gateway of a fleet handles each message, retries after failures, and sets dead letters aside.

use std::time::Duration;

use serde_json::Value;
use tests::{Gateway, Protocol, Redis, RedisCluster, Site, checked, guest};

const TENANT: &str = r#"
schema = 1
hosts = ["shop.localhost"]
[limits]
time = "2s"
[quota]
messages_at_once = 4
[[component]]
name = "site"
source = "spin-sdk-5.wasm"
stores = ["default"]
redis = ["redis://granted:6379"]
[[component]]
name = "listener"
source = "messages-5.wasm"
stores = ["default"]
redis = ["redis://granted:6379"]
[[route]]
path = "/..."
component = "site"
[[subscription]]
channel = "orders"
component = "listener"
delivery = "once"
"#;

fn site() -> Site {
    let mut site = Site::new().file("tenants/shop/tenant.toml", TENANT);
    for name in ["spin-sdk-5", "messages-5"] {
        site = site.file(&format!("tenants/shop/{name}.wasm"), std::fs::read(guest(name)).unwrap());
    }
    site
}

fn gateway(site: &Site, url: &str) -> Gateway {
    Gateway::start_with(site, &["--storage", url])
}

async fn publish(gateway: &Gateway, message: &str) -> String {
    let client = gateway.client(Protocol::H2);
    let words = tests::spin_words(&["orders", message]);
    client.call("POST", "shop.localhost", "/redis2/publish/granted", words).await.text()
}

#[tokio::test]
async fn each_message_is_handled_once_even_if_gateways_die() {
    const MESSAGES: usize = 300;
    let redis = Redis::start();
    let sites = [site(), site(), site()];
    let [first, second, third] = sites.each_ref().map(|site| gateway(site, &redis.url()));
    let client = first.client(Protocol::H2);
    let mut third = Some(third);
    for number in 0..MESSAGES {
        let words = tests::spin_words(&["orders", &format!("count m-{number}")]);
        let said = client.call("POST", "shop.localhost", "/redis2/publish/granted", words).await.text();
        assert_eq!(said, "published");
        if number == MESSAGES / 2 {
            third.take().unwrap().kill_9();
        }
    }
    let count = |number: usize| redis.cli(&["get", &format!("tg:{{shop}}:r:m-{number}")]).trim().parse::<u64>().ok();
    let waiting = async || (redis.cli(&["xlen", "tg:{shop}:ms:orders"]).trim() == "0").then_some(());
    tests::until("all messages", waiting).await;
    let counts: Vec<u64> = (0..MESSAGES).map(|number| count(number).unwrap_or(0)).collect();
    let lost = counts.iter().filter(|count| **count == 0).count();
    let twice: u64 = counts.iter().map(|count| count - 1).sum();
    assert_eq!(lost, 0, "{counts:?}");
    let mut redelivered = 0.0;
    let mut handled = Vec::new();
    for gateway in [&first, &second] {
        let text = gateway.admin("/metrics").await;
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{{tenant=\"shop\"}} ")));
            line.map_or(0.0, |number| number.parse::<f64>().unwrap())
        };
        redelivered += of("tollgate_messages_redelivered_total");
        assert!(of("tollgate_messages_dead_total") + of("tollgate_messages_dropped_total") < 0.5, "{text}");
        handled.push(gateway.log("messages").len());
    }
    assert!(twice as f64 <= redelivered, "{twice} handled twice, {redelivered} whose outcome nobody knew");
    assert!(redelivered <= 4.0, "no more than the dead one had in hand: {redelivered}");
    assert!(handled.iter().all(|handled| *handled > 20), "both do their part: {handled:?}");
}

#[tokio::test]
async fn a_failed_message_is_retried_and_then_set_aside() {
    let redis = Redis::start();
    let site = site();
    let gateway = gateway(&site, &redis.url());
    for message in ["fail always", "count good", "panic"] {
        assert_eq!(publish(&gateway, message).await, "published");
    }
    let url = redis.url();
    let tell = |words: &[&str]| gateway.tell(&site, &[words, &["--storage", &url]].concat());
    let listed = || {
        let (code, text) = tell(&["messages", "list", "--tenant", "shop", "orders"]);
        assert_eq!(code, Some(0), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    assert!(listed().is_empty(), "they are tried again first");
    let dead = tests::until("the dead", async || Some(listed()).filter(|dead| dead.len() == 2)).await;
    assert!(dead.iter().all(|one| one["tries"] == 5), "{dead:?}");
    let payloads: Vec<_> = dead.iter().map(|one| one["payload"].as_str().unwrap()).collect();
    assert!(payloads.contains(&"fail always") && payloads.contains(&"panic"), "{payloads:?}");
    let records = gateway.log("messages");
    let runs = |outcome: &str| records.iter().filter(|record| record["outcome"] == outcome).count();
    assert_eq!((runs("trap"), runs("refused"), runs("ok")), (5, 5, 1), "{records:?}");
    assert_eq!(redis.cli(&["get", "tg:{shop}:r:good"]).trim(), "1", "the others are handled meanwhile, and once");

    let id = dead[0]["id"].as_str().unwrap();
    let (code, text) = tell(&["messages", "replay", "--tenant", "shop", "orders", id]);
    assert_eq!((code, text.trim()), (Some(0), "1 messages"));
    assert_eq!(listed().len(), 1, "it waits again");
    let (code, text) = tell(&["messages", "delete", "--tenant", "shop", "orders", "--all"]);
    assert_eq!((code, text.trim()), (Some(0), "1 messages"));
    let (code, text) = tell(&["messages", "delete", "--tenant", "shop", "orders", "1-1"]);
    assert_eq!((code, text.trim()), (Some(1), "0 messages"));
    let (code, text) = tell(&["messages", "replay", "--tenant", "shop", "orders"]);
    assert!(code == Some(1) && text.contains("--all"), "{text}");
}

#[tokio::test]
async fn once_delivery_works_on_a_cluster_and_after_all_gateways_were_down() {
    let redis = RedisCluster::start();
    let site = site();
    let first = gateway(&site, &redis.url());
    first.storage().await;
    assert_eq!(publish(&first, "count before").await, "published");
    let get = async |gateway: &Gateway, key: &str| {
        let client = gateway.client(Protocol::H2);
        client.call("POST", "shop.localhost", "/redis2/get/granted", tests::spin_words(&[key])).await.text()
    };
    let one = tests::hex(b"1");
    tests::until("the first", async || (get(&first, "before").await == one).then_some(())).await;
    // Nobody takes it: the tenant is suspended, and keeps it.
    assert_eq!(first.tell(&site, &["tenant", "suspend", "shop"]).0, Some(0));
    let (code, text) = first.tell(&site, &["publish", "--tenant", "shop", "orders", "count meanwhile"]);
    assert_eq!(code, Some(0), "{text}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(first.tell(&site, &["tenant", "resume", "shop"]).0, Some(0));
    tests::until("the second", async || (get(&first, "meanwhile").await == one).then_some(())).await;
}

/// A message for which a quota has no room was not tried: it waits, however long that takes, and does not become a dead
/// letter.
#[tokio::test]
async fn a_message_without_room_waits_and_is_not_set_aside() {
    let redis = Redis::start();
    let text = TENANT.replace("messages_at_once = 4", "requests = { rate = 1, per = \"1h\", burst = 1 }");
    let site = site().file("tenants/shop/tenant.toml", text);
    let gateway = gateway(&site, &redis.url());
    for message in ["count one", "count two"] {
        let (code, text) = gateway.tell(&site, &["publish", "--tenant", "shop", "orders", message]);
        assert_eq!(code, Some(0), "{text}");
    }
    tests::until("the first", async || (redis.cli(&["get", "tg:{shop}:r:one"]).trim() == "1").then_some(())).await;
    // Four rounds of waiting for room, each followed by a pause.
    let refused = async || (gateway.log("messages").len() >= 5).then_some(());
    tests::until("several refusals", refused).await;
    let pending = redis.cli(&["xpending", "tg:{shop}:ms:orders", "tollgate", "-", "+", "9"]);
    let tries: u32 = pending.lines().nth(3).and_then(|tries| tries.trim().parse().ok()).expect(&pending);
    assert!(tries <= 2, "{pending}");
    assert_eq!(redis.cli(&["exists", "tg:{shop}:dl:orders"]).trim(), "0");
}

/// A gateway that took a message and disappeared: nobody knows whether it was handled.
#[tokio::test]
async fn a_dead_gateways_message_is_handled_when_its_lease_expires() {
    let redis = Redis::start();
    let stream = "tg:{shop}:ms:orders";
    for words in [
        &["xadd", stream, "*", "m", "count again"][..],
        &["xgroup", "create", stream, "tollgate", "0"],
        &["xreadgroup", "group", "tollgate", "taken", "streams", stream, ">"],
    ] {
        assert!(!redis.cli(words).contains("ERR"), "{words:?}");
    }
    let site = site();
    let gateway = gateway(&site, &redis.url());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(redis.cli(&["get", "tg:{shop}:r:again"]).trim(), "", "it may still be at work");
    let get = async || (redis.cli(&["get", "tg:{shop}:r:again"]).trim() == "1").then_some(());
    tests::until("the end of its lease", get).await;
    let text = gateway.admin("/metrics").await;
    assert!(text.contains("tollgate_messages_redelivered_total{tenant=\"shop\"} 1"), "{text}");
}

#[test]
fn an_impossible_once_delivery_is_reported() {
    let of = |more: &str| {
        let text = format!("{TENANT}{more}");
        let site = site().file("tenants/shop/tenant.toml", text);
        let (is_good, text) = checked(&site, if more.is_empty() { &[] } else { &["--storage", "redis://127.0.0.1:1"] });
        assert!(!is_good);
        text
    };
    assert!(of("").contains("delivery once requires Redis"));
    let other = "[[subscription]]\nchannel = \"orders\"\ncomponent = \"listener\"\n";
    assert!(of(other).contains("a channel has two values of `delivery`"));
    let unknown = "[[subscription]]\nchannel = \"x\"\ncomponent = \"listener\"\ndelivery = \"twice\"\n";
    assert!(of(unknown).contains("`subscription.delivery`") || of(unknown).contains("twice"), "{}", of(unknown));
}
