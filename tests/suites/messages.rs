//! Messages on tenants' channels start components: on every backend, in order, within quotas, and for nobody else.

use std::time::Duration;

use tests::{Gateway, Protocol, Redis, Site, Storage};

const LIMITS: &str = "[limits]\nstorage_ops = 5000\nfuel = \"1G\"\ntime = \"2s\"\n";

/// Two tenants that are exactly alike, including the names of stores and channels.
fn twin(host: &str, more: &str) -> String {
    format!(
        "schema = 1\nhosts = [\"{host}\"]\n{more}\n{LIMITS}
[[component]]
name = \"listener\"
source = \"messages-5.wasm\"
stores = [\"default\"]
redis = [\"redis://granted:6379\"]
[[component]]
name = \"newest\"
source = \"messages-7.wasm\"
stores = [\"default\"]
[[component]]
name = \"kv\"
source = \"kv.wasm\"
stores = [\"default\"]
[[route]]
path = \"/...\"
component = \"kv\"
[[subscription]]
channel = \"channelOne\"
component = \"listener\"
[[subscription]]
channel = \"channelTwo\"
component = \"newest\"
[[subscription]]
channel = \"both\"
component = \"listener\"
[[subscription]]
channel = \"both\"
component = \"newest\"
"
    )
}

fn site(more: &str) -> Site {
    let mut site = Site::new();
    for id in ["one", "two"] {
        site = site.file(&format!("tenants/{id}/tenant.toml"), twin(&format!("{id}.localhost"), more));
        for guest in ["messages-5", "messages-7", "kv"] {
            site = site.file(&format!("tenants/{id}/{guest}.wasm"), std::fs::read(tests::guest(guest)).unwrap());
        }
    }
    site
}

struct House {
    gateway: Gateway,
    site: Site,
}

impl House {
    async fn on(storage: &str, more: &str) -> Self {
        let site = site(more);
        let gateway = Gateway::start_with(&site, &["--storage", storage]);
        gateway.storage().await;
        let house = Self { gateway, site };
        // On Redis, the subscription exists a moment after the start.
        for tenant in ["one", "two"] {
            let mut heard = false;
            for _ in 0..100 {
                house.publish(tenant, "channelOne", "append started x");
                tokio::time::sleep(Duration::from_millis(30)).await;
                heard = house.get(tenant, "started").await.contains('x');
                if heard {
                    break;
                }
            }
            assert!(heard, "{tenant} never heard anything");
        }
        house
    }

    fn publish(&self, tenant: &str, channel: &str, message: &str) {
        let (code, said) = self.gateway.tell(&self.site, &["publish", "--tenant", tenant, channel, message]);
        assert_eq!(code, Some(0), "{said}");
    }

    async fn get(&self, tenant: &str, key: &str) -> String {
        let client = self.gateway.client(Protocol::H2);
        client.call("POST", &format!("{tenant}.localhost"), &format!("/-/get/{key}"), "").await.text()
    }

    async fn until(&self, tenant: &str, key: &str, wanted: &str) {
        let mut found = String::new();
        for _ in 0..200 {
            found = self.get(tenant, key).await;
            if found == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(found, wanted, "of {tenant}");
    }

    /// The value of a series, which may not exist yet.
    async fn metric(&self, name: &str) -> f64 {
        let text = self.gateway.admin("/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_default()
    }

    async fn outcome(&self, tenant: &str, outcome: &str) -> f64 {
        let name = format!("tollgate_messages_total{{tenant=\"{tenant}\",outcome=\"{outcome}\"}}");
        for _ in 0..300 {
            let value = self.metric(&name).await;
            if value > 0.0 {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        0.0
    }

    fn log(&self, tenant: &str) -> String {
        std::fs::read_to_string(self.site.path(&format!("state/logs/{tenant}.log"))).unwrap_or_default()
    }
}

#[tokio::test]
async fn messages_reach_only_their_own_tenants_components() {
    for storage in Storage::each() {
        let house = House::on(&storage.url(), "").await;
        for (tenant, word) in [("one", "first"), ("two", "second")] {
            house.publish(tenant, "channelOne", &format!("append heard {word}"));
            house.publish(tenant, "channelTwo", &format!("append newest {word}"));
            house.publish(tenant, "both", &format!("append each {word}"));
            house.publish(tenant, "nobody listens here", "append heard lost");
        }
        for (tenant, word) in [("one", "first"), ("two", "second")] {
            house.until(tenant, "heard", &format!("{word} ")).await;
            house.until(tenant, "newest", &format!("{word} ")).await;
            house.until(tenant, "each", &format!("{word} {word} ")).await;
        }
        // A guest's own publish stays in its tenant too, whatever name it uses.
        house.publish("one", "channelOne", "publish channelTwo append relayed here");
        house.publish("one", "channelOne", "publish tg:{two}:ch:channelTwo append relayed there");
        house.until("one", "relayed", "here ").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(house.get("two", "relayed").await, "(none)");
        // Its output is in its tenant's log, under the component's name.
        house.publish("one", "channelOne", "Hello There!");
        for _ in 0..100 {
            if house.log("one").contains("Hello There!") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(house.log("one").contains("Hello There!") && house.log("one").contains("listener"));
        assert!(!house.log("two").contains("Hello There!"));
    }
}

#[tokio::test]
async fn a_channels_messages_stay_in_order_and_every_run_is_metered() {
    let house = House::on("embedded", "").await;
    let before = house.outcome("one", "ok").await;
    for n in 0..40 {
        house.publish("one", "channelOne", &format!("append order {n}"));
    }
    let wanted: String = (0..40).map(|n| format!("{n} ")).collect();
    house.until("one", "order", &wanted).await;
    let mut runs = 0.0;
    for _ in 0..100 {
        runs = house.outcome("one", "ok").await - before;
        if runs >= 40.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(runs, 40.0);
    let records = house.gateway.log("messages");
    let of_one = records.iter().rfind(|record| record["tenant"] == "one").unwrap();
    assert_eq!((&of_one["component"], &of_one["channel"]), (&"listener".into(), &"channelOne".into()));
    assert!(of_one["fuel"].as_u64().unwrap() > 10_000 && of_one["storage_ops"] == 2, "{of_one}");
    // Failures are distinguished, and each ends only its own run.
    for (message, outcome) in [("fail now", "refused"), ("panic", "trap"), ("loop", "fuel-exhausted")] {
        house.publish("one", "channelOne", message);
        assert_eq!(house.outcome("one", outcome).await, 1.0, "{outcome}");
    }
    house.publish("one", "channelOne", "append after all");
    house.until("one", "after", "all ").await;
    assert!(house.log("one").contains("as it was told to"));
    house.gateway.quiet().await;
}

/// A tenant's flood waits in its own queue, is dropped and counted above the limit, and costs no other tenant a message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_bounded_and_affects_only_its_tenant() {
    let redis = Redis::start();
    let house = House::on(&redis.url(), "[quota]\nrequests = { rate = 50, per = \"1s\", burst = 100 }").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let flood: String = (0..30_000).map(|n| format!("PUBLISH tg:{{one}}:ch:channelOne x{n}\n")).collect();
    redis.pipe(&flood);
    house.publish("two", "channelOne", "append heard me");
    house.until("two", "heard", "me ").await;
    let dropped = house.metric("tollgate_messages_dropped_total{tenant=\"one\"}").await;
    assert!((15_000.0..=20_000.0).contains(&dropped), "10,000 wait and some ran: {dropped}");
    assert_eq!(house.metric("tollgate_messages_dropped_total{tenant=\"two\"}").await, 0.0);
}

/// Redis goes down and comes back, and so does the subscription, by itself.
#[tokio::test]
async fn the_gateway_resubscribes_after_redis_was_down() {
    let mut redis = Redis::start();
    let house = House::on(&redis.url(), "").await;
    redis.stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    redis.start_again();
    let back = std::time::Instant::now();
    loop {
        let _received = redis.cli(&["PUBLISH", "tg:{one}:ch:channelOne", "append back x"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if house.get("one", "back").await.contains('x') {
            break;
        }
        assert!(back.elapsed() < Duration::from_secs(10), "it never came back");
    }
    println!("heard again {:?} after Redis was there", back.elapsed());
}
