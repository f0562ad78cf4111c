//! A client's request has one budget wherever it goes inside the gateway: fuel, memory, storage operations, outbound
//! requests and depth are those of the first request, whatever it sends to its own tenant. Chains of messages end too.

use serde_json::Value;
use tests::{Answer, Gateway, Origin, Protocol, Redis, Site, Storage, Tenant, guest, until};

/// A tenant whose component calls itself, and another one with a store, within these limits.
fn fan(more: &str) -> Site {
    with_fan(Site::new(), "fan", more)
}

fn with_fan(site: Site, id: &str, more: &str) -> Site {
    let file = format!("schema = 1\nhosts = [\"{id}.localhost\"]\napp = \"spin.toml\"\n{more}\n");
    let manifest = "spin_manifest_version = 2\n[application]\nname = \"fan\"\n[[trigger.http]]\nroute = \"/...\"\n\
                    component = \"fan\"\n[component.fan]\nsource = \"fan.wasm\"\n\
                    allowed_outbound_hosts = [\"http://self\", \"http://*.spin.internal\"]\n[[trigger.http]]\n\
                    route = { private = true }\ncomponent = \"store\"\n[component.store]\nsource = \"store.wasm\"\n\
                    key_value_stores = [\"default\"]\n";
    site.file(&format!("tenants/{id}/tenant.toml"), file)
        .file(&format!("tenants/{id}/spin.toml"), manifest)
        .file(&format!("tenants/{id}/fan.wasm"), std::fs::read(guest("fan")).unwrap())
        .file(&format!("tenants/{id}/store.wasm"), std::fs::read(guest("spin-sdk-5")).unwrap())
}

/// Many outbound requests and places for them, so that another limit is reached first.
const WIDE: &str = "outbound = 10000\n[quota]\noutbound_in_flight = 200\nin_flight = 300";

/// How often the guest reports this result of a request.
fn count(answer: &Answer, kind: &str) -> u64 {
    let text = answer.text();
    let line = text.lines().find_map(|line| line.strip_prefix(kind)?.trim().parse().ok());
    line.unwrap_or_default()
}

/// The records of a tenant's requests, once all of them have ended.
async fn records(gateway: &Gateway, tenant: &str) -> Vec<Value> {
    gateway.quiet().await;
    let mut seen = usize::MAX;
    until("no further record", async || {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let now = gateway.log("access").len();
        std::mem::replace(&mut seen, now).eq(&now).then_some(())
    })
    .await;
    gateway.log("access").into_iter().filter(|record| record["tenant"] == tenant).collect()
}

fn fuel(records: &[Value]) -> u64 {
    records.iter().map(|record| record["fuel"].as_u64().unwrap()).sum()
}

fn faults(records: &[Value], kind: &str) -> usize {
    records.iter().filter(|record| record["fault"] == kind).count()
}

fn log_of(site: &Site, tenant: &str) -> String {
    std::fs::read_to_string(site.path(&format!("state/logs/{tenant}.log"))).unwrap_or_default()
}

async fn said(site: &Site, tenant: &str, wanted: &str) {
    until(wanted, async || log_of(site, tenant).contains(wanted).then_some(())).await;
}

/// Without the limit there were 844,000 requests: ten at each of the levels.
#[tokio::test]
async fn nested_calls_share_one_requests_outbound_requests() {
    let site = fan("");
    let gateway = Gateway::start(&site);
    for path in ["/fan/10/7/0", "/turn/10/7/0", "/fan/3/7/0", "/turn/2/3/0"] {
        let before = records(&gateway, "fan").await.len();
        let answer = gateway.get("fan.localhost", path).await;
        assert_eq!((answer.status.as_u16(), count(&answer, "ran")), (200, 11), "{path}: {}", answer.text());
        assert!(count(&answer, "ConnectionLimitReached") > 0, "{path}: {}", answer.text());
        let all = records(&gateway, "fan").await;
        assert_eq!(all.len() - before, 11, "{path}: limits.outbound is 10, and one is the client's");
        assert!(all.iter().all(|record| record["status"] == 200), "{path}: {all:?}");
    }
    said(
        &site,
        "fan",
        "limits.outbound (10 here) bounds a request together with all requests that it sends to its own tenant",
    )
    .await;
    // A call well within the limits still works.
    let answer = gateway.get("fan.localhost", "/fan/2/2/1000").await;
    assert_eq!(answer.text(), "ran 7\n");
    gateway.quiet().await;
}

