//! Fair turns with real guests: fuel is shared by weight, and counted to the unit.

use tests::{Gateway, Protocol, Site, Tenant};

const LIMITS: &str = "[limits]\nfuel = \"90000G\"\ntime = \"50s\"";

/// Keeps this many looping guests of each tenant busy until all together have burned `total`. Returns what each tenant
/// burned.
async fn shares(tenants: &[(&'static str, u32, usize)], total: u64) -> Vec<u64> {
    let mut site = Site::new();
    for (id, weight, _) in tenants {
        let tenant = Tenant::new(&format!("{id}.localhost"), "hostile");
        site = site.tenant(id, &tenant.with(&format!("[quota]\nweight = {weight}\n{LIMITS}")));
    }
    let gateway = Gateway::start(&site);
    let mut guests = Vec::new();
    for &(id, _, count) in tenants {
        for _ in 0..count {
            let client = gateway.client(Protocol::H1);
            guests.push(tokio::spawn(async move { client.get(&format!("{id}.localhost"), "/loop").await }));
        }
    }
    let all = guests.len() as f64;
    tests::until("all guests", async || (gateway.metric("tollgate_instances").await == all).then_some(())).await;
    // The first turns, before all guests run, do not count. All values come from one answer, and so from one moment.
    let burned = async || -> Vec<u64> {
        let rows = gateway.tenants().await;
        let of = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap()["fuel_total"].as_u64().unwrap();
        tenants.iter().map(|(id, ..)| of(id)).collect()
    };
    let before = burned().await;
    let since =
        |after: Vec<u64>| -> Vec<u64> { after.iter().zip(&before).map(|(after, before)| after - before).collect() };
    let shares = tests::until("enough fuel", async || {
        let shares = since(burned().await);
        (shares.iter().sum::<u64>() >= total).then_some(shares)
    })
    .await;
    guests.iter().for_each(tokio::task::JoinHandle::abort);
    gateway.quiet().await;
    shares
}

#[tokio::test]
async fn weights_one_and_three_get_one_and_three() {
    let shares = shares(&[("light", 1, 8), ("heavy", 3, 8)], 8_000_000_000).await;
    let ratio = shares[1] as f64 / shares[0] as f64;
    assert!((2.7..=3.3).contains(&ratio), "{shares:?}: {ratio}");
}

#[tokio::test]
async fn ten_equal_tenants_get_equal_shares_however_many_guests_each_has() {
    const IDS: [&str; 10] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"];
    let tenants: Vec<_> = IDS.iter().enumerate().map(|(n, id)| (*id, 1, 1 + n)).collect();
    let shares = shares(&tenants, 10_000_000_000).await;
    let (sum, squares) =
        shares.iter().map(|&share| share as f64).fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    let jain = sum * sum / (10.0 * squares);
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(jain >= 0.99, "{jain}: {shares:?}");
    assert!(*most as f64 / (*least as f64) < 1.1, "{shares:?}");
}

/// The same request burns the same fuel on every run, and all counters have the same sum.
#[tokio::test]
async fn fuel_is_exact_in_the_record_the_metric_and_the_ledger() {
    let site = Site::new()
        .tenant("a", &Tenant::new("a.localhost", "hostile"))
        .tenant("kv", &Tenant::new("kv.localhost", "kv").stores(&["default"]));
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    for (host, path) in [
        ("a", "/ok"),
        ("a", "/burn/100000"),
        ("a", "/chatter"),
        ("a", "/trap"),
        ("kv", "/-/set/key"),
        ("kv", "/-/get/key"),
    ] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let answer = client.get(&format!("{host}.localhost"), path).await;
            seen.insert(gateway.record(&answer).await["fuel"].as_u64().unwrap());
        }
        assert_eq!(seen.len(), 1, "{host}{path} burned {seen:?}");
    }
    gateway.quiet().await;
    for id in ["a", "kv"] {
        let of_tenant = |line: &&serde_json::Value| line["tenant"] == id;
        let records: u64 =
            gateway.log("access").iter().filter(of_tenant).map(|line| line["fuel"].as_u64().unwrap()).sum();
        let ledger = gateway.tenant(id).await["usage"]["fuel_total"].as_u64().unwrap();
        let metric = gateway.metric(&format!("tollgate_fuel_total{{tenant=\"{id}\"}}")).await;
        assert_eq!((records, records as f64), (ledger, metric), "{id}");
    }
}
