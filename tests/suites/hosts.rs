//! Which tenant has which host: a host never moves by itself, and an operator can move it.

use std::process::{Command, Output};

use serde_json::Value;
use tests::{Gateway, Redis, Site, Tenant, checked, tollgate, until};

/// A host of `hello`. If both claim it, `aaa` is first by name.
const HOST: &str = "shop.localhost";

fn hello() -> Site {
    Site::new().tenant("hello", &Tenant::new(HOST, "echo"))
}

/// The file of a tenant that claims this host and one of its own.
fn claiming(id: &str) -> String {
    format!(
        "schema = 1\nhosts = [\"{id}.localhost\", \"{HOST}\"]\n[[component]]\nname = \"site\"\nsource = \"{}\"\n\
         [[route]]\npath = \"/...\"\ncomponent = \"site\"\n",
        tests::guest("echo").display()
    )
}

fn intrude(site: &Site) {
    site.write("tenants/aaa/tenant.toml", claiming("aaa"));
}

/// The tenant that answers under the host.
async fn owner(gateway: &Gateway) -> Option<String> {
    let host = gateway.told("/v1/hosts").await.as_array().unwrap().iter().find(|row| row["host"] == HOST)?.clone();
    if host["is_served"] != true {
        return None;
    }
    let answer = gateway.get(HOST, "/head").await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let record = gateway.record(&answer).await;
    assert_eq!(record["tenant"], host["tenant"], "the note and the table say the same");
    Some(record["tenant"].as_str().unwrap().to_owned())
}

async fn standing(gateway: &Gateway, id: &str) -> Value {
    gateway.tenant(id).await["standing"].clone()
}

/// Waits until a tenant that was added while the gateway runs is checked.
async fn judged(gateway: &Gateway, id: &str) -> Value {
    until("its standing", async || Some(standing(gateway, id).await).filter(|standing| !standing.is_null())).await
}

fn reloaded(gateway: &Gateway, site: &Site) {
    let (code, said) = gateway.tell(site, &["reload"]);
    let has_problems = !said.contains("with 0 problems");
    assert_eq!(code, Some(if has_problems { 2 } else { 0 }), "{said}");
}

fn serve(site: &Site, arguments: &[&str]) -> Output {
    let config = site.config();
    Command::new(tollgate()).args(["serve", "--config"]).arg(config).args(arguments).output().unwrap()
}

#[tokio::test]
async fn a_host_stays_with_its_tenant_over_a_restart_and_check_says_the_same() {
    let site = hello();
    let gateway = Gateway::start(&site);
    assert_eq!(owner(&gateway).await.as_deref(), Some("hello"));
    intrude(&site);
    assert_eq!(judged(&gateway, "aaa").await, "broken");
    assert_eq!(owner(&gateway).await.as_deref(), Some("hello"));
    gateway.kill_9();
    let (is_good, said) = checked(&site, &[]);
    assert!(!is_good && said.contains("tenants/aaa/tenant.toml:2:") && said.contains("which hello has"), "{said}");
    assert!(said.contains("1 problem; 1 tenant would be served"), "{said}");
    let gateway = Gateway::start(&site);
    assert_eq!(owner(&gateway).await.as_deref(), Some("hello"));
    assert_eq!(standing(&gateway, "aaa").await, "broken");
    // An invalid file at a start also keeps the host for its tenant.
    let good = std::fs::read_to_string(site.path("tenants/hello/tenant.toml")).unwrap();
    site.write("tenants/hello/tenant.toml", "half a file");
    drop(gateway);
    let gateway = Gateway::start(&site);
    assert_eq!(
        (standing(&gateway, "aaa").await, standing(&gateway, "hello").await),
        ("broken".into(), "broken".into())
    );
    site.write("tenants/hello/tenant.toml", good);
    until("the owner", async || owner(&gateway).await.filter(|owner| owner == "hello")).await;
}

