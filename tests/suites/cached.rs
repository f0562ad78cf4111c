//! Kept responses: what they save, what they never do, and for whom they are.

use http_body_util::{BodyExt as _, Full};
use tests::{Answer, Client, Gateway, Protocol, Site, Tenant, request};

fn site() -> Site {
    let kept = |host: &str| Tenant::new(host, "echo").with("compress = [\"gzip\"]\n[quota]\ncache = \"1MiB\"");
    Site::new()
        .tenant("kept", &kept("kept.localhost"))
        .tenant("other", &kept("other.localhost"))
        .tenant("plain", &Tenant::new("plain.localhost", "echo"))
}

/// Requests `/say` with these fields.
async fn say(client: &Client, method: &str, host: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = request(method, host, path).header("say-bytes", "3000").header("say-content-type", "text/plain");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(host, request.body(tests::empty()).unwrap()).await
}

const MINUTE: (&str, &str) = ("say-cache-control", "max-age=60");

#[tokio::test]
async fn a_cacheable_response_is_kept_for_its_tenant_alone() {
    let gateway = Gateway::start(&site());
    let client = gateway.client(Protocol::H2);
    let get = async |host: &str, path: &str, fields: &[(&str, &str)]| say(&client, "GET", host, path, fields).await;
    let first = get("kept.localhost", "/say?a", &[MINUTE]).await;
    assert_eq!(first.header("cache-status"), "tollgate; fwd=miss; stored");
    let second = get("kept.localhost", "/say?a", &[MINUTE]).await;
    assert_eq!(second.header("x-moment"), first.header("x-moment"));
    assert!(second.header("cache-status").starts_with("tollgate; hit; ttl="), "{second:?}");
    assert_eq!((second.header("age"), &second.body), ("0", &first.body));
    let record = gateway.record(&second).await;
    assert_eq!((&record["fuel"], &record["tenant"], &record["bytes_out"]), (&0.into(), &"kept".into(), &3000.into()));
    // Over either HTTP version, and compressed if the client accepts it.
    let old =
        say(&gateway.client(Protocol::H1), "GET", "kept.localhost", "/say?a", &[("accept-encoding", "gzip")]).await;
    assert_eq!((old.header("x-moment"), old.header("content-encoding")), (first.header("x-moment"), "gzip"));
    let head = say(&client, "HEAD", "kept.localhost", "/say?a", &[]).await;
    assert_eq!((head.header("x-moment"), head.header("content-length")), (first.header("x-moment"), "3000"));
    // Another target, another tenant, a tenant without a cache, and a response without cache directives.
    for (host, path, fields) in [
        ("kept.localhost", "/say?b", &[MINUTE][..]),
        ("other.localhost", "/say?a", &[MINUTE]),
        ("plain.localhost", "/say?a", &[MINUTE]),
        ("kept.localhost", "/say?c", &[]),
    ] {
        let one = get(host, path, fields).await;
        assert_ne!(one.header("x-moment"), first.header("x-moment"), "{host}{path}");
    }
    let (one, two) =
        (get("plain.localhost", "/say?a", &[MINUTE]).await, get("plain.localhost", "/say?a", &[MINUTE]).await);
    assert_ne!(one.header("x-moment"), two.header("x-moment"));
    assert_eq!(one.header("cache-status"), "");
    let hits = gateway.metric("tollgate_cache_requests_total{tenant=\"kept\",outcome=\"hit\"}").await;
    assert_eq!(hits, 3.0);
}

#[tokio::test]
async fn a_client_cannot_poison_the_cache_for_others() {
    let gateway = Gateway::start(&site());
    let client = gateway.client(Protocol::H2);
    let host = "kept.localhost";
    // A body, which the target does not identify.
    let body = Full::from("poison").map_err(|never| match never {}).boxed();
    let fat = request("GET", host, "/say?fat").header(MINUTE.0, MINUTE.1).body(body).unwrap();
    let fat = client.send(host, fat).await;
    assert_eq!(fat.header("cache-status"), "tollgate; fwd=miss", "it is nobody's but the sender's");
    let next = say(&client, "GET", host, "/say?fat", &[MINUTE]).await;
    assert_ne!(next.header("x-moment"), fat.header("x-moment"));
    // With a password, unless the response says that it is for everybody.
    let own = say(&client, "GET", host, "/say?own", &[MINUTE, ("authorization", "Basic eA==")]).await;
    let next = say(&client, "GET", host, "/say?own", &[MINUTE]).await;
    assert_ne!(next.header("x-moment"), own.header("x-moment"));
    // A cookie belongs to one client.
    let set = say(&client, "GET", host, "/say?set", &[MINUTE, ("say-set-cookie", "id=1")]).await;
    let next = say(&client, "GET", host, "/say?set", &[MINUTE]).await;
    assert_ne!(next.header("x-moment"), set.header("x-moment"));
    // The response varies by the field that it names.
    let vary = ("say-vary", "x-who");
    let ada = say(&client, "GET", host, "/say?vary", &[MINUTE, vary, ("x-who", "ada")]).await;
    let bob = say(&client, "GET", host, "/say?vary", &[MINUTE, vary, ("x-who", "bob")]).await;
    assert_ne!(ada.header("x-moment"), bob.header("x-moment"));
    let again = say(&client, "GET", host, "/say?vary", &[("x-who", "ada")]).await;
    assert_eq!(again.header("x-moment"), ada.header("x-moment"));
}