#[tokio::test]
async fn the_depth_of_nested_calls_is_limited() {
    let site = fan(&format!("[limits]\n{WIDE}"));
    let gateway = Gateway::start(&site);
    let answer = gateway.get("fan.localhost", "/fan/1/50/0").await;
    assert_eq!(answer.text(), "508 1\nran 8\n");
    let all = records(&gateway, "fan").await;
    assert_eq!((all.len(), faults(&all, "loop")), (9, 1));
    said(&site, "fan", "8 requests came before it, each made by the one before").await;
}

/// The sum equals the limit to the unit: in the records, in the metric, and in what the tenant is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_calls_share_one_requests_fuel() {
    const FUEL: u64 = 20_000_000;
    let site = with_fan(fan(&format!("[limits]\nfuel = \"20M\"\n{WIDE}")), "other", "");
    let gateway = Gateway::start(&site);
    let mut before = 0;
    for path in ["/fan/10/7/20000", "/turn/10/7/20000", "/fan/100/1/1000000", "/fan/1/1/5000000"] {
        let answer = gateway.get("fan.localhost", path).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "fuel-exhausted"), "{path}");
        let all = records(&gateway, "fan").await;
        let burned = fuel(&all) - before;
        assert_eq!(burned, FUEL, "{path}: {all:?}");
        let ran = all.iter().filter(|record| record["fuel"].as_u64() > Some(0)).count();
        println!("{path}: {} records, {ran} of which ran, until now", all.len());
        before += burned;
        let charged = gateway.tenant("fan").await["usage"]["fuel_total"].as_u64();
        assert_eq!(charged, Some(before), "{path}");
        assert_eq!(gateway.metric("tollgate_fuel_total{tenant=\"fan\"}").await, before as f64, "{path}");
        // Another tenant has its own budget.
        let other = gateway.get("other.localhost", "/fan/2/2/20000").await;
        assert_eq!((other.status.as_u16(), count(&other, "ran")), (200, 7));
    }
    said(&site, "fan", "the component exhausted the fuel of one request").await;
}

/// One after the other, so that nothing depends on chance.
#[tokio::test]
async fn the_same_nested_calls_end_at_the_same_place() {
    let site = fan(&format!("[limits]\nfuel = \"10M\"\n{WIDE}"));
    let gateway = Gateway::start(&site);
    let mut runs = Vec::new();
    for _ in 0..3 {
        let before = gateway.log("access").len();
        let answer = gateway.get("fan.localhost", "/turn/4/4/5000").await;
        assert_eq!(answer.problem(), "fuel-exhausted");
        let all = records(&gateway, "fan").await;
        let mut run: Vec<_> = all[before..].iter().map(|record| record["fuel"].as_u64().unwrap()).collect();
        run.sort_unstable();
        runs.push(run);
    }
    // Either the last request or its caller may use the last units.
    let ran = |run: &[u64]| run.iter().filter(|fuel| **fuel > 0).count();
    let first = ran(&runs[0]);
    assert!((20..40).contains(&first) && runs.iter().all(|run| ran(run).abs_diff(first) <= 2), "{runs:?}");
    assert!(runs.iter().all(|run| run.iter().sum::<u64>() == 10_000_000), "{runs:?}");
}

/// The answer of the called component costs fuel too, and is cut when there is none left.
#[tokio::test]
async fn the_caller_pays_for_the_answers_of_nested_calls() {
    let site = fan(&format!("[limits]\nfuel = \"100M\"\n{WIDE}"));
    let gateway = Gateway::start(&site);
    let answer = gateway.get("fan.localhost", "/ask/1/http/self.alt/give/1000000").await;
    assert_eq!(answer.text(), "200 1\nran 1\n");
    let all = records(&gateway, "fan").await;
    let inner = all.iter().find(|record| record["bytes_out"] == 1_000_000).unwrap();
    let outer = all.iter().find(|record| record["path"].as_str().unwrap().starts_with("/ask")).unwrap();
    assert!(inner["fuel"].as_u64() > Some(250_000), "its bytes are part of it: {inner}");
    assert!(outer["fuel"].as_u64() > Some(300_000), "{outer}");
    let before = fuel(&all);
    gateway.get("fan.localhost", "/ask/30/http/self.alt/give/3000000").await;
    let all = records(&gateway, "fan").await;
    assert_eq!(fuel(&all) - before, 100_000_000);
}

