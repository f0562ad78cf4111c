//! A tenant in several slots (`quota.shards`): the same answers on every backend, each key in one place, and refusals for
//! operations that cannot be one step any more.

use std::collections::BTreeSet;

use tests::{Gateway, Protocol, RedisCluster, Site, Storage, Tenant};

const LIMITS: &str = "[limits]\nstorage_ops = 5000\nfuel = \"5G\"\n[quota]\nshards = 4\n";
const SPACE: &str = "storage = { bytes = \"8MiB\", keys = 2000 }\n";

fn wide(host: &str) -> Tenant {
    Tenant::new(host, "spin").stores(&["default"]).redis(&["redis://granted:6379"]).with(LIMITS)
}

fn site() -> Site {
    let kv = Tenant::new("kv.localhost", "kv").stores(&["default"]).with(&format!("{LIMITS}{SPACE}"));
    let other = Tenant::new("other.localhost", "kv").stores(&["default"]);
    Site::new().tenant("kv", &kv).tenant("raw", &wide("raw.localhost")).tenant("other", &other)
}

async fn call(gateway: &Gateway, host: &str, path: &str, value: impl Into<bytes::Bytes>) -> String {
    gateway.client(Protocol::H2).call("POST", &format!("{host}.localhost"), path, value).await.text()
}

async fn execute(gateway: &Gateway, words: &[&str]) -> String {
    call(gateway, "raw", "/redis2/execute/granted", tests::spin_words(words)).await
}

#[tokio::test]
async fn a_tenant_with_four_shards_gets_the_same_answers_as_with_one() {
    for storage in Storage::each() {
        let site = site();
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let kv = async |path: &str, value: String| call(&gateway, "kv", path, value).await;
        let names: BTreeSet<String> = (0..900).map(|n| format!("key-{n}")).collect();
        let pairs: Vec<String> = names.iter().map(|name| format!("{name}=of {name}")).collect();
        assert_eq!(kv("/-/set-many/x", pairs.join("\n")).await, "set 900");
        let asked = "key-5\nmissing\nkey-899\nkey-0\nkey-5";
        let told = "key-5=of key-5 (none) key-899=of key-899 key-0=of key-0 key-5=of key-5";
        assert_eq!(kv("/-/get-many/x", asked.to_owned()).await, told);
        let (_, listed) = gateway.tell(&site, &["kv", "list", "--tenant", "kv"]);
        assert_eq!(listed.lines().count(), 900, "each once");
        assert_eq!(listed.lines().map(str::to_owned).collect::<BTreeSet<_>>(), names);
        assert_eq!(kv("/-/increment/n", "41".to_owned()).await, "41");
        assert_eq!(kv("/-/increment/n", "1".to_owned()).await, "42");
        assert_eq!(kv("/-/delete-many/x", "key-1\nkey-2\nkey-3\nmissing".to_owned()).await, "deleted");
        assert_eq!(kv("/-/exists/key-2", String::new()).await, "false");
        // Counted with each write, and in a recount.
        let bytes: usize = (0..900).filter(|n| !(1..=3).contains(n)).map(|n| 2 * format!("key-{n}").len() + 3).sum();
        let counted = format!("kv uses {} bytes in 898 keys\n", bytes + 3);
        let (_, said) = gateway.tell(&site, &["tenant", "count", "kv"]);
        assert_eq!(said, counted, "{}", storage.url());
        // Deletes everything at once; nobody else notices.
        call(&gateway, "other", "/-/set/key-7", "of another tenant").await;
        let (code, said) = gateway.tell(&site, &["kv", "purge", "--tenant", "kv", "--yes"]);
        assert_eq!(code, Some(0), "{said}");
        let (_, said) = gateway.tell(&site, &["kv", "usage", "--tenant", "kv"]);
        assert!(said.starts_with("kv uses 0 bytes in 0 keys"), "{said}");
        assert_eq!(call(&gateway, "other", "/-/get/key-7", "").await, "of another tenant");
    }
}

