//! Commands for a running gateway: they find it by themselves, and their output helps an operator.

use std::process::Command;

use serde_json::Value;
use tests::{Gateway, Protocol, Redis, Site, Tenant, checked, run, tollgate, until};

fn site() -> Site {
    Site::new()
        .tenant("echo", &Tenant::new("echo.localhost", "echo"))
        .tenant("loud", &Tenant::new("loud.localhost", "hostile"))
}

#[tokio::test]
async fn a_command_finds_the_running_gateway_by_its_state_folder() {
    let site = site();
    // On another address than in its file.
    let gateway = Gateway::start_with(&site, &["--admin", &tests::free_address().to_string()]);
    let (is_good, said) = run(&site, &["status"]);
    assert!(is_good && said.contains("2 serving"), "{said}");
    let (is_good, said) = run(&site, &["dashboard"]);
    assert!(is_good, "{said}");
    assert_eq!(said.trim(), format!("http://{}/#token={}", gateway.admin, gateway.token));
    let (is_good, said) = run(&site, &["top"]);
    assert!(!is_good && said.contains("top requires a terminal") && !said.contains("os error"), "{said}");
    // A gateway of `tollgate up` is found in its own folder, even beside another configuration.
    let of_up = site.path("app/.tollgate");
    std::fs::create_dir_all(&of_up).unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap() + "[tenants]\ndir = \"../../tenants\"\n";
    std::fs::write(of_up.join("gateway.toml"), text.replace("schema = 1", "schema = 1\nstate = \"../../state\""))
        .unwrap();
    let mut command = Command::new(tollgate());
    let output = command.arg("status").current_dir(site.path("app")).env_remove("TOLLGATE_CONFIG").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A gateway that exits removes its file, so that no command looks for it.
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    assert!(!site.path("state/running.json").exists());
    let (is_good, said) = run(&site, &["dashboard"]);
    assert!(!is_good && said.contains("is it running?"), "{said}");
}