#[tokio::test]
async fn nested_calls_share_one_requests_memory_and_release_it() {
    let site = fan(&format!("[limits]\nmemory = \"20MiB\"\n{WIDE}"));
    let gateway = Gateway::start(&site);
    for _ in 0..3 {
        for (path, wanted) in
            [("/hold/15000000/0", "ran 1\n"), ("/hold/6000000/1", "ran 2\n"), ("/hold/6000000/5", "502 1\nran 2\n")]
        {
            assert_eq!(gateway.get("fan.localhost", path).await.text(), wanted, "{path}");
        }
    }
    let all = records(&gateway, "fan").await;
    assert_eq!(faults(&all, "memory-exhausted"), 3, "{all:?}");
    gateway.quiet().await;
}

#[tokio::test]
async fn nested_calls_share_one_requests_storage_operations() {
    let site = fan(&format!("[limits]\nstorage_ops = 3\n{WIDE}"));
    let gateway = Gateway::start(&site);
    for _ in 0..2 {
        let path = "/ask/5/http/store.spin.internal/kv2/get-keys/default";
        assert_eq!(gateway.get("fan.localhost", path).await.text(), "200 3\n502 2\nran 1\n");
    }
}

/// Over the network, by its public name, a tenant's request does not come back to it, and reaches other tenants only a
/// limited number of times.
#[tokio::test]
async fn requests_that_come_back_over_the_network_are_refused() {
    let port = tests::free_port();
    let site = Site::new();
    let ca = {
        // The first start creates the development CA.
        let _gateway = Gateway::start(&site);
        std::fs::read(site.path("state/tls/ca.pem")).unwrap()
    };
    let allow = ["a.localhost", "b.localhost", "127.0.0.1"].map(|host| format!("https://{host}:{port}"));
    let tenant = |host: &str| Tenant::new(host, "fan").with(&format!("[egress]\nallow = {allow:?}"));
    let site = site
        .gateway("[egress]\nca = \"ca.pem\"")
        .file("config/ca.pem", ca)
        .tenant("a", &tenant("a.localhost"))
        .tenant("b", &tenant("b.localhost"));
    let gateway = Gateway::start_with(&site, &["--https", &format!("127.0.0.1:{port}")]);
    let ask = |times: u32, name: &str| format!("/ask/{times}/https/{name}.localhost:{port}");
    let answer = gateway.get("a.localhost", &format!("{}/fan/3/3/0", ask(5, "a"))).await;
    assert_eq!(answer.text(), "508 5\nran 1\n");
    let answer = gateway.get("a.localhost", &format!("{}{}/fan/3/3/0", ask(4, "b"), ask(3, "a"))).await;
    assert_eq!(answer.text(), "508 12\nran 5\n");
    let (of_a, of_b) = (records(&gateway, "a").await, records(&gateway, "b").await);
    assert_eq!((of_a.len(), faults(&of_a, "loop"), of_b.len()), (2 + 5 + 12, 5 + 12, 4));
}

/// While one tenant repeatedly calls itself as widely as it can, another tenant's requests are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_calls_of_one_tenant_delay_no_other_tenant() {
    let site = with_fan(fan(&format!("[limits]\n{WIDE}")), "other", "");
    let gateway = Gateway::start(&site);
    let fans: Vec<_> = (0..4)
        .map(|_| {
            let client = gateway.client(Protocol::H2);
            tokio::spawn(async move { client.get("fan.localhost", "/fan/20/6/20000").await.status.as_u16() })
        })
        .collect();
    for _ in 0..50 {
        let answer = gateway.get("other.localhost", "/fan/2/1/1000").await;
        assert_eq!((answer.status.as_u16(), count(&answer, "ran")), (200, 3), "{}", answer.text());
    }
    for fan in fans {
        let status = fan.await.unwrap();
        assert!([200, 502].contains(&status), "{status}");
    }
    let all = records(&gateway, "fan").await;
    assert!(fuel(&all) <= 4 * 500_000_000 + all.len() as u64, "{}", fuel(&all));
}

/// Two components that answer each other on these channels.
fn pong(channels: &[&str], more: &str, allow: &str) -> Site {
    pong_within("", channels, more, allow)
}