#[tokio::test]
async fn commands_are_split_if_possible_and_otherwise_refused_by_name() {
    for storage in Storage::each() {
        let site = site();
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let execute = async |words: &[&str]| execute(&gateway, words).await;
        let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
        let mut set = vec!["MSET"];
        keys.iter().for_each(|key| set.extend([key.as_str(), key.as_str()]));
        assert_eq!(execute(&set).await, "status OK");
        let get: Vec<&str> = ["MGET", "k3", "none", "k0", "k11"].to_vec();
        let expected = format!("bytes {}\nnil\nbytes {}\nbytes {}", hex("k3"), hex("k0"), hex("k11"));
        assert_eq!(execute(&get).await, expected);
        let all = |command| std::iter::once(command).chain(keys.iter().map(String::as_str)).collect::<Vec<_>>();
        assert_eq!(execute(&all("EXISTS")).await, "int 12");
        assert_eq!(execute(&["DEL", "k0", "k1", "k2", "none"]).await, "int 3");
        let refused = execute(&["RENAME", "k3", "k4"]).await;
        assert!(refused.contains("refused: RENAME: its keys are in several shards"), "{refused}");
        assert_eq!(execute(&["MSET", "{u}a", "1", "{u}b", "2"]).await, "status OK");
        assert_eq!(execute(&["SADD", "{u}s", "x"]).await, "int 1");
        let renamed = execute(&["RENAME", "{u}a", "{u}c"]).await;
        let is_embedded = matches!(storage, Storage::Embedded);
        assert!(renamed == "status OK" || is_embedded && renamed.contains("needs Redis"), "{renamed}");
    }
}

/// The slots belong to the tenant and are on several servers. A configuration with another number finds nothing and breaks
/// nothing.
#[tokio::test]
async fn shards_are_on_several_servers_and_their_number_cannot_change() {
    let cluster = RedisCluster::start();
    let site = site();
    let gateway = Gateway::start_with(&site, &["--storage", &cluster.url()]);
    gateway.storage().await;
    let pairs: Vec<String> = (0..400).map(|n| format!("key-{n}={n}")).collect();
    assert_eq!(call(&gateway, "kv", "/-/set-many/x", pairs.join("\n")).await, "set 400");
    let mut on = 0;
    for node in &cluster.nodes {
        let keys = node.cli(&["--scan"]);
        let known = |key: &str| key.starts_with("tg:{kv.") || key.starts_with("tg:{kv}:q:") || key == "tg:{+}:hosts";
        assert!(keys.lines().all(known), "{keys}");
        on += usize::from(node.cli(&["ROLE"]).starts_with("master") && keys.contains(":kv:default"));
    }
    assert!(on > 1, "on {on} servers");
    let fewer = Tenant::new("kv.localhost", "kv").stores(&["default"]);
    let site = site.tenant("kv", &fewer);
    gateway.signal("HUP");
    let client = gateway.client(Protocol::H2);
    let mut said = String::new();
    for _ in 0..100 {
        said = client.call("POST", "kv.localhost", "/-/get/key-1", "").await.text();
        if said != "1" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(said.contains("shards: the data is in 4 shards, but quota.shards is 1"), "{said}");
    let (code, exported) = gateway.tell(&site, &["kv", "list", "--tenant", "kv"]);
    assert!(code == Some(1) && exported.contains("the data is in 4"), "{exported}");
    let (_, purged) = gateway.tell(&site, &["kv", "purge", "--tenant", "kv", "--yes"]);
    assert!(purged.contains("400"), "{purged}");
    assert_eq!(call(&gateway, "kv", "/-/set/a", "1").await, "set", "laid out anew");
}

#[tokio::test]
async fn a_tenant_with_several_shards_moves_while_it_is_served() {
    let cluster = RedisCluster::start();
    let site = site();
    let gateway = Gateway::start(&site);
    let pairs: Vec<String> = (0..300).map(|n| format!("key-{n}={n}")).collect();
    call(&gateway, "kv", "/-/set-many/x", pairs.join("\n")).await;
    assert_eq!(execute(&gateway, &["MSET", "a", "1", "b", "2", "c", "3"]).await, "status OK");
    for tenant in ["kv", "raw"] {
        let (code, said) = gateway.tell(&site, &["kv", "move", "--tenant", tenant, "--to", &cluster.url()]);
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(call(&gateway, "kv", "/-/get-many/x", "key-0\nkey-299").await, "key-0=0 key-299=299");
    let (_, listed) = gateway.tell(&site, &["kv", "list", "--tenant", "kv"]);
    assert_eq!(listed.lines().count(), 300);
    assert_eq!(execute(&gateway, &["MGET", "a", "b", "c"]).await.lines().count(), 3);
}

fn hex(text: &str) -> String {
    tests::hex(text.as_bytes())
}
