//! Tenants side by side: one tenant's problem affects no other.

use tests::{Gateway, Protocol, Site, Tenant};

#[tokio::test]
async fn one_broken_tenant_of_five_is_left_out_and_the_four_serve() {
    let mut site = Site::new();
    for id in ["one", "two", "four", "five"] {
        site = site.tenant(id, &Tenant::new(&format!("{id}.localhost"), "echo"));
    }
    let broken = Tenant::new("three.localhost", "echo").with("[limits]\nmemroy = \"64MiB\"");
    let gateway = Gateway::start(&site.tenant("three", &broken));
    for id in ["one", "two", "four", "five"] {
        assert_eq!(gateway.get(&format!("{id}.localhost"), "/head").await.status.as_u16(), 200, "{id}");
    }
    let three = gateway.tenant("three").await;
    assert_eq!(three["standing"], "broken");
    let why = three["problems"][0].as_str().unwrap();
    assert!(why.contains("three/tenant.toml:4:1: `limits.memroy` is not a key [E0102 unknown-key]"), "{why}");
    assert_eq!(gateway.problems().await[0]["hint"], "did you mean `memory`?");
    let counts = gateway.status().await["tenants"].clone();
    assert_eq!((&counts["serving"], &counts["broken"]), (&4.into(), &1.into()));
    let logged = async || gateway.log("config").into_iter().find(|line| line["tenant"] == "three");
    tests::until("the reason in the log", logged).await;
    assert!(gateway.announced.starts_with("https  "), "{}", gateway.announced);
}

#[tokio::test]
async fn a_tenant_at_its_quota_is_refused_and_the_others_are_not() {
    let limits = "[quota]\nin_flight = 2\n[limits]\ntime = \"20s\"";
    let site = Site::new()
        .tenant("busy", &Tenant::new("busy.localhost", "hostile").with(limits))
        .tenant("idle", &Tenant::new("idle.localhost", "echo"));
    let gateway = Gateway::start(&site);
    let held: Vec<_> = (0..2)
        .map(|_| {
            let client = gateway.client(Protocol::H2);
            tokio::spawn(async move { client.get("busy.localhost", "/sleep").await })
        })
        .collect();
    tests::until("two instances", async || (gateway.metric("tollgate_instances").await == 2.0).then_some(())).await;
    let refused = gateway.get("busy.localhost", "/ok").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (429, "quota-in-flight"));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(gateway.get("idle.localhost", "/head").await.status.as_u16(), 200);
    held.iter().for_each(tokio::task::JoinHandle::abort);
    tests::until("the door", async || (gateway.get("busy.localhost", "/ok").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_burst_waits_for_places_if_its_quota_allows() {
    let tenant = |host: &str, waiting: u32| {
        Tenant::new(host, "hostile").with(&format!("[quota]\nin_flight = 2\nwaiting = {waiting}"))
    };
    let site =
        Site::new().tenant("waits", &tenant("waits.localhost", 20)).tenant("refused", &tenant("refused.localhost", 0));
    let gateway = Gateway::start(&site);
    let burst = async |host: &'static str| {
        let client = gateway.client(Protocol::H2);
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let client = client.clone();
            asked.spawn(async move { client.get(host, "/hold/0/50").await });
        }
        asked.join_all().await.iter().filter(|answer| answer.status == 200).count()
    };
    assert_eq!(gateway.get("refused.localhost", "/ok").await.status, 200);
    assert_eq!(burst("waits.localhost").await, 20);
    assert!(burst("refused.localhost").await < 20);
}

#[tokio::test]
async fn a_limited_number_of_guests_may_work_on_without_keeping_others_out() {
    let limits = "[quota]\nin_flight = 1\nwaiting = 0\n[limits]\nfuel = \"1000G\"\ntime = \"60s\"";
    let site = Site::new().tenant("busy", &Tenant::new("busy.localhost", "hostile").with(limits));
    let gateway = Gateway::start(&site);
    let in_flight = async |count| {
        let now = async || (gateway.tenant("busy").await["usage"]["in_flight"]["now"] == count).then_some(());
        tests::until("the place", now).await;
    };
    assert_eq!(gateway.get("busy.localhost", "/linger").await.text(), "done, but not gone");
    in_flight(0).await;
    assert_eq!(gateway.metric("tollgate_instances").await, 1.0, "it is not gone");
    assert_eq!(gateway.get("busy.localhost", "/ok").await.status, 200);
    assert_eq!(gateway.get("busy.localhost", "/linger").await.text(), "done, but not gone");
    // As many of these as allowed are in progress, so this one keeps its place.
    in_flight(1).await;
    assert_eq!(gateway.get("busy.localhost", "/ok").await.problem(), "quota-in-flight");
}

