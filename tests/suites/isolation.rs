//! The isolation matrix: every host call that takes a name or a key, tried by one tenant on what is another's.
//!
//! A new host call gets its line here. Outbound HTTP, sockets and files have no grants yet: there is nothing to reach.

use tests::{Gateway, Protocol, Redis, Site, Tenant};

/// Every call of the key-value guest, with a value, and what it says where nothing is.
const CALLS: [(&str, &str, &str); 11] = [
    ("get", "", "(none)"),
    ("exists", "", "false"),
    ("list", "", "0 or 1 pages: "),
    ("get-many", "secret", "(none)"),
    ("set", "mine", "set"),
    ("set-many", "secret=mine", "set 1"),
    ("delete", "", "deleted"),
    ("delete-many", "secret", "deleted"),
    ("increment", "1", "1"),
    ("cas-add", "", "1 after 0"),
    ("cas-beaten", "", "beaten by meanwhile"),
];

#[tokio::test]
async fn no_call_of_one_tenant_sees_or_changes_what_is_anothers() {
    for redis in [false, true] {
        let site = Site::new()
            .tenant("victim", &Tenant::new("victim.localhost", "kv").stores(&["default"]))
            .tenant("thief", &Tenant::new("thief.localhost", "kv").stores(&["default"]));
        let redis = redis.then(Redis::start);
        let storage = redis.as_ref().map_or_else(|| "embedded".to_owned(), Redis::url);
        let gateway = Gateway::start_with(&site, &["--storage", &storage]);
        let client = gateway.client(Protocol::H2);
        client.call("POST", "victim.localhost", "/-/set/secret", "the secret").await;
        for (call, value, nothing) in CALLS {
            let path = format!("/-/{call}/secret");
            let answer = client.call("POST", "thief.localhost", &path, value).await.text();
            let as_if_empty = answer == nothing || (call == "list" && answer.ends_with("pages: "));
            assert!(as_if_empty, "{call} on {storage}: {answer}");
            // The thief's own traces go, so that the next call starts from nothing too.
            client.call("POST", "thief.localhost", "/-/delete/secret", "").await;
            let kept = client.get("victim.localhost", "/-/get/secret").await.text();
            assert_eq!(kept, "the secret", "{call} on {storage}");
        }
    }
}

#[tokio::test]
async fn no_spelling_of_a_store_or_key_leaves_the_tenants_own() {
    let site = Site::new()
        .tenant("victim", &Tenant::new("victim.localhost", "kv").stores(&["default"]))
        .tenant("thief", &Tenant::new("thief.localhost", "kv").stores(&["default"]));
    let redis = Redis::start();
    let gateway = Gateway::start_with(&site, &["--storage", &redis.url()]);
    let client = gateway.client(Protocol::H2);
    client.call("POST", "victim.localhost", "/-/set/secret", "the secret").await;
    for store in ["tg:{victim}:kv:default", "..", "victim", "default}", "*", "DEFAULT", "default%00", "victim:default"]
    {
        let path = format!("/{store}/get/secret").replace('{', "%7B").replace('}', "%7D");
        let answer = client.get("thief.localhost", &path).await;
        assert_eq!(answer.text(), "Error::NoSuchStore", "{store}");
    }
    for key in ["tg:{victim}:kv:default", "*", "..%2Fvictim", "{victim}secret", "a%0D%0AGET%20b"] {
        let path = format!("/-/get/{}", key.replace('{', "%7B").replace('}', "%7D"));
        assert_eq!(client.get("thief.localhost", &path).await.text(), "(none)", "{key}");
    }
}
