//! `[[trigger.cron]]`: components start when they are due, each time once, even with a fleet of gateways.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::{Gateway, Protocol, Redis, Site, checked, guest, until};

/// An application with schedules `(component, expression, mode)`; the tenant's `kv` returns what they wrote.
fn manifest(schedules: &[(&str, &str, &str)]) -> String {
    let mut text = "spin_manifest_version = 2\n[application]\nname = \"timed\"\n".to_owned();
    text += "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"kv\"\n[component.kv]\nsource = \"kv.wasm\"\n\
             key_value_stores = [\"default\"]\n";
    for (name, expression, mode) in schedules {
        text += &format!(
            "[[trigger.cron]]\ncomponent = \"{name}\"\ncron_expression = \"{expression}\"\n[component.{name}]\n\
             source = \"cron.wasm\"\nkey_value_stores = [\"default\"]\nenvironment = {{ NAME = \"{name}\", MODE = \"{mode}\" }}\n"
        );
    }
    text
}

fn add(site: Site, tenant: &str, schedules: &[(&str, &str, &str)]) -> Site {
    let file = format!(
        "schema = 1\nhosts = [\"{tenant}.localhost\"]\napp = \"spin.toml\"\n[limits]\nfuel = \"1G\"\ntime = \"9s\"\n"
    );
    let folder = format!("tenants/{tenant}");
    let mut site = site.file(&format!("{folder}/tenant.toml"), file);
    site = site.file(&format!("{folder}/spin.toml"), manifest(schedules));
    for name in ["cron", "kv"] {
        site = site.file(&format!("{folder}/{name}.wasm"), std::fs::read(guest(name)).unwrap());
    }
    site
}

fn site(schedules: &[(&str, &str, &str)]) -> Site {
    add(Site::new(), "timed", schedules)
}

/// The keys that a component's runs left.
async fn runs(gateway: &Gateway, tenant: &str, name: &str) -> Vec<u64> {
    let client = gateway.client(Protocol::H2);
    let text = client.call("POST", &format!("{tenant}.localhost"), "/-/list/x", "").await.text();
    let keys = text.split_whitespace().filter_map(|key| key.strip_prefix(name)?.strip_prefix('-')?.parse().ok());
    keys.collect()
}

async fn until_runs(gateway: &Gateway, tenant: &str, name: &str, count: usize) -> Vec<u64> {
    until(name, async || Some(runs(gateway, tenant, name).await).filter(|runs| runs.len() >= count)).await
}

/// The value of a series, which may not exist yet.
async fn metric(gateway: &Gateway, name: &str, label: &str) -> f64 {
    let text = gateway.admin("/metrics").await;
    let wanted = format!("tollgate_{name}_total{{tenant=\"timed\",{label}}} ");
    text.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or_default()
}

async fn until_metric(gateway: &Gateway, name: &str, label: &str) -> f64 {
    until(label, async || Some(metric(gateway, name, label).await).filter(|value| *value > 0.0)).await
}

async fn until_reloaded(gateway: &Gateway, change: impl AsyncFnOnce()) {
    let before = gateway.metric("tollgate_config_generation").await;
    change().await;
    until("the reload", async || (gateway.metric("tollgate_config_generation").await > before).then_some(())).await;
}

fn unix() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_component_runs_at_each_time_that_is_due() {
    let site = site(&[("each", "* * * * * *", ""), ("second", "*/2 * * * * *", "")]);
    let gateway = Gateway::start(&site);
    let each = until_runs(&gateway, "timed", "each", 4).await;
    let second = until_runs(&gateway, "timed", "second", 2).await;
    assert!(each.windows(2).all(|two| two[1] > two[0]) && second.iter().all(|at| at % 2 == 0), "{each:?} {second:?}");
    assert!(each.iter().all(|at| unix().abs_diff(*at) < 60), "the component is told the time that was due: {each:?}");
    let client = gateway.client(Protocol::H2);
    for at in &each {
        let count = client.call("POST", "timed.localhost", &format!("/-/get/each-{at}"), "").await.text();
        assert_eq!(count, "1", "{at}");
    }
    let records = until("a record", async || Some(gateway.log("schedules")).filter(|lines| lines.len() > 3)).await;
    let record = records.iter().find(|record| record["component"] == "each").unwrap();
    assert_eq!(
        (&record["tenant"], &record["schedule"], &record["outcome"]),
        (&"timed".into(), &"* * * * * *".into(), &"ok".into())
    );
    assert!(record["fuel"].as_u64() > Some(100_000) && record["storage_ops"].as_u64() > Some(0), "{record}");
    assert!(until_metric(&gateway, "scheduled_runs", "outcome=\"ok\"").await >= 4.0);
}

