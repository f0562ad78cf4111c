//! The isolation matrix: every host call with a name or a key, tried by one tenant on another tenant's data.
//!
//! A new host call needs a row here. `app_http` tests files, private routes and requests to oneself, `budget` what all of
//! those may use together, and `egress` outbound HTTP. Sockets have no grants: there is nothing to reach.

use tests::{Gateway, Protocol, Redis, Site, Storage, Tenant};

/// Every call of the key-value guest, with a value, and its answer if nothing is there.
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
async fn no_call_of_one_tenant_sees_or_changes_another_tenants_data() {
    for storage in Storage::each() {
        let site = Site::new()
            .tenant("victim", &Tenant::new("victim.localhost", "kv").stores(&["default"]))
            .tenant("thief", &Tenant::new("thief.localhost", "kv").stores(&["default"]))
            .tenant("draft", &Tenant::new("draft.localhost", "kv-draft").stores(&["default"]));
        let storage_url = storage.url();
        let gateway = Gateway::start_with(&site, &["--storage", &storage_url]);
        gateway.storage().await;
        let client = gateway.client(Protocol::H2);
        client.call("POST", "victim.localhost", "/-/set/secret", "the secret").await;
        let of_draft = CALLS.iter().filter(|(call, ..)| !call.starts_with("cas-"));
        let of_draft = of_draft.chain(&[("get-many-of-spin", "secret", "secret=(none)")]);
        let calls = CALLS.iter().map(|call| ("thief.localhost", call));
        for (thief, &(call, value, nothing)) in calls.chain(of_draft.map(|call| ("draft.localhost", call))) {
            let path = format!("/-/{call}/secret");
            let answer = client.call("POST", thief, &path, value).await.text();
            let as_if_empty = answer == nothing || (call == "list" && answer.ends_with("pages: "));
            assert!(as_if_empty, "{call} of {thief} on {storage_url}: {answer}");
            // Removes the thief's own data, so that the next call starts from nothing too.
            client.call("POST", thief, "/-/delete/secret", "").await;
            let kept = client.get("victim.localhost", "/-/get/secret").await.text();
            assert_eq!(kept, "the secret", "{call} on {storage_url}");
        }
    }
}

/// Every call of Spin's interfaces on a key called `secret`, with further arguments, and its answer if nothing is there.
const SPIN_CALLS: [(&str, &[&str], &str); 25] = [
    ("kv1/get/default", &["secret"], "Error::NoSuchKey"),
    ("kv1/exists/default", &["secret"], "false"),
    ("kv1/get-keys/default", &[], ""),
    ("kv1/set/default", &["secret", "mine"], "set"),
    ("kv1/delete/default", &["secret"], "deleted"),
    ("kv2/get/default", &["secret"], "(none)"),
    ("kv2/exists/default", &["secret"], "false"),
    ("kv2/get-keys/default", &[], ""),
    ("kv2/set/default", &["secret", "mine"], "set"),
    ("kv2/delete/default", &["secret"], "deleted"),
    ("redis1/get/granted", &["secret"], ""),
    ("redis1/set/granted", &["secret", "mine"], "set"),
    ("redis1/del/granted", &["secret"], "1"),
    ("redis1/incr/granted", &["secret"], "1"),
    ("redis1/publish/granted", &["secret", "mine"], "published"),
    ("redis1/execute/granted", &["GETDEL", "secret"], "bytes 31"),
    ("redis2/get/granted", &["secret"], "(none)"),
    ("redis2/set/granted", &["secret", "mine"], "set"),
    ("redis2/del/granted", &["secret"], "1"),
    ("redis2/sadd/granted", &["secret", "mine"], "1"),
    ("redis2/smembers/granted", &["secret"], "mine"),
    ("redis2/srem/granted", &["secret", "mine"], "1"),
    ("redis2/incr/granted", &["secret"], "1"),
    ("redis2/execute/granted", &["DEL", "secret"], "int 1"),
    ("redis2/publish/granted", &["secret", "mine"], "published"),
];