/// The same within these limits.
fn pong_within(limits: &str, channels: &[&str], more: &str, allow: &str) -> Site {
    let mut file = format!(
        "schema = 1\nhosts = [\"pong.localhost\"]\n{limits}\n[egress]\nallow = [{allow}]\n[[component]]\nname = \"site\"\n\
         source = \"site.wasm\"\nstores = [\"default\"]\nredis = [\"redis://granted:6379\"]\n[[component]]\nname = \"pong\"\nsource = \"pong.wasm\"\n\
         redis = [\"redis://granted:6379\"]\n[[route]]\npath = \"/...\"\ncomponent = \"site\"\n"
    );
    for channel in channels {
        file += &format!("[[subscription]]\nchannel = \"{channel}\"\ncomponent = \"pong\"\n{more}\n");
    }
    Site::new()
        .file("tenants/pong/tenant.toml", file)
        .file("tenants/pong/site.wasm", std::fs::read(guest("spin-sdk-5")).unwrap())
        .file("tenants/pong/pong.wasm", std::fs::read(guest("pong")).unwrap())
}

/// Number of messages that were handled.
async fn heard(gateway: &Gateway) -> u64 {
    let client = gateway.client(Protocol::H2);
    let words = tests::spin_words(&["heard"]);
    let text = client.call("POST", "pong.localhost", "/redis2/get/granted", words).await.text();
    let bytes = text.as_bytes().chunks_exact(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16));
    let digits = bytes.collect::<Result<Vec<_>, _>>().unwrap_or_default();
    String::from_utf8(digits).unwrap().parse().unwrap_or(0)
}

/// A component's message on a channel. Returns the result.
async fn publish(gateway: &Gateway, channel: &str, message: &str, chain: Option<&str>) -> String {
    let mut request = tests::request("POST", "pong.localhost", "/redis2/publish/granted");
    if let Some(chain) = chain {
        request = request.header("cdn-loop", chain);
    }
    let words = tests::spin_words(&[channel, message]);
    let request = request.body(tests::full(words)).unwrap();
    gateway.client(Protocol::H2).send("pong.localhost", request).await.text()
}

/// Waits until messages are received, which begins a moment after the start.
async fn listens(gateway: &Gateway, channel: &str) -> u64 {
    let before = heard(gateway).await;
    until("the first message", async || {
        // A single word cannot be a component's answer.
        publish(gateway, channel, "hello", None).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        (heard(gateway).await > before).then_some(())
    })
    .await;
    let mut last = 0;
    until("the last message", async || {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let now = heard(gateway).await;
        (std::mem::replace(&mut last, now) == now).then_some(now)
    })
    .await
}

