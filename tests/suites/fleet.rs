//! Several gateways on one Redis apply a tenant's rates together.

use std::time::{Duration, Instant};

use tests::{Gateway, Protocol, Redis, Site, Tenant};

const RATE: u64 = 40;
const GATEWAYS: u64 = 3;
const TIME: Duration = Duration::from_secs(4);

fn site(more: &str) -> Site {
    let quota = format!("[quota]\nin_flight = 200\nrequests = {{ rate = {RATE}, per = \"1s\", burst = {RATE} }}");
    let echo = Tenant::new("a.localhost", "echo").with(&quota);
    Site::new().tenant("a", &echo).tenant("b", &Tenant::new("b.localhost", "echo")).gateway(more)
}

fn start(url: &str, more: &str) -> Vec<Gateway> {
    (0..GATEWAYS).map(|_| Gateway::start_with(&site(more), &["--storage", url])).collect()
}

/// How many requests all gateways admitted together, at twice the allowed rate, and in what time.
async fn admitted(gateways: &[Gateway]) -> (u64, f64) {
    let start = Instant::now();
    let clients = gateways.iter().map(|gateway| {
        let client = gateway.client(Protocol::H2);
        tokio::spawn(async move {
            let mut admitted = 0;
            while start.elapsed() < TIME {
                let status = client.get("a.localhost", "/ok").await.status.as_u16();
                assert!(matches!(status, 200 | 429), "{status}");
                admitted += u64::from(status == 200);
                tokio::time::sleep(Duration::from_millis(1000 / (RATE * 2))).await;
            }
            admitted
        })
    });
    let mut sum = 0;
    for client in clients.collect::<Vec<_>>() {
        sum += client.await.unwrap();
    }
    (sum, start.elapsed().as_secs_f64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_applies_to_all_gateways_on_one_redis() {
    let redis = Redis::start();
    let url = redis.url();
    let gateways = start(&url, "");
    let (sum, seconds) = admitted(&gateways).await;
    // The refill, one burst, and what the others give before they hear of it: at most a burst each.
    let most = RATE as f64 * (seconds + GATEWAYS as f64);
    assert!((sum as f64) <= most, "{sum} in {seconds:.1} s, and {most:.0} is the most");
    // A debt is paid before more is given, and everything available is given.
    assert!((sum as f64) >= RATE as f64 * seconds * 0.6, "{sum} in {seconds:.1} s is too little");
    assert_eq!(gateways[0].metric("tollgate_fleet_gateways").await, GATEWAYS as f64);
    assert_eq!(gateways[1].get("b.localhost", "/ok").await.status.as_u16(), 200, "another tenant's rates are its own");
    drop(gateways);
    let known = |key: &str| ["tg:{a}:q:rates", "tg:{+}:hosts"].contains(&key);
    assert!(redis.cli(&["KEYS", "*"]).lines().all(known), "{}", redis.cli(&["KEYS", "*"]));

    let gateways = start(&url, "[storage]\nshare_rates = false");
    let (sum, seconds) = admitted(&gateways).await;
    let one = RATE as f64 * (seconds + 1.0);
    assert!(sum as f64 > one * 2.0, "without that, each gives it all: {sum} in {seconds:.1} s");
}

/// While Redis is unreachable, each gateway gives only its share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_divided_while_redis_is_unreachable() {
    let mut redis = Redis::start();
    let url = redis.url();
    let gateways = start(&url, "");
    let (_, _) = admitted(&gateways).await;
    redis.stop();
    let (sum, seconds) = admitted(&gateways).await;
    let most = RATE as f64 * (seconds + GATEWAYS as f64);
    assert!((sum as f64) <= most, "{sum} in {seconds:.1} s, and {most:.0} is the most");
    assert!(sum > 0, "its share is given all the same");
}
