//! Hostile and broken guests: each gets its own status and record, and the next requests of all tenants are served.

use http::StatusCode;
use tests::{Answer, Gateway, Protocol, Site, Tenant};

const LIMITS: &str = "[limits]\nfuel = \"200M\"\nmemory = \"48MiB\"\ntime = \"2s\"";

fn start() -> Gateway {
    let hostile = Tenant::new("hostile.localhost", "hostile").with(LIMITS);
    // Endless fuel, so that only the clock can stop it.
    let endless = LIMITS.replace("200M", "9000G").replace("2s", "1s");
    let endless = Tenant::new("endless.localhost", "hostile").with(&endless);
    // So little fuel that even a slow build burns it in time.
    let poor = Tenant::new("poor.localhost", "hostile").with(&LIMITS.replace("200M", "10M"));
    let site = Site::new()
        .tenant("hostile", &hostile)
        .tenant("endless", &endless)
        .tenant("poor", &poor)
        .tenant("good", &Tenant::new("good.localhost", "echo"));
    Gateway::start(&site)
}

/// Returns the result of one request, and checks that the next requests of this tenant and of another are served.
async fn misbehave(gateway: &Gateway, host: &str, path: &str) -> (Answer, serde_json::Value) {
    let answer = gateway.get(host, path).await;
    let record = gateway.record(&answer).await;
    assert_eq!(gateway.get(host, "/ok").await.text(), "ok", "after {path}");
    let good = gateway.client(Protocol::H1).call("POST", "good.localhost", "/", "still here").await;
    assert_eq!(good.text(), "still here", "after {path}");
    (answer, record)
}

#[tokio::test]
async fn each_harm_before_the_head_has_its_own_status_and_record() {
    let gateway = start();
    for (host, path, status, fault) in [
        ("hostile", "/loop", 502, "fuel-exhausted"),
        ("hostile", "/grow", 502, "memory-exhausted"),
        ("hostile", "/deep", 502, "stack-exhausted"),
        ("hostile", "/trap", 502, "trap"),
        ("hostile", "/silent", 502, "no-response"),
        ("hostile", "/exit", 502, "no-response"),
        ("hostile", "/huge-headers", 502, "bad-response"),
        ("hostile", "/headers-without-end", 502, "trap"),
        ("hostile", "/sleep", 504, "deadline"),
        ("endless", "/loop", 504, "deadline"),
        ("endless", "/fill", 504, "deadline"),
        ("hostile", "/fill", 502, "fuel-exhausted"),
        ("hostile", "/status-101", 502, "bad-response"),
        ("hostile", "/status-999", 502, "bad-response"),
        ("hostile", "/many-headers", 502, "trap"),
        ("hostile", "/handles", 502, "trap"),
        ("hostile", "/pollables", 502, "trap"),
        ("poor", "/clock", 502, "fuel-exhausted"),
        ("poor", "/random", 502, "fuel-exhausted"),
        ("hostile", "/random-much", 502, "trap"),
        ("poor", "/logs", 502, "fuel-exhausted"),
        ("hostile", "/small-grows", 502, "memory-exhausted"),
    ] {
        let (answer, record) = misbehave(&gateway, &format!("{host}.localhost"), path).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, fault), "{path}: {}", answer.text());
        let of_record = (record["status"].as_u64().unwrap(), record["fault"].as_str().unwrap());
        assert_eq!(of_record, (u64::from(status), fault), "{path}");
        assert_eq!(record["tenant"], host);
        assert!(!answer.text().contains("hostile"), "a stranger learns nothing: {}", answer.text());
    }
    gateway.quiet().await;
    let record = gateway.record(&gateway.get("hostile.localhost", "/loop").await).await;
    let fuel = record["fuel"].as_u64().unwrap();
    assert!((200_000_000..=200_100_000).contains(&fuel), "all of it and no more: {fuel}");
    let record = gateway.record(&gateway.get("hostile.localhost", "/grow").await).await;
    let peak = record["memory_peak"].as_u64().unwrap();
    assert!((40 << 20..=48 << 20).contains(&peak), "near the limit and never over it: {peak}");
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_complete() {
    let gateway = start();
    for (host, path, begins, fault) in [
        ("hostile", "/trap-in-body", "the first half", "trap"),
        ("hostile", "/endless", "xxxx", "deadline"),
        ("endless", "/drip", "..", "deadline"),
    ] {
        for protocol in [Protocol::H1, Protocol::H2] {
            let host = format!("{host}.localhost");
            let answer = gateway.client(protocol).get(&host, path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {protocol:?}: the head was sent already");
            assert!(answer.torn.is_some(), "{path} {protocol:?}: the client must see that it is torn");
            assert!(answer.text().starts_with(begins), "{path} {protocol:?}: {}", answer.text());
            let record = gateway.record(&answer).await;
            assert_eq!(record["fault"], fault, "{path} {protocol:?}");
        }
    }
}

#[tokio::test]
async fn an_unfinished_body_never_looks_complete() {
    let gateway = start();
    for path in ["/short", "/unfinished", "/long"] {
        for protocol in [Protocol::H1, Protocol::H2] {
            let request = tests::request("GET", "hostile.localhost", path).body(tests::empty()).unwrap();
            // The gateway may answer 502, close the connection before the head, or in the middle.
            if let Ok(response) = gateway.client(protocol).start("hostile.localhost", request).await {
                let answer = tests::read(response).await;
                assert!(answer.torn.is_some() || answer.status == 502, "{path} {protocol:?}: {answer:?}");
            }
            let record = async || gateway.log("access").into_iter().find(|line| line["path"] == path);
            assert_eq!(tests::until("the record", record).await["fault"], "bad-response", "{path} {protocol:?}");
        }
    }
}

/// An endless body costs what the limit allows, whether the guest reads it or not.
#[tokio::test]
async fn an_endless_request_is_refused_at_its_limit() {
    let limits = format!("{LIMITS}\nrequest_body = \"1MiB\"");
    let site = Site::new().tenant("hostile", &Tenant::new("hostile.localhost", "hostile").with(&limits));
    let gateway = Gateway::start(&site);
    for protocol in [Protocol::H1, Protocol::H2] {
        let endless = http_body_util::StreamBody::new(Endless);
        let body = http_body_util::BodyExt::boxed(endless);
        let request = tests::request("POST", "hostile.localhost", "/read-all").body(body).unwrap();
        let answer = gateway.client(protocol).send("hostile.localhost", request).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (413, "body-too-large"), "{protocol:?}");
        let record = gateway.record(&answer).await;
        assert!(record["bytes_in"].as_u64().unwrap() < 2 << 20, "{record}");
    }
    gateway.quiet().await;
}

