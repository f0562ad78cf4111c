//! Instances of wasi:http 0.3 that answer several requests, if their tenant configures that.

use tests::{Gateway, Protocol, Site, Tenant};

/// The guest's `/count` returns how many requests its instance has answered.
fn tenant(host: &str, reuse: u32) -> Tenant {
    let text = Tenant::new(host, "async-hello").with("[limits]\nfuel = \"100M\"\nmemory = \"16MiB\"\ntime = \"5s\"");
    if reuse > 1 { text.component(&format!("reuse = {reuse}")) } else { text }
}

async fn counts(gateway: &Gateway, host: &str, times: usize) -> Vec<String> {
    let client = gateway.client(Protocol::H1);
    let mut counts = Vec::new();
    for _ in 0..times {
        let answer = client.get(host, "/count").await;
        // The instance rests before the record is written.
        gateway.record(&answer).await;
        counts.push(answer.text());
    }
    counts
}

#[tokio::test]
async fn an_instance_answers_as_often_as_configured_and_only_for_its_tenant() {
    let site = Site::new()
        .tenant("again", &tenant("again.localhost", 3))
        .tenant("other", &tenant("other.localhost", 3))
        .tenant("fresh", &tenant("fresh.localhost", 1));
    let gateway = Gateway::start(&site);
    assert_eq!(counts(&gateway, "again.localhost", 5).await, ["1", "2", "3", "1", "2"]);
    // Another tenant's instance of the same component is separate, and a tenant that did not ask gets a new instance each
    // time.
    assert_eq!(counts(&gateway, "other.localhost", 2).await, ["1", "2"]);
    assert_eq!(counts(&gateway, "fresh.localhost", 3).await, ["1", "1", "1"]);
    assert_eq!(counts(&gateway, "again.localhost", 2).await, ["3", "1"]);
}

#[tokio::test]
async fn each_request_has_its_own_limits_fuel_and_log_lines() {
    let gateway = Gateway::start(&Site::new().tenant("again", &tenant("again.localhost", 100)));
    let client = gateway.client(Protocol::H1);
    let mut fuel = Vec::new();
    for _ in 0..3 {
        let answer = client.get("again.localhost", "/print").await;
        let record = gateway.record(&answer).await;
        assert_eq!(record["log_lines"], 1, "{record}");
        fuel.push(record["fuel"].as_u64().unwrap());
    }
    assert!(fuel[0] > 100_000, "it was made: {fuel:?}");
    assert!((20_000..100_000).contains(&fuel[1]), "it was used again: {fuel:?}");
    assert!(fuel[1].abs_diff(fuel[2]) < 2_000, "and burned no more for what was before: {fuel:?}");
    // Each request has its whole fuel limit, although together they burn more.
    for _ in 0..3 {
        let answer = client.get("again.localhost", "/loop").await;
        assert_eq!(answer.problem(), "fuel-exhausted");
        let record = gateway.record(&answer).await;
        assert!((99_000_000..=100_000_000).contains(&record["fuel"].as_u64().unwrap()), "{record}");
    }
}

#[tokio::test]
async fn a_failed_instance_is_not_reused_and_an_idle_one_is_released() {
    let gateway = Gateway::start(&Site::new().tenant("again", &tenant("again.localhost", 100)));
    assert_eq!(counts(&gateway, "again.localhost", 2).await, ["1", "2"]);
    let trapped = gateway.get("again.localhost", "/trap").await;
    assert_eq!(trapped.problem(), "trap");
    assert_eq!(counts(&gateway, "again.localhost", 1).await, ["1"]);
    // Memory that an instance keeps counts against the limit of the next request.
    let held = gateway.get("again.localhost", "/hold").await;
    gateway.record(&held).await;
    assert_eq!(held.text(), "held");
    let memory = async || gateway.tenant("again").await["usage"]["memory"]["now"].as_u64().unwrap();
    assert!(memory().await > 8 << 20, "it is the tenant's while it rests");
    assert_eq!(gateway.get("again.localhost", "/hold").await.problem(), "memory-exhausted");
    assert_eq!(gateway.get("again.localhost", "/hold").await.text(), "held", "by a new one");
    gateway.quiet().await;
    assert_eq!(memory().await, 0, "what rests for long is given back");
}

#[tokio::test]
async fn new_files_mean_new_instances() {
    let site = Site::new().tenant("again", &tenant("again.localhost", 100));
    let gateway = Gateway::start(&site);
    assert_eq!(counts(&gateway, "again.localhost", 2).await, ["1", "2"]);
    let changed = tenant("again.localhost", 100).with("[env]\nNEW = \"yes\"");
    let generation = gateway.status().await["generation"].as_u64().unwrap();
    let site = site.tenant("again", &changed);
    let is_in_force = async || (gateway.status().await["generation"].as_u64().unwrap() > generation).then_some(());
    tests::until("the new file is in force", is_in_force).await;
    assert_eq!(counts(&gateway, "again.localhost", 2).await, ["1", "2"]);
    drop(site);
}

#[test]
fn reuse_needs_a_component_of_wasi_http_0_3() {
    let tenant = Tenant::new("plain.localhost", "echo").component("reuse = 2");
    let (is_good, said) = tests::checked(&Site::new().tenant("plain", &tenant), &[]);
    assert!(!is_good && said.contains("E0105") && said.contains("wasi:http 0.3"), "{said}");
}
