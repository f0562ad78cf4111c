//! What operators see and control: the API by its own document, access rights, the audit log, and the dashboard in a
//! browser.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::{Client, Gateway, Protocol, Site, Tenant, cache, python, request, tollgate, top, until};

fn site() -> Site {
    Site::new()
        .tenant("echo", &Tenant::new("echo.localhost", "echo"))
        .tenant("loud", &Tenant::new("loud.localhost", "hostile"))
}

/// Every path in the document with each of its methods. Parameters are replaced by their names.
async fn calls(gateway: &Gateway) -> Vec<(String, String)> {
    let document: Value =
        serde_json::from_str(&Client::plain(gateway.admin).get("localhost", "/openapi.json").await.text()).unwrap();
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "echo").replace("{call}", "get");
        calls.extend(item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    calls
}

async fn with_token(gateway: &Gateway, method: &str, path: &str, token: Option<&str>) -> tests::Answer {
    let mut asked = request(method, "localhost", path);
    if let Some(token) = token {
        asked = asked.header("authorization", format!("Bearer {token}"));
    }
    Client::plain(gateway.admin).send("localhost", asked.body(tests::empty()).unwrap()).await
}

#[tokio::test]
async fn every_call_of_the_document_needs_the_token() {
    let gateway = Gateway::start(&site());
    let calls = calls(&gateway).await;
    assert!(calls.len() > 14, "{calls:?}");
    for (method, path) in calls {
        for token in [None, Some("wrong"), Some("")] {
            let answer = with_token(&gateway, &method, &path, token).await;
            assert_eq!(answer.status.as_u16(), 401, "{method} {path} with {token:?}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"tollgate\"");
        }
    }
    // The public paths reveal nothing about any tenant.
    for path in ["/healthz", "/readyz", "/", "/dashboard.js", "/charts.js", "/words.js", "/openapi.json"] {
        let answer = with_token(&gateway, "GET", path, None).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}");
        assert!(!answer.text().contains("echo.localhost"), "{path}");
    }
    assert_eq!(with_token(&gateway, "GET", "/nothing", None).await.status.as_u16(), 401);
    assert_eq!(gateway.tenant("echo").await["standing"], "serving", "nothing was done");
}

