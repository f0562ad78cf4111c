//! Stores whose keys expire (`[store_ttl]`), on every backend.

use std::time::Duration;

use tests::{Gateway, Protocol, Site, Storage, Tenant};

const TTL: Duration = Duration::from_millis(1500);

fn site(ttl: &str) -> Site {
    let rest = format!(
        "[limits]\nstorage_ops = 5000\n[quota]\nstorage = {{ bytes = \"64KiB\", keys = 20 }}\n[store_ttl]\n{ttl}"
    );
    let kv = Tenant::new("kv.localhost", "kv").stores(&["default", "second"]).with(&rest);
    Site::new().tenant("kv", &kv)
}

async fn call(gateway: &Gateway, path: &str, value: &str) -> String {
    gateway.client(Protocol::H2).call("POST", "kv.localhost", path, value.to_owned()).await.text()
}

#[tokio::test]
async fn a_key_in_a_store_with_a_ttl_expires() {
    for storage in Storage::each() {
        let site = site("default = \"1500ms\"");
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let ask = async |path: &str, value: &str| call(&gateway, path, value).await;
        let start = std::time::Instant::now();
        ask("/-/set-many/x", "a=1\nb=2\nc=3").await;
        ask("/-/increment/n", "5").await;
        ask("/second/set/kept", "for ever").await;
        if start.elapsed() < TTL {
            assert_eq!(ask("/-/get-many/x", "a\nn").await, "a=1 n=5", "{}", storage.url());
        }
        tokio::time::sleep(TTL).await;
        assert_eq!(ask("/-/get/a", "").await, "(none)", "{}", storage.url());
        assert_eq!(ask("/-/exists/b", "").await, "false");
        assert_eq!(ask("/-/list/x", "").await, "1 pages: ");
        assert_eq!(ask("/-/get-many/x", "a\nb").await, "(none) (none)");
        assert_eq!(ask("/-/increment/n", "1").await, "1", "it counts from nothing again");
        assert_eq!(ask("/-/cas-add/c", "").await, "1 after 0", "what is over is not there to compare with");
        assert_eq!(ask("/second/get/kept", "").await, "for ever");
        // Expired keys counted until somebody wrote, and do not count now: n, c and kept are there.
        let (_, said) = gateway.tell(&site, &["tenant", "count", "kv"]);
        assert_eq!(said, "kv uses 16 bytes in 3 keys\n", "{}", storage.url());
    }
}

/// A quota that is filled with expired keys has room: they are removed first.
#[tokio::test]
async fn expired_keys_make_room() {
    for storage in Storage::each() {
        let site = site("default = \"1500ms\"");
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let lines: Vec<String> = (0..20).map(|n| format!("k{n}=v")).collect();
        assert_eq!(call(&gateway, "/-/set-many/x", &lines.join("\n")).await, "set 20");
        let more = call(&gateway, "/-/set/more", "v").await;
        assert!(more == "set" || more.contains("quota-exceeded: storage.keys"), "{more}");
        tokio::time::sleep(TTL).await;
        let (_, said) = gateway.tell(&site, &["kv", "set", "--tenant", "kv", "by-the-operator", "v"]);
        assert_eq!(said, "", "{}", storage.url());
        let lines: Vec<String> = (0..19).map(|n| format!("j{n}=v")).collect();
        assert_eq!(call(&gateway, "/-/set-many/x", &lines.join("\n")).await, "set 19", "{}", storage.url());
        tokio::time::sleep(TTL).await;
        assert_eq!(call(&gateway, "/-/get/by-the-operator", "").await, "(none)", "an operator's keys go as well");
    }
}

#[test]
fn an_invalid_ttl_is_reported() {
    for wrong in ["default = 5", "default = \"0s\"", "\"\" = \"5s\""] {
        let output = tests::check(&site(wrong), &["--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("the lifetime of its values"), "{wrong}: {text}");
    }
}