/// Pieces of an endless body.
struct Endless;

impl futures_core::Stream for Endless {
    type Item = Result<http_body::Frame<bytes::Bytes>, std::io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes::Bytes::from_static(&[b'x'; 4096])))))
    }
}

/// Everything at once, from many clients, repeatedly: afterwards nothing is left.
#[tokio::test]
async fn after_all_harms_nothing_has_leaked() {
    const HARMS: [&str; 22] = [
        "/loop",
        "/fill",
        "/grow",
        "/deep",
        "/trap",
        "/trap-in-body",
        "/huge-headers",
        "/headers-without-end",
        "/unfinished",
        "/silent",
        "/sleep",
        "/drip",
        "/exit",
        "/short",
        "/long",
        "/status-999",
        "/handles",
        "/pollables",
        "/bodies",
        "/clock",
        "/small-grows",
        "/outbound-flood",
    ];
    let gateway = start();
    let round = async || {
        let tasks: Vec<_> = HARMS
            .iter()
            .flat_map(|path| [(*path, Protocol::H1), (*path, Protocol::H2)])
            .map(|(path, protocol)| {
                let client = gateway.client(protocol);
                tokio::spawn(async move {
                    let request = tests::request("GET", "hostile.localhost", path).body(tests::empty()).unwrap();
                    // Some connections are closed before an answer.
                    if let Ok(response) = client.start("hostile.localhost", request).await {
                        tests::read(response).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        gateway.quiet().await;
        tests::until("closed connections", async || {
            (gateway.metric("tollgate_connections ").await == 0.0).then_some(())
        })
        .await;
    };
    // The first rounds fill caches and warm up slots.
    round().await;
    round().await;
    let (descriptors, (resident, _)) = (gateway.descriptors(), gateway.resident());
    for _ in 0..3 {
        round().await;
    }
    tests::until("as few descriptors as before", async || (gateway.descriptors() <= descriptors).then_some(())).await;
    // The allocator returns free memory in its own time.
    tests::until("as little memory as before", async || {
        let (now, _) = gateway.resident();
        (now < resident + (64 << 20)).then_some(())
    })
    .await;
    assert_eq!(gateway.get("good.localhost", "/head").await.status.as_u16(), 200);
}

/// Memory that a guest makes the host keep although nobody reads it.
#[tokio::test]
async fn bodies_that_nobody_reads_use_little_memory() {
    let gateway = start();
    let (before, _) = gateway.resident();
    for _ in 0..20 {
        let request = tests::request("GET", "hostile.localhost", "/bodies").body(tests::empty()).unwrap();
        // The guest may run out of resources itself; its result does not matter here.
        if let Ok(response) = gateway.client(Protocol::H2).start("hostile.localhost", request).await {
            tests::read(response).await;
        }
    }
    let (_, peak) = gateway.resident();
    assert!(peak < before + (100 << 20), "{before} before, {peak} at the most");
}

#[tokio::test]
async fn work_after_the_response_is_ended_by_the_deadline_and_not_seen_by_the_client() {
    let gateway = start();
    let (answer, record) = misbehave(&gateway, "endless.localhost", "/linger").await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "done, but not gone"));
    assert_eq!((answer.torn, record["fault"].as_str()), (None, Some("deadline")));
}

#[tokio::test]
async fn a_hundred_loops_at_once_leave_the_others_served() {
    let gateway = start();
    let loops: Vec<_> = (0..60)
        .map(|_| {
            let client = gateway.client(Protocol::H1);
            tokio::spawn(async move { client.get("endless.localhost", "/loop").await.status.as_u16() })
        })
        .collect();
    for n in 0..20 {
        let answer = gateway.client(Protocol::H2).call("POST", "good.localhost", "/", n.to_string()).await;
        assert_eq!(answer.text(), n.to_string());
    }
    for looped in loops {
        assert_eq!(looped.await.unwrap(), 504);
    }
    assert_eq!(gateway.metric("tollgate_instances").await, 0.0, "every instance was given back");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_instance() {
    let gateway = start();
    for path in ["/sleep", "/drip"] {
        let client = gateway.client(Protocol::H2);
        let task = tokio::spawn(async move { client.get("hostile.localhost", path).await });
        tests::until("an instance", async || (gateway.metric("tollgate_instances").await > 0.0).then_some(())).await;
        task.abort();
        let ended = std::time::Instant::now();
        tests::until("no instance", async || (gateway.metric("tollgate_instances").await == 0.0).then_some(())).await;
        assert!(ended.elapsed() < tests::PATIENCE);
        let record = async || gateway.log("access").into_iter().find(|line| line["path"] == path);
        assert_eq!(tests::until("the record", record).await["fault"], "client-gone", "{path}");
    }
}

#[tokio::test]
async fn a_guests_output_goes_to_its_tenants_log_within_limits() {
    let site = Site::new().tenant("hostile", &Tenant::new("hostile.localhost", "hostile").with(LIMITS));
    let gateway = Gateway::start(&site);
    let answer = gateway.get("hostile.localhost", "/chatter").await;
    assert_eq!(answer.text(), "said it");
    gateway.get("hostile.localhost", "/trap").await;
    let path = site.path("state/logs/hostile.log");
    let text = tests::until("the log", async || {
        std::fs::read_to_string(&path).ok().filter(|text| text.contains("unreachable") && text.ends_with('\n'))
    })
    .await;
    assert!(!text.contains('\u{1b}'), "control bytes are escaped");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let out = lines.iter().filter(|line| line["stream"] == "stdout").count();
    assert_eq!(out, 1000, "999 lines and one that says that the rest was dropped");
    assert_eq!(lines[0]["request_id"], answer.header("x-request-id"));
    assert!(lines.iter().all(|line| line["text"].as_str().unwrap().len() <= 4096 + 50));
}