#[tokio::test]
async fn a_full_pool_makes_a_request_wait_and_then_refuses_it() {
    let limits = "[limits]\ntime = \"20s\"";
    let site = Site::new()
        .tenant("busy", &Tenant::new("busy.localhost", "hostile").with(limits))
        .tenant("idle", &Tenant::new("idle.localhost", "echo"))
        .gateway("[sandbox]\ninstances = 2\nwait = \"700ms\"\nwaiting = 10");
    let gateway = Gateway::start(&site);
    let hold = || {
        let client = gateway.client(Protocol::H2);
        tokio::spawn(async move { client.get("busy.localhost", "/sleep").await })
    };
    let held = [hold(), hold()];
    tests::until("two instances", async || (gateway.metric("tollgate_instances").await == 2.0).then_some(())).await;
    let refused = gateway.get("idle.localhost", "/head").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "overload"));
    assert_eq!(refused.header("retry-after"), "1");
    let waited = gateway.record(&refused).await["duration_us"].as_u64().unwrap();
    assert!(waited >= 700_000, "it waited for its time: {waited}");
    held.iter().for_each(tokio::task::JoinHandle::abort);
    tests::until("a slot", async || (gateway.get("idle.localhost", "/head").await.status == 200).then_some(())).await;
}

/// More requests than instances and places: the tenant that holds most is shed, one that holds little is served, operators
/// can watch meanwhile, and nothing is left afterwards.
#[tokio::test]
async fn a_flood_sheds_the_tenant_that_floods() {
    let limits = "[limits]\ntime = \"400ms\"\n[quota]\nin_flight = 200\nwaiting = 200";
    let site = Site::new()
        .tenant("flood", &Tenant::new("flood.localhost", "hostile").with(limits))
        .tenant("calm", &Tenant::new("calm.localhost", "echo"))
        .gateway("[sandbox]\ninstances = 4\nwaiting = 20\nwait = \"10s\"");
    let gateway = Gateway::start(&site);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flood: Vec<_> = (0..100)
        .map(|_| {
            let (client, stop) = (gateway.client(Protocol::H1), std::sync::Arc::clone(&stop));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let answer = client.get("flood.localhost", "/sleep").await;
                    seen.push((answer.status.as_u16(), answer.problem()));
                }
                seen
            })
        })
        .collect();
    tests::until("a full queue", async || (gateway.status().await["waiting"].as_u64() >= Some(20)).then_some(())).await;
    for n in 0..30 {
        let answer = gateway.get("calm.localhost", "/head").await;
        assert_eq!(answer.status.as_u16(), 200, "{n}: it waits for the next free instance at the most");
        assert_eq!(gateway.admin("/healthz").await, "ok\n");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut shed = 0;
    for task in flood {
        for (status, problem) in task.await.unwrap() {
            assert!([(503, "overload"), (504, "deadline")].contains(&(status, problem.as_str())), "{status} {problem}");
            shed += usize::from(status == 503);
        }
    }
    assert!(shed > 0);
    gateway.quiet().await;
    assert_eq!(gateway.get("flood.localhost", "/ok").await.text(), "ok");
}

#[tokio::test]
async fn environment_and_secrets_reach_only_their_own_guest() {
    let one =
        Tenant::new("one.localhost", "echo").with("[env]\nMODE = \"prod\"\n[secrets]\nTOKEN = { file = \"token\" }");
    let site = Site::new()
        .tenant("one", &one)
        .file("tenants/one/token", "s3cret\n")
        .tenant("two", &Tenant::new("two.localhost", "echo"));
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.get("one.localhost", "/env/MODE").await.text(), "prod");
    assert_eq!(gateway.get("one.localhost", "/env/TOKEN").await.text(), "s3cret");
    for name in ["MODE", "TOKEN", "PATH", "HOME"] {
        assert_eq!(gateway.get("two.localhost", &format!("/env/{name}")).await.text(), "(not set)", "{name}");
    }
    assert!(![gateway.admin("/v1/problems").await, gateway.admin("/v1/status").await].concat().contains("s3cret"));
}

#[tokio::test]
async fn wildcard_hosts_routes_and_certificates_from_files() {
    let (certificate, key) = {
        let made = rcgen::generate_simple_self_signed(vec!["shop.localhost".to_owned(), "*.shop.localhost".to_owned()]);
        let made = made.unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let text = format!(
        "schema = 1\nhosts = [\"shop.localhost\", \"*.shop.localhost\"]\ntls = {{ cert = \"c.pem\", key = \"k.pem\" }}\n\
         [[component]]\nname = \"a\"\nsource = \"{}\"\n[[component]]\nname = \"b\"\nsource = \"{}\"\n\
         [[route]]\npath = \"/b/:id\"\ncomponent = \"b\"\n[[route]]\npath = \"/...\"\ncomponent = \"a\"\n\
         [[route]]\npath = \"/small\"\ncomponent = \"a\"\nlimits = {{ request_body = \"10B\" }}\n",
        tests::guest("echo").display(),
        tests::guest("hostile").display()
    );
    let site = Site::new()
        .file("tenants/shop/tenant.toml", text)
        .file("tenants/shop/c.pem", &certificate)
        .file("tenants/shop/k.pem", key)
        .gateway("[tls]\ncertificates = \"files\"");
    let gateway = Gateway::start(&site);
    let client = tests::Client::new(gateway.https, certificate.as_bytes(), Protocol::H2);
    for host in ["shop.localhost", "any.shop.localhost"] {
        assert!(client.get(host, "/head").await.text().starts_with(&format!("GET https://{host}/head")));
        assert_eq!(client.get(host, "/b/7").await.text(), "unknown path: /b/7", "the other component");
        let small = client.call("POST", host, "/small", "more than ten").await;
        assert_eq!(small.status.as_u16(), 413, "the route's own limit");
        let timing = client.get(host, "/head").await;
        assert_eq!(timing.header("server-timing"), "", "only with development certificates");
    }
}
