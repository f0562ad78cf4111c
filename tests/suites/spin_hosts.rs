//! Host calls of a Spin guest that are not implemented or not granted: the interface's own error, and a line in the
//! tenant's log.

use tests::{Answer, Gateway, Redis, Site, Tenant, check, guest, until};

fn site(manifest: &str, guests: &[&str]) -> Site {
    let file = "schema = 1\nhosts = [\"app.localhost\"]\napp = \"spin.toml\"\n";
    let site = Site::new().file("tenants/app/tenant.toml", file).file("tenants/app/spin.toml", manifest);
    guests
        .iter()
        .fold(site, |site, name| site.file(&format!("tenants/app/{name}.wasm"), std::fs::read(guest(name)).unwrap()))
}

/// An application with one component.
fn manifest(name: &str, more: &str) -> String {
    format!(
        "spin_manifest_version = 2\n[application]\nname = \"app\"\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n\
         [component.a]\nsource = \"{name}.wasm\"\n{more}\n"
    )
}

/// The lines that a request left in the tenant's log.
async fn lines(site: &Site, answer: &Answer, wanted: &str) -> Vec<String> {
    let path = site.path("state/logs/app.log");
    let id = answer.header("x-request-id").to_owned();
    let look = async || {
        let text = std::fs::read_to_string(&path).ok()?;
        let all = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let own = all.filter(|line| line["request_id"] == id.as_str());
        let own: Vec<String> = own.map(|line| line["text"].as_str().unwrap().to_owned()).collect();
        own.iter().any(|line| line.contains(wanted)).then_some(own)
    };
    until(wanted, look).await
}

#[tokio::test]
async fn an_unserved_call_returns_the_interfaces_own_error() {
    let site = site(&manifest("denied", ""), &["denied"]);
    let gateway = Gateway::start(&site);
    for (path, error, function) in [
        ("/sqlite", "Error::AccessDenied", "spin:sqlite/sqlite@3.1.0#[static]connection.open "),
        ("/sqlite-async", "Error::AccessDenied", "spin:sqlite/sqlite@3.1.0#[static]connection.open-async "),
        ("/mysql", "Error::ConnectionFailed(\"spin:mysql", "spin:mysql/mysql@3.0.0#[static]connection.open "),
        ("/mqtt", "Error::ConnectionFailed(\"fermyon:spin/mqtt", "fermyon:spin/mqtt@2.0.0#[static]connection.open "),
        ("/llm", "Error::RuntimeError(\"fermyon:spin/llm", "fermyon:spin/llm@2.0.0#generate-embeddings "),
        (
            "/postgres",
            "Error::ConnectionFailed(\"spin:postgres",
            "spin:postgres/postgres@4.2.0#[method]connection-builder.build ",
        ),
    ] {
        let answer = gateway.get("app.localhost", path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.text().starts_with(error), "{path}: {}", answer.text());
        let said = lines(&site, &answer, function).await;
        assert!(said.iter().all(|line| line.starts_with("tollgate: ")), "{path}: {said:?}");
    }
}

#[tokio::test]
async fn lines_about_unserved_calls_are_limited_and_a_function_without_an_error_traps() {
    let site = site(&manifest("denied", ""), &["denied"]);
    let gateway = Gateway::start(&site);
    let answer = gateway.get("app.localhost", "/many").await;
    assert_eq!(answer.text(), "50", "each call is answered");
    let said = lines(&site, &answer, "omitted for this request").await;
    assert_eq!(said.len(), 10, "{said:?}");
    let answer = gateway.get("app.localhost", "/nothing").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(!answer.text().contains("rdbms"), "a stranger reads nothing of it: {}", answer.text());
    lines(&site, &answer, "fermyon:spin/rdbms-types@2.0.0#nothing was called: this interface is not served here").await;
}

#[tokio::test]
async fn a_denied_outbound_request_logs_the_line_to_add() {
    let more = "allowed_outbound_hosts = [\"https://granted.example\"]";
    let plain = Tenant::new("plain.localhost", "hostile");
    let site = site(&manifest("hostile", more), &["hostile"]).tenant("plain", &plain);
    let gateway = Gateway::start(&site);
    let answer = gateway.get("app.localhost", "/fetch/http/API.example:8080/secret?token=1").await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (200, "HttpRequestDenied".to_owned()),
        "the guest's own answer"
    );
    let said = lines(&site, &answer, "was denied").await;
    let wanted = "add \"http://api.example:8080\" to allowed_outbound_hosts in [component.a] of spin.toml";
    assert!(said[0].contains(wanted) && !said[0].contains("token"), "{said:?}");
    let metrics = gateway.admin("/metrics").await;
    assert!(metrics.contains("tollgate_outbound_denied_total{tenant=\"app\"} 1\n"), "{metrics}");
    gateway.get("plain.localhost", "/fetch/https/other.example/").await;
    let wanted = "add \\\"https://other.example\\\" to `allow` in [egress] of tenant.toml";
    let path = site.path("state/logs/plain.log");
    let log = async || std::fs::read_to_string(&path).ok().filter(|text| text.contains(wanted));
    until("the tenant's log", log).await;
}

const LISTENS: &str = "spin_manifest_version = 2\n[application]\nname = \"app\"\n[application.trigger.redis]\n\
                       address = \"redis://localhost:6379\"\n[[trigger.redis]]\nchannel = \"channelOne\"\ncomponent = \"a\"\n\
                       [component.a]\nsource = \"messages-5.wasm\"\nkey_value_stores = [\"default\"]\n\
                       allowed_outbound_hosts = [\"redis://localhost:6379\"]\n";

#[tokio::test]
async fn a_notice_says_which_keys_and_channels_replace_a_manifests_redis() {
    let site = site(LISTENS, &["messages-5"]);
    let output = check(&site, &["--strict"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "a notice is no warning: {text}");
    for wanted in [
        "note[N0404 redis-stand-in]",
        "redis://localhost:6379",
        "note[N0405 channel-stand-in]",
        "tollgate publish --tenant app channelOne MESSAGE",
        "1 tenant, no problem, 2 notices",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("redis-cli"), "on the embedded store there is no server to ask: {text}");
    let redis = Redis::start();
    let output = check(&site, &["--storage", &redis.url()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let cli = format!("redis-cli -u {}", redis.url().trim_end_matches('/'));
    assert!(text.contains(&format!("{cli} get 'tg:{{app}}:r:KEY'")), "{text}");
    assert!(text.contains(&format!("{cli} publish 'tg:{{app}}:ch:channelOne' MESSAGE")), "{text}");
    let output = check(&site, &["--storage", &format!("redis://me:secret@127.0.0.1:{}/0", redis.port())]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&cli) && !text.contains("secret"), "{text}");
    let gateway = Gateway::start_with(&site, &["--storage", &redis.url()]);
    let heard = async || (redis.cli(&["publish", "tg:{app}:ch:channelOne", "hello"]).trim() == "1").then_some(());
    until("the channel that the notice names", heard).await;
    assert_eq!(gateway.status().await["problems"], 0, "nothing is wrong");
}