#[tokio::test]
async fn a_read_only_token_changes_nothing_and_sees_no_tenants_data() {
    let token = "r".repeat(40);
    let site =
        site().gateway("[admin]\nread_token = { file = \"read.token\" }").file("config/read.token", token.clone());
    let gateway = Gateway::start(&site);
    for path in
        ["/v1/status", "/v1/tenants", "/v1/tenants/echo", "/metrics", "/v1/faults", "/v1/changes", "/v1/history"]
    {
        assert_eq!(with_token(&gateway, "GET", path, Some(&token)).await.status.as_u16(), 200, "{path}");
    }
    let encoded: String = "echo".bytes().map(|byte| format!("%{byte:02x}")).collect();
    for path in [
        "/v1/tenants/echo/logs".to_owned(),
        format!("/v1/tenants/{encoded}/logs"),
        format!("/v1/tenants/{}/logs", "e".repeat(200)),
    ] {
        assert_eq!(with_token(&gateway, "GET", &path, Some(&token)).await.status.as_u16(), 403, "{path}");
    }
    for (method, path) in calls(&gateway).await.into_iter().filter(|(method, _)| method == "POST") {
        assert_eq!(with_token(&gateway, &method, &path, Some(&token)).await.status.as_u16(), 403, "{path}");
    }
    assert_eq!(gateway.get("echo.localhost", "/head").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_change_checks_its_etag_and_is_noted_in_the_audit_log() {
    let gateway = Gateway::start(&site());
    let seen = gateway.operate("GET", "/v1/tenants/echo", "").await;
    let etag = seen.header("etag").to_owned();
    let change = async |what: &str, etag: &str| {
        let asked = request("POST", "localhost", &format!("/v1/tenants/echo/{what}"))
            .header("authorization", format!("Bearer {}", gateway.token))
            .header("if-match", etag)
            .body(tests::empty())
            .unwrap();
        Client::plain(gateway.admin).send("localhost", asked).await
    };
    assert_eq!(change("suspend", "\"another\"").await.status.as_u16(), 412);
    assert_eq!(gateway.get("echo.localhost", "/head").await.status.as_u16(), 200, "nothing was done");
    let done = change("suspend", &etag).await;
    assert_eq!(done.status.as_u16(), 200);
    assert_ne!(done.header("etag"), etag);
    assert_eq!(gateway.get("echo.localhost", "/head").await.problem(), "suspended");
    assert_eq!(change("resume", &etag).await.status.as_u16(), 412, "somebody else was there meanwhile");
    assert_eq!(change("resume", done.header("etag")).await.status.as_u16(), 200);
    assert_eq!(gateway.get("echo.localhost", "/head").await.status.as_u16(), 200);
    // Callers without a token are not among them, however often they try.
    for _ in 0..300 {
        with_token(&gateway, "POST", "/v1/tenants/echo/suspend", Some("wrong")).await;
    }
    let changes = gateway.told("/v1/changes").await;
    let of = |at: usize| (changes[at]["action"].as_str().unwrap().to_owned(), changes[at]["status"].as_u64().unwrap());
    assert_eq!(of(0), ("/v1/tenants/echo/resume".to_owned(), 200));
    assert_eq!(of(3), ("/v1/tenants/echo/suspend".to_owned(), 412));
    let lines = until("the lines of the log", async || {
        let lines: Vec<_> = gateway.log("audit").into_iter().filter(|line| line["level"] == "INFO").collect();
        (lines.len() == 4).then_some(lines)
    })
    .await;
    assert_eq!((&lines[1]["by"], &lines[1]["status"]), (&"admin".into(), &200.into()), "{lines:?}");
    assert!(lines[1]["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{lines:?}");
}

#[tokio::test]
async fn the_command_line_shows_reloads_and_drains_the_gateway() {
    let site = site();
    let gateway = Gateway::start(&site);
    let (code, said) = gateway.tell(&site, &["status"]);
    assert!(code == Some(0) && said.contains("2 serving") && said.contains("embedded, answers"), "{said}");
    let (code, said) = gateway.tell(&site, &["tenant", "list", "ECHO.loc"]);
    assert!(code == Some(0) && said.starts_with("echo ") && said.lines().count() == 1, "{said}");
    let (_, said) = gateway.tell(&site, &["tenant", "show", "echo", "--json"]);
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&shown["usage"]["in_flight"]["max"], &shown["routes"][0]["path"]), (&64.into(), &"/...".into()));
    gateway.get("loud.localhost", "/trap").await;
    let fault = until("the fault", async || {
        let (code, said) = gateway.tell(&site, &["faults", "--tenant", "loud"]);
        (code == Some(0) && !said.is_empty()).then_some(said)
    })
    .await;
    assert!(fault.contains("trap") && fault.contains(" 502  loud"), "{fault}");
    assert_eq!(gateway.tell(&site, &["faults", "--tenant", "echo"]), (Some(0), String::new()));
    let (code, said) = gateway.tell(&site, &["reload"]);
    assert!(code == Some(0) && said.contains("is in force, with 0 problems"), "{said}");
    let (code, said) = gateway.tell(&site, &["dashboard"]);
    assert_eq!((code, said.trim()), (Some(0), &*format!("http://{}/#token={}", gateway.admin, gateway.token)));
    let (code, said) = gateway.tell(&site, &["drain"]);
    assert!(code == Some(0) && said.contains("drains"), "{said}");
    assert_eq!(gateway.wait(), Some(0));
}

#[tokio::test]
async fn a_tenants_log_is_followed_as_it_is_written() {
    let site = site();
    let gateway = Gateway::start(&site);
    gateway.get("loud.localhost", "/chatter").await;
    let printed = until("the first lines", async || {
        let (code, said) = gateway.tell(&site, &["logs", "--tenant", "loud", "-n", "3"]);
        (code == Some(0) && said.lines().count() == 3).then_some(said)
    })
    .await;
    assert!(!printed.contains('\u{1b}'), "a guest's control bytes reach no terminal: {printed:?}");
    let mut child = Command::new(tollgate())
        .args(["logs", "--tenant", "loud", "--follow", "--json", "--config"])
        .arg(site.config())
        .args(["--admin", &gateway.admin.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(first["unix_ms"].as_u64() > Some(0), "{first}");
    let id = gateway.get("loud.localhost", "/chatter").await.header("x-request-id").to_owned();
    let followed = tokio::task::spawn_blocking(move || lines.map_while(Result::ok).find(|line| line.contains(&id)));
    assert!(tokio::time::timeout(Duration::from_secs(20), followed).await.unwrap().unwrap().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_unix_socket_serves_the_api_to_its_own_user() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = site().gateway("[admin]\nsocket = \"../state/admin.sock\"");
    let gateway = Gateway::start(&site);
    let socket = site.path("state/admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // With a socket configured, the address is not used.
    let output = Command::new(tollgate()).args(["status", "--config"]).arg(site.config()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("2 serving"), "{output:?}");
    drop(gateway);
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.status().await["tenants"]["serving"], 2, "a socket that was left is in nobody's way");
}

#[tokio::test]
async fn metrics_arrive_every_second_while_a_client_watches() {
    let gateway = Gateway::start(&site());
    let client = gateway.client(Protocol::H2);
    let load = tokio::spawn(async move {
        for _ in 0..300 {
            client.get("echo.localhost", "/head").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let asked = request("GET", "localhost", "/v1/events")
        .header("authorization", format!("Bearer {}", gateway.token))
        .body(tests::empty())
        .unwrap();
    let client = Client::plain(gateway.admin);
    let response = client.start("localhost", asked).await.unwrap();
    let mut body = response.into_body();
    let mut text = String::new();
    while text.matches("\ndata:").count() + usize::from(text.starts_with("data:")) < 3 {
        let frame = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
        text += &String::from_utf8_lossy(&frame.into_data().unwrap());
    }
    let last = text.lines().rfind(|line| line.starts_with("data:")).unwrap();
    let tick: Value = serde_json::from_str(&last[5..]).unwrap();
    assert!(tick["requests_per_second"].as_f64() > Some(1.0), "{tick}");
    assert!(tick["latency"]["p99_ms"].as_f64() > Some(0.0), "{tick}");
    let rows = gateway.told("/v1/tenants?sort=requests&order=descending").await["tenants"].clone();
    assert_eq!(rows[0]["id"], "echo");
    assert!(rows[0]["requests_per_second"].as_f64() > Some(1.0), "{rows}");
    load.await.unwrap();
}

#[tokio::test]
async fn the_dashboard_works_in_a_browser_with_a_thousand_tenants() {
    let mut site = site();
    for number in 0..1000 {
        site = site.tenant(&format!("t{number:04}"), &Tenant::new(&format!("t{number:04}.localhost"), "echo"));
    }
    let gateway = Gateway::start(&site);
    gateway.get("loud.localhost", "/chatter").await;
    gateway.get("loud.localhost", "/trap").await;
    let client = gateway.client(Protocol::H2);
    let load = tokio::spawn(async move {
        loop {
            client.get("echo.localhost", "/head").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let pictures = std::env::var_os("TOLLGATE_PICTURES");
    let mut command = Command::new("node");
    command
        .arg(top().join("tests/clients/dashboard/dashboard.mjs"))
        .args([&format!("http://{}/", gateway.admin), &gateway.token, "loud", &gateway.process().to_string()])
        .args(pictures)
        .env("TOLLGATE_DASHBOARD_MODULES", cache().join("dashboard"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    load.abort();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["total"], "1,002 found", "{found:#}");
    assert_eq!(found["errors"], serde_json::json!([]), "{found:#}");
    assert_eq!(found["phone_overflow"], 0, "{found:#}");
    assert!(found["lost"].as_str().unwrap().starts_with("connection lost at "), "{found:#}");
    for (page, violations) in found["axe"].as_object().unwrap() {
        assert_eq!(violations, &serde_json::json!([]), "{page}");
    }
}

#[tokio::test]
async fn the_api_follows_its_document_for_any_request() {
    let gateway = Gateway::start(&site());
    let tool = cache().join("clients/bin/schemathesis");
    assert!(tool.exists(), "{} is missing: run `make setup-test`", tool.display());
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(tool);
    command
        .args(["run", &format!("http://{}/openapi.json", gateway.admin), "--url", &format!("http://{}", gateway.admin)])
        .args(["--header", &format!("Authorization: Bearer {}", gateway.token)])
        // Other tests cover endless streams and the end of the gateway.
        .args(["--exclude-path-regex", "events|drain|logs"])
        // An invented If-Match is valid input, and rightly gets 412.
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        .args(["--max-examples", "10", "--request-timeout", "10", "--seed", "7"])
        .current_dir(dir.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(gateway.status().await["problems"], 0, "it is still there, and well");
}

#[tokio::test]
async fn top_shows_the_metrics_and_the_details_of_a_tenant() {
    let site = site();
    let gateway = Gateway::start(&site);
    gateway.get("loud.localhost", "/trap").await;
    let words = [
        tollgate().display().to_string(),
        "top".to_owned(),
        "--config".to_owned(),
        site.config().display().to_string(),
        "--admin".to_owned(),
        gateway.admin.to_string(),
    ];
    // Sort by name, select and open the second tenant, go back, search, and leave.
    let keys = serde_json::json!([
        [2.5, "n"],
        [0.5, "j"],
        [0.5, "\r"],
        [1.5, "\u{1b}"],
        [0.5, "/"],
        [0.3, "ech"],
        [1.0, "\r"],
        [0.5, "q"]
    ]);
    let order = serde_json::json!({ "words": words, "keys": keys, "rows": 30, "columns": 120 });
    let said = python("terminal.py", order).await;
    let screen = said["screen"].as_str().unwrap();
    assert_eq!(said["code"], 0, "{screen}");
    for part in
        ["tollgate top", "live", "requests/s", "tenant ▼", "recent faults:", "trap", "Enter to keep it", "serving"]
    {
        assert!(screen.contains(part), "no {part:?} in {screen}");
    }
}

#[tokio::test]
async fn commands_report_that_no_gateway_runs() {
    let site = site();
    let gateway = Gateway::start(&site);
    let admin = gateway.admin.to_string();
    gateway.kill_9();
    for command in [&["top"][..], &["status"], &["logs", "--tenant", "echo"], &["reload"]] {
        let output = Command::new(tollgate())
            .args(command)
            .args(["--admin", &admin, "--config"])
            .arg(site.config())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("is it running?"), "{command:?}: {said}");
    }
}