#[tokio::test]
async fn no_call_of_spins_interfaces_sees_or_changes_another_tenants_data() {
    for storage in Storage::each() {
        let tenant = |host, guest| Tenant::new(host, guest).stores(&["default"]).redis(&["redis://granted:6379"]);
        let site = Site::new()
            .tenant("victim", &tenant("victim.localhost", "spin"))
            .tenant("thief", &tenant("thief.localhost", "spin"))
            .tenant("three", &tenant("three.localhost", "spin-sdk-7"));
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let client = gateway.client(Protocol::H2);
        let call = async |host: &str, path: &str, words: &[&str]| {
            let body = tests::spin_words(words);
            client.call("POST", host, &format!("/{path}"), body).await.text()
        };
        for path in ["kv2/set/default", "redis2/set/granted"] {
            assert_eq!(call("victim.localhost", path, &["secret", "the secret"]).await, "set");
        }
        // Those of 3.0.0 have the names of 2.0.0.
        let of_three = SPIN_CALLS.iter().filter(|(path, ..)| path.starts_with("kv2") || path.starts_with("redis2"));
        let calls = SPIN_CALLS.iter().map(|call| ("thief.localhost", call));
        for (thief, &(path, words, nothing)) in calls.chain(of_three.map(|call| ("three.localhost", call))) {
            assert_eq!(call(thief, path, words).await, nothing, "{path} of {thief} on {}", storage.url());
            for (path, of) in [("kv2/get/default", "store"), ("redis2/get/granted", "raw keys")] {
                let kept = call("victim.localhost", path, &["secret"]).await;
                assert_eq!(kept, "74686520736563726574", "{path}: the {of} of another tenant");
            }
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
    for store in ["tg:{victim}:kv:default", "...", "victim", "default}", "*", "DEFAULT", "default%01", "victim:default"]
    {
        let path = format!("/{store}/get/secret").replace('{', "%7B").replace('}', "%7D");
        let answer = client.get("thief.localhost", &path).await;
        assert_eq!(answer.text(), "Error::AccessDenied", "{store}");
    }
    // These never reach the guest.
    for store in ["..", "default%00"] {
        let answer = client.get("thief.localhost", &format!("/{store}/get/secret")).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "framing"), "{store}");
    }
    for key in ["tg:{victim}:kv:default", "*", "..%2Fvictim", "{victim}secret", "a%0D%0AGET%20b"] {
        let path = format!("/-/get/{}", key.replace('{', "%7B").replace('}', "%7D"));
        assert_eq!(client.get("thief.localhost", &path).await.text(), "(none)", "{key}");
    }
}

const TWIN: &str = r#"
spin_manifest_version = 2
[application]
name = "twin"
[[trigger.http]]
route = "/..."
component = "site"
[[trigger.redis]]
channel = "orders"
component = "on-order"
[component.site]
source = "spin-sdk-5.wasm"
key_value_stores = ["default"]
allowed_outbound_hosts = ["redis://granted:6379"]
[component.on-order]
source = "messages-5.wasm"
key_value_stores = ["default"]
allowed_outbound_hosts = ["redis://granted:6379"]
"#;

/// Two tenants with exactly the same manifest, including the names of stores, keys and channels.
#[tokio::test]
async fn twins_of_one_spin_application_share_nothing() {
    for storage in Storage::each() {
        let mut site = Site::new();
        for id in ["one", "two"] {
            let file = format!("schema = 1\nhosts = [\"{id}.localhost\"]\napp = \"spin.toml\"\n");
            site = site.file(&format!("tenants/{id}/tenant.toml"), file);
            site = site.file(&format!("tenants/{id}/spin.toml"), TWIN);
            for guest in ["spin-sdk-5", "messages-5"] {
                site = site.file(&format!("tenants/{id}/{guest}.wasm"), std::fs::read(tests::guest(guest)).unwrap());
            }
        }
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let client = gateway.client(Protocol::H2);
        let call = async |id: &str, path: &str, words: &[&str]| {
            client.call("POST", &format!("{id}.localhost"), path, tests::spin_words(words)).await.text()
        };
        assert_eq!(call("one", "/kv2/set/default", &["k", "of one"]).await, "set");
        assert_eq!(call("two", "/kv2/get/default", &["k"]).await, "(none)", "{}", storage.url());
        assert_eq!(call("one", "/redis2/publish/granted", &["orders", "append heard one"]).await, "published");
        assert_eq!(call("two", "/redis2/publish/granted", &["orders", "append heard two"]).await, "published");
        for id in ["one", "two"] {
            let wanted = tests::hex(format!("{id} ").as_bytes());
            let mut heard = String::new();
            for _ in 0..500 {
                heard = call(id, "/kv2/get/default", &["heard"]).await;
                if heard != "(none)" {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            assert_eq!(heard, wanted, "{id} on {}", storage.url());
        }
        gateway.quiet().await;
        for id in ["one", "two"] {
            let heard = call(id, "/kv2/get/default", &["heard"]).await;
            assert_eq!(heard, tests::hex(format!("{id} ").as_bytes()), "and nothing later");
        }
    }
}