#[tokio::test]
async fn errors_and_traps_are_recorded_and_the_schedule_continues() {
    let site = site(&[("fails", "* * * * * *", "fail"), ("traps", "* * * * * *", "panic")]);
    let gateway = Gateway::start(&site);
    until_runs(&gateway, "timed", "fails", 2).await;
    until_runs(&gateway, "timed", "traps", 2).await;
    until_metric(&gateway, "scheduled_runs", "outcome=\"refused\"").await;
    until_metric(&gateway, "scheduled_runs", "outcome=\"trap\"").await;
    let logged = until("its words", async || {
        let (_, text) = gateway.tell(&site, &["logs", "--tenant", "timed", "--json"]);
        text.contains("the run failed: as it was asked to").then_some(text)
    });
    assert!(logged.await.contains("\"fails\""));
    let faults = gateway.told("/v1/faults?tenant=timed").await;
    assert!(faults.as_array().unwrap().iter().any(|fault| fault["kind"] == "trap"), "{faults}");
}

#[tokio::test]
async fn a_time_during_a_run_is_skipped() {
    let redis = Redis::start();
    for storage in ["embedded".to_owned(), redis.url()] {
        let site = site(&[("slow", "* * * * * *", "sleep"), ("quick", "* * * * * *", "")]);
        let gateway = Gateway::start_with(&site, &["--storage", &storage]);
        let slow = until_runs(&gateway, "timed", "slow", 3).await;
        assert!(slow.windows(2).all(|two| two[1] - two[0] >= 2), "one at a time: {slow:?}");
        assert!(until_metric(&gateway, "scheduled_runs_skipped", "reason=\"overlap\"").await >= 2.0);
        let quick = runs(&gateway, "timed", "quick").await;
        assert!(quick.len() > slow.len(), "another's is none of its: {quick:?} {slow:?}");
    }
}

#[tokio::test]
async fn a_reload_changes_schedules_and_keeps_the_others() {
    let site = site(&[("stays", "* * * * * *", ""), ("goes", "* * * * * *", "")]);
    let gateway = Gateway::start(&site);
    until_runs(&gateway, "timed", "goes", 1).await;
    let mut site = site;
    until_reloaded(&gateway, async || {
        site = site
            .clone()
            .file("tenants/timed/spin.toml", manifest(&[("stays", "* * * * * *", ""), ("comes", "* * * * * *", "")]));
        gateway.signal("HUP");
    })
    .await;
    let comes = until_runs(&gateway, "timed", "comes", 2).await;
    let goes = runs(&gateway, "timed", "goes").await;
    assert!(goes.iter().all(|at| *at <= comes[0]), "{goes:?} {comes:?}");
    let stays = until_runs(&gateway, "timed", "stays", comes.len() + 1).await;
    let is_whole = stays.windows(2).all(|two| two[1] == two[0] + 1);
    let missed = metric(&gateway, "scheduled_runs_skipped", "reason=\"missed\"").await
        + metric(&gateway, "scheduled_runs_skipped", "reason=\"overlap\"").await;
    assert!(is_whole || missed > 0.0, "none is lost but what a slow machine missed: {stays:?}");
    // An invalid manifest leaves the last good one in force.
    until_reloaded(&gateway, async || {
        site = site.clone().file("tenants/timed/spin.toml", manifest(&[("stays", "never", "")]));
        gateway.signal("HUP");
    })
    .await;
    let before = runs(&gateway, "timed", "comes").await.len();
    until_runs(&gateway, "timed", "comes", before + 2).await;
    let problems = gateway.problems().await;
    assert!(problems.iter().any(|problem| problem["code"] == "E0105"), "{problems:?}");
}

#[tokio::test]
async fn a_suspended_tenant_does_not_run() {
    let site = add(site(&[("each", "* * * * * *", "")]), "other", &[("each", "* * * * * *", "")]);
    let gateway = Gateway::start(&site);
    until_runs(&gateway, "timed", "each", 1).await;
    assert_eq!(gateway.tell(&site, &["tenant", "suspend", "timed"]).0, Some(0));
    let since = unix();
    until_metric(&gateway, "scheduled_runs_skipped", "reason=\"suspended\"").await;
    let others = runs(&gateway, "other", "each").await.len();
    until_runs(&gateway, "other", "each", others + 2).await;
    assert_eq!(gateway.tell(&site, &["tenant", "resume", "timed"]).0, Some(0));
    let (resumed, before) = (unix(), runs(&gateway, "timed", "each").await);
    assert!(
        !before.iter().any(|at| (since + 1..resumed).contains(at)),
        "{before:?} while suspended from {since} to {resumed}"
    );
    until_runs(&gateway, "timed", "each", before.len() + 1).await;
}