#[tokio::test]
async fn many_faults_are_one_line_with_a_count_and_each_is_found_by_its_id() {
    let site = site();
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    let mut ids = Vec::new();
    for _ in 0..39 {
        let answer = client.get("loud.localhost", "/trap").await;
        assert_eq!(answer.status.as_u16(), 502);
        ids.push(answer.header("x-request-id").to_owned());
    }
    let count = until("all of them", async || {
        let faults = gateway.told("/v1/faults?tenant=loud").await;
        let counts = faults.as_array().unwrap().iter().map(|fault| fault["count"].as_u64().unwrap());
        let sum: u64 = counts.clone().sum();
        (sum == 39).then(|| counts.count())
    })
    .await;
    assert!(count < 39, "they are not each a line: {count}");
    for id in &ids {
        let (is_good, said) = run(&site, &["faults", "--request", id]);
        assert!(is_good && said.contains(id) && said.contains("trap") && said.contains("loud"), "{said}");
    }
    let (_, said) = run(&site, &["faults"]);
    assert!(said.lines().any(|line| line.contains("x trap")), "{said}");
    let (is_good, said) = run(&site, &["faults", "--request", "nonesuch"]);
    assert!(is_good && said.contains("the access log has a line for every request"), "{said}");
    let (_, said) = run(&site, &["faults", "--request", &ids[0], "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()[0]["request_id"], ids[0].as_str());
}

#[tokio::test]
async fn a_tenant_is_shown_to_people_and_to_programs() {
    let site = site();
    let gateway = Gateway::start(&site);
    gateway.get("echo.localhost", "/head").await;
    let (is_good, said) = run(&site, &["tenant", "show", "echo"]);
    assert!(
        is_good && said.starts_with("echo  serving\n") && said.contains("  hosts              echo.localhost"),
        "{said}"
    );
    assert!(said.contains("in_flight") && said.lines().count() < 30, "{said}");
    for words in [
        &["tenant", "show", "echo"][..],
        &["tenant", "count", "echo"],
        &["reload"],
        &["status"],
        &["faults"],
        &["host", "list"],
    ] {
        let (is_good, said) = run(&site, &[words, &["--json"]].concat());
        assert!(is_good && serde_json::from_str::<Value>(&said).is_ok(), "{words:?}: {said}");
    }
}

#[tokio::test]
async fn warnings_and_problems_are_counted_separately_everywhere() {
    // A problem of one tenant, and a warning of another.
    let idle = Tenant::new("idle.localhost", "echo").component("stores = [\"x\"]").with("store_ttl = { y = \"1h\" }");
    let site = site().tenant("idle", &idle).tenant("broken", &Tenant::new("broken.localhost", "echo").with("x = 1"));
    let gateway = Gateway::start(&site);
    let status = gateway.status().await;
    assert_eq!((&status["problems"], &status["warnings"]), (&1.into(), &1.into()), "{status}");
    let (is_good, said) = run(&site, &["reload"]);
    assert!(!is_good && said.contains("with 1 problem, 1 warning\n"), "{said}");
    assert!(said.contains("keeps its last valid configuration"), "{said}");
    // The gateway's own list, since `tollgate check` of somebody else may find other problems.
    for said in [said, run(&site, &["status"]).1] {
        assert!(said.contains("error[E0102 unknown-key]") && said.contains("broken/tenant.toml:"), "{said}");
        assert!(said.contains("warning[") && said.contains("  hint: "), "{said}");
    }
    for row in gateway.tenants().await {
        let counts = (row["problems"].as_u64().unwrap(), row["warnings"].as_u64().unwrap());
        let wanted = match row["id"].as_str().unwrap() {
            "broken" => (1, 0),
            "idle" => (0, 1),
            _ => (0, 0),
        };
        assert_eq!(counts, wanted, "{row}");
    }
}

#[tokio::test]
async fn the_bytes_of_an_error_body_are_counted() {
    let site = site();
    let gateway = Gateway::start(&site);
    for (host, path) in [("echo.localhost", "/head"), ("loud.localhost", "/trap")] {
        let answer = gateway.get(host, path).await;
        let bytes = answer.text().len();
        assert!(bytes > 0);
        assert_eq!(gateway.record(&answer).await["bytes_out"], bytes, "{path}");
    }
    let head = gateway.client(Protocol::H1).call("HEAD", "loud.localhost", "/trap", "").await;
    assert_eq!(gateway.record(&head).await["bytes_out"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_left_in_the_embedded_store_is_reported_and_can_be_moved() {
    let redis = Redis::start();
    let url = redis.url();
    let kv = |host: &str| Tenant::new(host, "kv").stores(&["default"]);
    let site = Site::new()
        .tenant("one", &kv("one.localhost"))
        .tenant("two", &kv("two.localhost"))
        .tenant("none", &kv("none.localhost"));
    let gateway = Gateway::start(&site);
    for tenant in ["one", "two"] {
        let (is_good, said) = run(&site, &["kv", "set", "--tenant", tenant, "greeting", tenant]);
        assert!(is_good, "{said}");
    }
    gateway.signal("TERM");
    gateway.wait();
    let gateway = Gateway::start_with(&site, &["--storage", &url]);
    let warned = async || gateway.log("config").into_iter().find(|line| line.to_string().contains("W0508"));
    let line = until("the warning", warned).await;
    let found = line["found"].as_str().unwrap();
    assert!(found.contains("one (") && found.contains("two ("), "{line}");
    assert!(line["hint"].as_str().unwrap().contains("tollgate kv move --all --to redis://"), "{line}");
    let (_, said) = checked(&site, &["--storage", &url]);
    assert!(said.contains("warning[W0508 data-left-behind]"), "{said}");
    let (_, said) = checked(&site, &[]);
    assert!(!said.contains("W0508"), "{said}");
    gateway.signal("TERM");
    gateway.wait();
    let gateway = Gateway::start(&site);
    let (is_good, said) = run(&site, &["kv", "move", "--all", "--to", &url]);
    assert!(is_good && said.contains("one is moved: 1 keys") && said.contains("none is moved: 0 keys"), "{said}");
    let (is_good, said) = run(&site, &["kv", "move", "--all", "--to", &url]);
    assert!(is_good && said.contains("two is on Redis already"), "{said}");
    gateway.signal("TERM");
    gateway.wait();
    let gateway = Gateway::start_with(&site, &["--storage", &url]);
    let (_, said) = run(&site, &["kv", "get", "--tenant", "two", "greeting"]);
    assert_eq!(said, "two");
    assert!(!gateway.log("config").iter().any(|line| line.to_string().contains("W0508")));
}