/// The number of messages caused by one, once no more arrive.
async fn heard_after(gateways: &[&Gateway], before: u64) -> u64 {
    let mut refused = 0.0;
    until("a message that is refused", async || {
        refused = 0.0;
        for gateway in gateways {
            let text = gateway.admin("/metrics").await;
            let line = "tollgate_messages_refused_total{tenant=\"pong\"} ";
            refused += text.lines().find_map(|of| of.strip_prefix(line)?.parse::<f64>().ok()).unwrap_or_default();
        }
        (refused > 0.0).then_some(())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(refused, 1.0);
    heard(gateways[0]).await - before
}

#[tokio::test]
async fn a_chain_of_messages_between_two_components_ends() {
    for storage in Storage::each() {
        let site = pong(&["A", "B"], "", "");
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        for channel in ["A", "B"] {
            listens(&gateway, channel).await;
        }
        let before = heard(&gateway).await;
        assert_eq!(publish(&gateway, "A", "A B go", None).await, "published");
        assert_eq!(heard_after(&[&gateway], before).await, 16, "on {}", storage.url());
        said(
            &site,
            "pong",
            "a message was refused: 16 messages came before it in its line, each sent by the handler of the one before",
        )
        .await;
        let refused = gateway.log("messages").into_iter().filter(|record| record["outcome"] == "refused").count();
        assert_eq!(refused, 1, "the last handler says that it failed");
    }
}

/// However many messages a handler sends, those that come from one message are limited.
#[tokio::test]
async fn messages_with_one_cause_are_limited() {
    let redis = Redis::start();
    for url in ["embedded".to_owned(), redis.url()] {
        // Twenty for each of limits.storage_ops.
        let site = pong_within("[limits]\nstorage_ops = 15", &["A", "B"], "", "");
        let gateway = Gateway::start_with(&site, &["--storage", &url]);
        gateway.storage().await;
        let before = listens(&gateway, "A").await;
        for round in 1..=2 {
            assert_eq!(publish(&gateway, "A", "wide A 10", None).await, "published");
            until("all of them", async || (heard(&gateway).await >= before + round * 301).then_some(())).await;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            assert_eq!(heard(&gateway).await, before + round * 301, "on {url}");
        }
        said(&site, "pong", "a message was refused: handlers already sent 300 messages that have the same cause: ")
            .await;
    }
}

/// Two gateways, each of which listens to one of the channels: the count travels with the message.
#[tokio::test]
async fn a_chain_of_messages_is_counted_across_gateways() {
    let redis = Redis::start();
    let sites = [pong(&["A"], "", ""), pong(&["B"], "", "")];
    let [one, two] = sites.each_ref().map(|site| Gateway::start_with(site, &["--storage", &redis.url()]));
    listens(&one, "A").await;
    let before = listens(&one, "B").await;
    let message = "A B héllo \u{0}";
    assert_eq!(publish(&one, "A", message, None).await, "published");
    assert_eq!(heard_after(&[&one, &two], before).await, 16);
    // An operator's message is the first of its chain, and other listeners receive only its own bytes.
    let (code, text) = one.tell(&sites[0], &["publish", "--tenant", "pong", "A", "A B again"]);
    assert_eq!(code, Some(0), "{text}");
    until("sixteen more", async || (heard(&one).await == before + 32).then_some(())).await;
}

#[tokio::test]
async fn a_chain_of_messages_with_once_delivery_ends_too() {
    let redis = Redis::start();
    let site = pong(&["A", "B"], "delivery = \"once\"", "");
    let other = pong(&["A", "B"], "delivery = \"once\"", "");
    let [one, two] = [&site, &other].map(|site| Gateway::start_with(site, &["--storage", &redis.url()]));
    publish(&one, "A", "A B go", None).await;
    // The handler of the last message fails, and is retried.
    let count = async || (heard(&one).await >= 16).then_some(());
    until("sixteen messages", count).await;
    until("the last one is dead", async || {
        (redis.cli(&["xlen", "tg:{pong}:ms:A"]).trim() == "0" && redis.cli(&["xlen", "tg:{pong}:ms:B"]).trim() == "0")
            .then_some(())
    })
    .await;
    assert_eq!(heard(&one).await, 15 + 5, "sixteen messages, of which the last was tried five times");
    let dead: u32 = ["A", "B"]
        .iter()
        .map(|name| redis.cli(&["xlen", &format!("tg:{{pong}}:dl:{name}")]).trim().parse::<u32>().unwrap())
        .sum();
    assert_eq!(dead, 1);
    drop(two);
}

/// A chain that leaves by HTTP, through another tenant or another gateway, is still counted.
#[tokio::test]
async fn a_chain_of_messages_is_counted_through_http() {
    let origin = Origin::start(Protocol::H1).await;
    let site = pong(&["A", "B"], "", &format!("\"https://{}\"", origin.address))
        .gateway("[egress]\nca = \"ca.pem\"")
        .file("config/ca.pem", &origin.ca_pem);
    let gateway = Gateway::start(&site);
    let before = heard(&gateway).await;
    assert_eq!(publish(&gateway, "A", &format!("ask https://{}/seen x", origin.address), None).await, "published");
    let asked = until("the origin", async || origin.asked().into_iter().find(|asked| asked.path == "/seen")).await;
    let chain = asked.headers["cdn-loop"].to_str().unwrap();
    assert!(chain.starts_with("tollgate; t=") && chain.contains("; m=1."), "{chain}");
    until("one message", async || (heard(&gateway).await == before + 1).then_some(())).await;
    let came = |messages: u32| format!("tollgate; t=0000000000000000; m={messages}");
    let refused = publish(&gateway, "A", "A B x", Some(&came(16))).await;
    assert!(refused.contains("quota-exceeded: messages in a line 16"), "{refused}");
    assert_eq!(heard(&gateway).await, before + 1);
    assert_eq!(publish(&gateway, "A", "A B x", Some(&came(13))).await, "published");
    until("three more", async || (heard(&gateway).await == before + 4).then_some(())).await;
    said(&site, "pong", "a message was refused").await;
}
