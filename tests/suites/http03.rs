//! Components of wasi:http 0.3, whose bodies are produced only while the instance runs.

use tests::{Gateway, Protocol, Site, Tenant};

fn start() -> Gateway {
    let of = |host: &str, guest: &str| Tenant::new(host, guest).with("[limits]\nfuel = \"100M\"\ntime = \"5s\"");
    let site = Site::new()
        .tenant("async", &of("async.localhost", "async-hello"))
        .tenant("newest", &of("newest.localhost", "async-hello-newest"));
    Gateway::start(&site)
}

#[tokio::test]
async fn an_async_component_answers_and_echoes() {
    let gateway = start();
    // The newest guest uses wasi:http 0.3.2.
    for (protocol, host) in
        [(Protocol::H1, "async.localhost"), (Protocol::H2, "async.localhost"), (Protocol::H2, "newest.localhost")]
    {
        let client = gateway.client(protocol);
        let answer = client.get(host, "/").await;
        assert_eq!((answer.text().as_str(), &answer.torn), ("Hello from wasi:http 0.3", &None), "{protocol:?} {host}");
        let body = vec![b'e'; 300_000];
        let echoed = client.call("POST", host, "/echo", body.clone()).await;
        assert_eq!((echoed.body.len(), echoed.torn), (body.len(), None), "{protocol:?} {host}");
    }
}

#[tokio::test]
async fn an_async_component_that_fails_gets_its_own_status() {
    let gateway = start();
    for (path, fault) in [("/trap", "trap"), ("/loop", "fuel-exhausted"), ("/error", "no-response")] {
        let answer = gateway.get("async.localhost", path).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, fault), "{path}");
        assert_eq!(gateway.record(&answer).await["fault"], fault, "{path}");
    }
}

#[tokio::test]
async fn an_async_body_that_breaks_off_never_looks_complete() {
    let gateway = start();
    for protocol in [Protocol::H1, Protocol::H2] {
        let request = tests::request("GET", "async.localhost", "/trap-in-body").body(tests::empty()).unwrap();
        // The stream may be reset before the head or in the middle.
        if let Ok(response) = gateway.client(protocol).start("async.localhost", request).await {
            let answer = tests::read(response).await;
            assert!(answer.torn.is_some() || answer.status == 502, "{protocol:?}: {answer:?}");
        }
        let record = async || gateway.log("access").into_iter().find(|line| line["path"] == "/trap-in-body");
        assert_eq!(tests::until("the record", record).await["fault"], "trap", "{protocol:?}");
    }
}
