//! A changed quota applies at once, on one gateway and on several, and an operator can reset it.

use std::time::Duration;

use tests::{Gateway, Protocol, Redis, Site, Tenant, until};

/// One request burns what refills within minutes.
const LOW: &str = "[quota]\nfuel_per_second = \"1K\"";
const HIGH: &str = "[quota]\nrequests = { rate = 100, per = \"1s\", burst = 200 }\nfuel_per_second = \"5G\"";
const REQUESTS: &str = "[quota]\nrequests = { rate = 10, per = \"1h\", burst = 10 }";

fn site(quota: &str) -> Site {
    Site::new().tenant("a", &Tenant::new("a.localhost", "echo").with(quota))
}

/// Sends requests until the tenant's door refuses. Returns the refusal.
async fn used_up(gateway: &Gateway) -> tests::Answer {
    let client = gateway.client(Protocol::H2);
    let mut answer = client.get("a.localhost", "/head").await;
    for _ in 0..20 {
        if answer.status == 429 {
            break;
        }
        answer = client.get("a.localhost", "/head").await;
    }
    assert_eq!(answer.status.as_u16(), 429, "the quota is not used up");
    answer
}

/// Changes a quota in the tenant's file, and reloads it.
fn change(gateway: &Gateway, site: &Site, from: &str, to: &str) {
    let file = site.path("tenants/a/tenant.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from));
    std::fs::write(file, text.replace(from, to)).unwrap();
    let (code, said) = gateway.tell(site, &["reload"]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_raised_rate_applies_at_once() {
    let site = site(REQUESTS);
    let gateway = Gateway::start(&site);
    let refused = used_up(&gateway).await;
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 300, "{:?}", refused.header("retry-after"));
    change(&gateway, &site, REQUESTS, HIGH);
    assert_eq!(gateway.get("a.localhost", "/head").await.status.as_u16(), 200);
    let usage = gateway.tenant("a").await["usage"]["requests"].clone();
    assert!(usage["left"].as_u64().unwrap() > 150, "ten and one of two hundred are gone: {usage}");
    // A lowered quota also applies at once: what was used of the old burst counts against the new one.
    change(&gateway, &site, HIGH, REQUESTS);
    let refused = used_up(&gateway).await;
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 3600, "{:?}", refused.header("retry-after"));
}

#[tokio::test]
async fn a_fuel_debt_is_clipped_by_a_new_rate_and_reset_by_an_operator() {
    let site = site(LOW);
    let gateway = Gateway::start(&site);
    let refused = used_up(&gateway).await;
    assert_eq!(refused.problem(), "quota-fuel", "one request burns more than is there");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 10, "{:?}", refused.header("retry-after"));
    change(&gateway, &site, "schema = 1", "schema = 1\nenabled = true");
    assert_eq!(gateway.get("a.localhost", "/head").await.status.as_u16(), 429, "a reload by itself forgives nothing");
    let (code, said) = gateway.tell(&site, &["tenant", "reset-quota", "a"]);
    assert_eq!((code, said.as_str()), (Some(0), "the rate limits of a are reset\n"));
    assert_eq!(gateway.get("a.localhost", "/head").await.status.as_u16(), 200);
    assert_eq!(gateway.tell(&site, &["tenant", "reset-quota", "nobody"]).0, Some(1));
    assert_eq!(used_up(&gateway).await.problem(), "quota-fuel");
    change(&gateway, &site, LOW, HIGH);
    assert_eq!(gateway.get("a.localhost", "/head").await.status.as_u16(), 200, "a debt of fuel is clipped too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raised_rate_applies_on_every_gateway_of_one_redis() {
    let redis = Redis::start();
    let url = redis.url();
    let sites = [site(REQUESTS), site(REQUESTS), site(REQUESTS)];
    let gateways = sites.each_ref().map(|site| Gateway::start_with(site, &["--storage", &url]));
    used_up(&gateways[0]).await;
    // The others learn what the first one used when they ask.
    for gateway in &gateways[1..] {
        until("a shut door", async || (gateway.get("a.localhost", "/head").await.status == 429).then_some(())).await;
    }
    for (gateway, site) in gateways.iter().zip(&sites) {
        change(gateway, site, REQUESTS, HIGH);
        assert_eq!(gateway.get("a.localhost", "/head").await.status.as_u16(), 200);
    }
    // After several exchanges, no gateway has brought the old debt back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for gateway in &gateways {
        assert_eq!(gateway.get("a.localhost", "/head").await.status.as_u16(), 200);
        let usage = gateway.tenant("a").await["usage"]["requests"].clone();
        assert!(usage["left"].as_u64().unwrap() > 100, "{usage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_reset_on_one_gateway_applies_on_all() {
    let redis = Redis::start();
    let url = redis.url();
    let sites = [site(REQUESTS), site(REQUESTS)];
    let gateways = sites.each_ref().map(|site| Gateway::start_with(site, &["--storage", &url]));
    used_up(&gateways[0]).await;
    until("a shut door", async || (gateways[1].get("a.localhost", "/head").await.status == 429).then_some(())).await;
    let (code, said) = gateways[0].tell(&sites[0], &["tenant", "reset-quota", "a"]);
    assert_eq!(code, Some(0), "{said}");
    for gateway in &gateways {
        until("an open door", async || (gateway.get("a.localhost", "/head").await.status == 200).then_some(())).await;
    }
}