#[tokio::test]
async fn kept_responses_are_dropped_after_changes_purges_and_time() {
    let site = site();
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    let host = "kept.localhost";
    let get = async |path: &str, fields: &[(&str, &str)]| {
        say(&client, "GET", host, path, fields).await.header("x-moment").to_owned()
    };
    let first = get("/say?x", &[MINUTE]).await;
    assert_eq!(say(&client, "POST", host, "/say?x", &[("say-status", "500")]).await.status.as_u16(), 500);
    assert_eq!(get("/say?x", &[MINUTE]).await, first, "a change that failed is none");
    let body = Full::from("news").map_err(|never| match never {}).boxed();
    client.send(host, request("PUT", host, "/say?x").body(body).unwrap()).await;
    let second = get("/say?x", &[MINUTE]).await;
    assert_ne!(second, first);
    // By the operator: the other tenant's responses stay.
    let others = say(&client, "GET", "other.localhost", "/say?x", &[MINUTE]).await.header("x-moment").to_owned();
    let news = get("/say/news?x", &[MINUTE]).await;
    let port = gateway.https.port();
    let under = format!("https://{host}:{port}/say/news");
    let (code, said) = gateway.tell(&site, &["cache", "purge", "--tenant", "kept", &under]);
    assert_eq!((code, said.trim()), (Some(0), "0 URLs of kept deleted from the cache"), "the client says no port");
    let under = format!("https://{host}/say/news");
    let (code, said) = gateway.tell(&site, &["cache", "purge", "--tenant", "kept", &under]);
    assert_eq!((code, said.trim()), (Some(0), "1 URLs of kept deleted from the cache"));
    assert_ne!(get("/say/news?x", &[MINUTE]).await, news);
    assert_eq!(get("/say?x", &[MINUTE]).await, second);
    let (_, said) = gateway.tell(&site, &["cache", "purge", "--tenant", "kept"]);
    assert_eq!(said.trim(), "2 URLs of kept deleted from the cache");
    assert_ne!(get("/say?x", &[MINUTE]).await, second);
    assert_eq!(say(&client, "GET", "other.localhost", "/say?x", &[MINUTE]).await.header("x-moment"), others);
    // With time: served stale, once, while it is fetched again.
    let brief = ("say-cache-control", "max-age=1, stale-while-revalidate=60");
    let first = get("/say?brief", &[brief]).await;
    tests::until("another", async || (get("/say?brief", &[brief]).await != first).then_some(())).await;
    let stale = "tollgate_cache_requests_total{tenant=\"kept\",outcome=\"stale\"}";
    assert_eq!(gateway.metric(stale).await, 1.0);
    let only = say(&client, "GET", host, "/say?never", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(only.status.as_u16(), 504);
    let usage = gateway.tenant("kept").await["cache"].clone();
    assert!(usage["now"].as_u64().unwrap() > 3000 && usage["max"] == 1 << 20, "{usage}");
}

#[tokio::test]
async fn a_cache_hit_counts_as_a_request() {
    let few = "[quota]\ncache = \"1MiB\"\nrequests = { rate = 1, per = \"1h\", burst = 2 }";
    let site = Site::new().tenant("few", &Tenant::new("few.localhost", "echo").with(few));
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    for status in [200, 200, 429] {
        assert_eq!(say(&client, "GET", "few.localhost", "/say", &[MINUTE]).await.status.as_u16(), status);
    }
    let (code, _) = gateway.tell(&site, &["tenant", "suspend", "few"]);
    assert_eq!(code, Some(0));
    assert_eq!(say(&client, "GET", "few.localhost", "/say", &[MINUTE]).await.status.as_u16(), 503);
    gateway.quiet().await;
}