/// The runs of one component in Redis: how often each time was run.
fn counts(redis: &Redis, name: &str) -> BTreeMap<u64, u64> {
    let text = redis.cli(&["hgetall", "tg:{timed}:kv:default"]);
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2).filter_map(|pair| {
        let at = pair[0].strip_prefix(name)?.strip_prefix('-')?.parse().ok()?;
        Some((at, pair[1].trim_matches('"').parse().unwrap()))
    });
    pairs.collect()
}

#[tokio::test]
async fn one_of_several_gateways_runs_each_time_even_if_some_are_killed() {
    const SCHEDULES: usize = 20;
    let redis = Redis::start();
    let names: Vec<String> = (0..SCHEDULES).map(|number| format!("each{number}")).collect();
    let schedules: Vec<_> = names.iter().map(|name| (name.as_str(), "* * * * * *", "")).collect();
    let sites = [site(&schedules), site(&schedules), site(&schedules)];
    let url = redis.url();
    let start = |index: usize| Gateway::start_with(&sites[index], &["--storage", &url]);
    let mut gateways: Vec<Option<Gateway>> = (0..3).map(|index| Some(start(index))).collect();
    let mut handled = [0; 3];
    let all = || names.iter().map(|name| counts(&redis, name)).collect::<Vec<_>>();
    // Gateways are killed and restarted one after the other, while the others continue.
    for round in 0..6 {
        let before: usize = all().iter().map(BTreeMap::len).sum();
        until("more runs", async || {
            (all().iter().map(BTreeMap::len).sum::<usize>() >= before + 2 * SCHEDULES).then_some(())
        })
        .await;
        let killed = gateways[round % 3].take().unwrap();
        handled[round % 3] += killed.log("schedules").len();
        killed.kill_9();
        gateways[round % 3] = Some(start(round % 3));
    }
    let before: usize = all().iter().map(BTreeMap::len).sum();
    until("the last runs", async || {
        (all().iter().map(BTreeMap::len).sum::<usize>() >= before + SCHEDULES).then_some(())
    })
    .await;
    let all = all();
    let twice: Vec<_> = all.iter().flatten().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for (handled, gateway) in handled.iter_mut().zip(gateways.iter().flatten()) {
        *handled += gateway.log("schedules").len();
    }
    assert!(handled.iter().filter(|count| **count > 0).count() >= 2, "more than one does its part: {handled:?}");
    // The claims have the tenant's own prefix, and expire.
    let keys = redis.cli(&["keys", "tg:{timed}:q:runs:*"]);
    assert_eq!(keys.lines().count(), SCHEDULES, "{keys}");
    let ttl: i64 = redis.cli(&["ttl", keys.lines().next().unwrap().trim_matches('"')]).trim().parse().unwrap();
    assert!((1..=3600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_dead_gateways_claim_expires_soon() {
    let redis = Redis::start();
    let sites = [site(&[("slow", "* * * * * *", "sleep")]), site(&[("slow", "* * * * * *", "sleep")])];
    let url = redis.url();
    let first = Gateway::start_with(&sites[0], &["--storage", &url]);
    until("a run that goes on", async || (!counts(&redis, "slow").is_empty()).then_some(())).await;
    let second = Gateway::start_with(&sites[1], &["--storage", &url]);
    first.kill_9();
    let ran = counts(&redis, "slow");
    until("runs of the other", async || (counts(&redis, "slow").len() >= ran.len() + 2).then_some(())).await;
    let all = counts(&redis, "slow");
    assert!(all.values().all(|count| *count == 1), "{all:?}");
    let times: Vec<_> = all.keys().collect();
    assert!(times.windows(2).all(|two| two[1] - two[0] >= 2), "nor do runs of two gateways overlap: {times:?}");
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_repeats_no_run() {
    let redis = Redis::start();
    for storage in ["embedded".to_owned(), redis.url()] {
        let site = site(&[("each", "* * * * * *", "")]);
        let old = Gateway::start_with(&site, &["--storage", &storage]);
        until_runs(&old, "timed", "each", 2).await;
        let (with, arguments) = (site.clone(), storage.clone());
        let new =
            tokio::task::spawn_blocking(move || Gateway::start_with(&with, &["--takeover", "--storage", &arguments]));
        let new = new.await.unwrap();
        assert_eq!(tokio::task::spawn_blocking(move || old.wait()).await.unwrap(), Some(0));
        let before = runs(&new, "timed", "each").await.len();
        let all = until_runs(&new, "timed", "each", before + 2).await;
        let client = new.client(Protocol::H2);
        for at in all {
            let count = client.call("POST", "timed.localhost", &format!("/-/get/each-{at}"), "").await.text();
            assert_eq!(count, "1", "{at} on {storage}");
        }
    }
}

#[tokio::test]
async fn schedules_are_listed_with_their_last_outcome() {
    let site = add(
        site(&[("fails", "* * * * * *", "fail"), ("yearly", "@yearly", ""), ("over", "0 0 0 1 1 * 2020", "")]),
        "other",
        &[("monthly", "0 0 0 1 * *", "")],
    );
    let gateway = Gateway::start(&site);
    let listed = async || gateway.told("/v1/schedules?tenant=timed").await.as_array().unwrap().clone();
    let rows =
        until("an outcome", async || Some(listed().await).filter(|rows| rows[0]["last_outcome"] == "failed")).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows[0]["component"] == "fails" && rows[0]["next_ms"].as_u64() > Some(unix() * 1000 - 60_000), "{rows:?}");
    assert!(rows[1]["expression"] == "@YEARLY" && rows[1]["last_ms"].is_null(), "{rows:?}");
    assert!(rows[2]["next_ms"].is_null(), "{rows:?}");
    let (code, text) = gateway.tell(&site, &["schedule", "list"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("0 0 0 1 * *") && text.lines().last().unwrap().starts_with("never"), "{text}");
    let (code, text) = gateway.tell(&site, &["schedule", "list", "--tenant", "other", "--json"]);
    let rows: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, rows.as_array().unwrap().len()), (Some(0), 1));
    assert_eq!(gateway.tell(&site, &["schedule", "list", "--tenant", "nobody"]).0, Some(1));
}

#[test]
fn an_invalid_expression_is_reported_with_its_place_and_the_rule() {
    let site = site(&[("five", "*/5 * * * *", ""), ("never", "0 0 0 30 2 *", "")]);
    let (is_good, text) = checked(&site, &[]);
    assert!(!is_good && text.matches("E0105 bad-value").count() == 2, "{text}");
    for wanted in
        ["spin.toml:", "cron_expression", "5 fields", "no such time in any year", "six fields", "0 */5 * * * *"]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn a_schedule_needs_a_component_with_a_cron_handler() {
    let text = manifest(&[("each", "* * * * * *", "")]);
    let other = text.replace("component = \"each\"", "component = \"kv\"");
    let (is_good, said) = checked(&site(&[]).file("tenants/timed/spin.toml", other), &[]);
    assert!(!is_good && said.contains("E0315 no-cron-handler") && said.contains("handle-cron-event"), "{said}");
    let nobody = text.replace("component = \"each\"", "component = \"eech\"");
    let (is_good, said) = checked(&site(&[]).file("tenants/timed/spin.toml", nobody), &[]);
    assert!(!is_good && said.contains("E0112 unknown-component") && said.contains("did you mean `each`?"), "{said}");
    let typo = text.replace("cron_expression", "expression");
    let (is_good, said) = checked(&site(&[]).file("tenants/timed/spin.toml", typo), &[]);
    assert!(!is_good && said.contains("E0103 missing-key") && said.contains("E0102 unknown-key"), "{said}");
    let (is_good, said) = checked(&site(&[("each", "1/2 * * * * *", "")]), &[]);
    assert!(is_good, "{said}");
}

#[tokio::test]
async fn a_time_is_claimed_when_redis_answers_again() {
    let mut redis = Redis::start();
    let site = site(&[("each", "* * * * * *", "")]);
    let gateway = Gateway::start_with(&site, &["--storage", &redis.url()]);
    until("a run", async || (!counts(&redis, "each").is_empty()).then_some(())).await;
    redis.stop();
    until_metric(&gateway, "scheduled_runs_skipped", "reason=\"unclaimed\"").await;
    redis.start_again();
    until("runs again", async || (counts(&redis, "each").len() > 2).then_some(())).await;
    assert!(counts(&redis, "each").values().all(|count| *count == 1));
}

#[tokio::test]
async fn runs_are_claimed_by_restricted_users_and_on_a_cluster() {
    const PASSWORD: &str = "correct-horse";
    let redis = Redis::start();
    let config = format!("[storage]\nbackend = \"redis\"\nurl = \"{}\"\n", redis.url());
    let site = site(&[("each", "* * * * * *", "")]).gateway(&config).file("password", PASSWORD);
    let password = site.path("password");
    let output = std::process::Command::new(tests::tollgate())
        .args(["redis", "acl", "--apply", "--user", "gate", "--password-file"])
        .arg(password)
        .arg("--config")
        .arg(site.config())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let with_user = redis.url().replace("redis://", &format!("redis://gate:{PASSWORD}@"));
    let cluster = tests::RedisCluster::start();
    for storage in [with_user, cluster.url()] {
        let gateway = Gateway::start_with(&site, &["--storage", &storage]);
        until("runs", async || (metric(&gateway, "scheduled_runs", "outcome=\"ok\"").await >= 3.0).then_some(())).await;
    }
}