#[tokio::test]
async fn an_unowned_host_that_two_tenants_claim_goes_to_neither() {
    let site = hello();
    intrude(&site);
    let gateway = Gateway::start(&site);
    assert_eq!(owner(&gateway).await, None);
    let (_, said) = checked(&site, &[]);
    assert!(said.contains("tenants/aaa/tenant.toml:2:") && said.contains("tenants/hello/tenant.toml:2:"), "{said}");
    assert!(said.contains(&format!("tollgate host move {HOST} --to hello")), "{said}");
    // Until an operator decides.
    let (code, said) = gateway.tell(&site, &["host", "move", HOST, "--to", "hello"]);
    assert_eq!((code, said.as_str()), (Some(0), "shop.localhost now belongs to hello\n"));
    assert_eq!(owner(&gateway).await.as_deref(), Some("hello"));
    assert_eq!(standing(&gateway, "aaa").await, "broken");
}

#[tokio::test]
async fn a_renamed_or_removed_tenant_leaves_its_host_to_no_other() {
    let site = hello();
    let gateway = Gateway::start(&site);
    intrude(&site);
    judged(&gateway, "aaa").await;
    std::fs::rename(site.path("tenants/hello"), site.path("tenants/renamed")).unwrap();
    reloaded(&gateway, &site);
    assert_eq!(owner(&gateway).await, None);
    for id in ["aaa", "renamed"] {
        assert_eq!(standing(&gateway, id).await, "broken", "{id}");
    }
    let (_, said) = checked(&site, &[]);
    assert!(said.contains("which is recorded for hello, whose folder is gone"), "{said}");
    drop(gateway);
    let gateway = Gateway::start(&site);
    assert_eq!(owner(&gateway).await, None, "nor at a restart");
    let (code, said) = gateway.tell(&site, &["host", "list"]);
    assert!(code == Some(0) && said.contains(HOST) && said.contains("or the tenant is gone"), "{said}");
    let (code, said) = gateway.tell(&site, &["host", "move", HOST, "--to", "renamed"]);
    assert_eq!((code, said.as_str()), (Some(0), "shop.localhost now belongs to renamed\n"));
    assert_eq!(owner(&gateway).await.as_deref(), Some("renamed"));
    // A host that no file names can be released; one that a file names cannot.
    let (code, said) = gateway.tell(&site, &["host", "release", HOST]);
    assert!(code == Some(1) && said.contains("its file lists it"), "{said}");
    std::fs::remove_dir_all(site.path("tenants/renamed")).unwrap();
    reloaded(&gateway, &site);
    assert_eq!(owner(&gateway).await, None);
    let (code, said) = gateway.tell(&site, &["host", "release", HOST]);
    assert_eq!((code, said.as_str()), (Some(0), "shop.localhost was released and belongs to no tenant\n"));
    assert_eq!(owner(&gateway).await.as_deref(), Some("aaa"), "the one that claims it now");
}

#[tokio::test]
async fn a_host_moves_when_its_tenants_file_gives_it_up() {
    let site = hello();
    let gateway = Gateway::start(&site);
    site.write("tenants/other/tenant.toml", claiming("other"));
    assert_eq!(judged(&gateway, "other").await, "broken");
    let file = std::fs::read_to_string(site.path("tenants/hello/tenant.toml")).unwrap();
    site.write("tenants/hello/tenant.toml", file.replace(HOST, "hello.localhost"));
    until("the other one", async || owner(&gateway).await.filter(|owner| owner == "other")).await;
    assert_eq!(standing(&gateway, "hello").await, "serving");
    // The host does not move back by itself.
    site.write("tenants/hello/tenant.toml", &file);
    reloaded(&gateway, &site);
    assert_eq!(owner(&gateway).await.as_deref(), Some("other"));
    assert_eq!(standing(&gateway, "hello").await, "stale");
    assert_eq!(gateway.get("hello.localhost", "/head").await.status.as_u16(), 200, "it is served as it was");
    // An operator's order overrides both files.
    assert_eq!(gateway.tell(&site, &["host", "move", HOST, "--to", "hello"]).0, Some(0));
    assert_eq!(owner(&gateway).await.as_deref(), Some("hello"));
    assert_eq!(standing(&gateway, "other").await, "stale");
    assert_eq!(gateway.get("other.localhost", "/head").await.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_moves_no_host_and_leaves_no_tenant_out() {
    let redis = Redis::start();
    for storage in [String::new(), format!("[storage]\nbackend = \"redis\"\nurl = \"{}\"", redis.url())] {
        let site = hello().tenant("fine", &Tenant::new("fine.localhost", "echo")).gateway(&storage);
        let old = Gateway::start(&site);
        intrude(&site);
        assert_eq!(judged(&old, "aaa").await, "broken");
        let new = Gateway::start_with(&site, &["--takeover"]);
        assert_eq!(old.wait(), Some(0));
        assert_eq!(owner(&new).await.as_deref(), Some("hello"), "the intruder's trouble is its own");
        // A tenant that is served now would be left out.
        site.write("tenants/hello/tenant.toml", "half a file");
        until("the problem", async || (standing(&new, "hello").await == "stale").then_some(())).await;
        let refused = serve(&site, &["--takeover"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains("it serves hello, and this one would not") && said.contains("--leave-out"), "{said}");
        assert!(said.contains("tenants/hello/tenant.toml:1:"), "{said}");
        assert_eq!(owner(&new).await.as_deref(), Some("hello"), "the one that runs goes on");
        let third = Gateway::start_with(&site, &["--takeover", "--leave-out"]);
        assert_eq!(new.wait(), Some(0));
        assert_eq!(standing(&third, "hello").await, "broken");
        assert_eq!(third.get("fine.localhost", "/head").await.status.as_u16(), 200);
        assert_eq!(owner(&third).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_on_one_redis_has_one_owner_of_a_host() {
    let mut redis = Redis::start();
    let url = redis.url();
    let start = |site: &Site| Gateway::start_with(site, &["--storage", &url]);
    let (first, second, third) = (hello(), hello(), hello());
    let one = start(&first);
    intrude(&second);
    intrude(&third);
    let (two, three) = (start(&second), start(&third));
    for gateway in [&one, &two, &three] {
        assert_eq!(owner(gateway).await.as_deref(), Some("hello"));
    }
    assert_eq!(standing(&two, "aaa").await, "broken");
    // A gateway without notes of its own, and only with the intruder's file.
    drop((one, two));
    let alone = Site::new().file("tenants/aaa/tenant.toml", claiming("aaa"));
    let lone = start(&alone);
    assert_eq!((owner(&lone).await, standing(&lone, "aaa").await), (None, "broken".into()));
    let output = Command::new(tollgate()).args(["check", "--storage", &url]).current_dir(alone.dir()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("which is recorded for hello, whose folder is gone"), "{said}");
    // An operator's order to one gateway reaches the others.
    let (code, said) = lone.tell(&alone, &["host", "move", HOST, "--to", "aaa"]);
    assert_eq!((code, said.as_str()), (Some(0), "shop.localhost now belongs to aaa\n"));
    until("the other gateway", async || owner(&three).await.filter(|owner| owner == "aaa")).await;
    assert_eq!(standing(&three, "hello").await, "stale");
    // While Redis is unreachable, each gateway uses what it knew; and a Redis that lost the notes gets them again.
    redis.stop();
    drop(three);
    let three = start(&third);
    assert_eq!(owner(&three).await.as_deref(), Some("aaa"));
    redis.start_again();
    until("the notes on Redis", async || (redis.cli(&["HGET", "tg:{+}:hosts", HOST]) == "aaa").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_that_give_a_new_host_to_different_tenants_agree_on_one() {
    let redis = Redis::start();
    let url = redis.url();
    let sites = ["left", "right"].map(|id| {
        let site = Site::new().tenant("fine", &Tenant::new("fine.localhost", "echo"));
        site.file(&format!("tenants/{id}/tenant.toml"), claiming(id))
    });
    let started = sites.each_ref().map(|site| {
        let (site, url) = (site.clone(), url.clone());
        tokio::task::spawn_blocking(move || Gateway::start_with(&site, &["--storage", &url]))
    });
    let mut owners = Vec::new();
    for (at, started) in started.into_iter().enumerate() {
        let gateway = started.await.unwrap();
        let id = ["left", "right"][at];
        let has = owner(&gateway).await;
        assert_eq!(standing(&gateway, id).await == "serving", has.as_deref() == Some(id), "{has:?}");
        owners.push((gateway, has));
    }
    let winner = redis.cli(&["HGET", "tg:{+}:hosts", HOST]);
    assert!(["left", "right"].contains(&winner.as_str()), "{winner}");
    for (at, (_, has)) in owners.iter().enumerate() {
        let is_winner = winner == ["left", "right"][at];
        assert_eq!(has.is_some(), is_winner, "the winner is {winner}, and at {at} it is {has:?}");
    }
}
