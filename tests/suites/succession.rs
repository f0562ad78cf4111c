//! One gateway after another on one state folder: what a clean exit leaves, and how a process that takes over reaches the
//! running one.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};

use serde_json::Value;
use tests::{Gateway, Redis, Site, Tenant, tollgate};

const OLD: &str = "the-first-token-of-the-operators-0123456789";
const NEW: &str = "another-token-of-the-operators-0123456789ab";

fn kv(host: &str) -> Tenant {
    Tenant::new(host, "kv").stores(&["default"])
}

fn site() -> Site {
    Site::new().tenant("one", &kv("one.localhost")).tenant("none", &kv("none.localhost"))
}

/// What a start on Redis reports about data that is left in the embedded store.
fn left_behind(site: &Site, redis: &Redis) -> Option<String> {
    let gateway = Gateway::start_with(site, &["--storage", &redis.url()]);
    let lines = gateway.log("config");
    let line = lines.iter().find(|line| line.to_string().contains("W0508"))?;
    Some(line["found"].as_str().unwrap().to_owned())
}

fn ended(gateway: Gateway) {
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_reports_whose_data_it_has_and_an_unclosed_one_cannot() {
    let (redis, site) = (Redis::start(), site());
    let gateway = Gateway::start(&site);
    let set = ["kv", "set", "--tenant", "one", "greeting", "hello"];
    let (code, said) = gateway.tell(&site, &set);
    assert_eq!(code, Some(0), "{said}");
    ended(gateway);
    let found = left_behind(&site, &redis).unwrap();
    assert!(found.ends_with(": one (1 keys)"), "{found}");
    // Killed: the file must be repaired before anyone can read it.
    Gateway::start(&site).kill_9();
    let found = left_behind(&site, &redis).unwrap();
    assert!(found.contains("one (perhaps)") && found.contains("none (perhaps)"), "{found}");
    // The next start repairs it. A store without data is not reported.
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.tell(&site, &["kv", "get", "--tenant", "one", "greeting"]).1, "hello");
    assert_eq!(gateway.tell(&site, &["kv", "purge", "--tenant", "one", "--yes"]).0, Some(0));
    ended(gateway);
    assert_eq!(left_behind(&site, &redis), None);
}

#[tokio::test]
async fn a_start_that_fails_leaves_the_store_closed() {
    let (redis, site) = (Redis::start(), site());
    let gateway = Gateway::start(&site);
    let (code, said) = gateway.tell(&site, &["kv", "set", "--tenant", "one", "greeting", "hello"]);
    assert_eq!(code, Some(0), "{said}");
    ended(gateway);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = serve(&site, &["--https", &taken.local_addr().unwrap().to_string()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("cannot listen on"), "{said}");
    let found = left_behind(&site, &redis).unwrap();
    assert!(found.ends_with(": one (1 keys)"), "{found}");
}

fn serve(site: &Site, arguments: &[&str]) -> Output {
    Command::new(tollgate()).args(["serve", "--config"]).arg(site.config()).args(arguments).output().unwrap()
}

fn with_token(site: Site, token: &str) -> Site {
    let site = site.gateway("[admin]\ntoken = { file = \"admin.token\" }");
    site.file("config/admin.token", token)
}

fn started(site: &Site, arguments: &[&str], token: &str) -> Gateway {
    let mut gateway = Gateway::start_with(site, arguments);
    token.clone_into(&mut gateway.token);
    gateway
}

fn running(site: &Site) -> Value {
    serde_json::from_slice(&std::fs::read(site.path("state/running.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_learns_the_served_tenants_even_after_the_token_changed() {
    let site = with_token(site(), OLD);
    let mut old = started(&site, &[], OLD);
    // The token in the folder may only read.
    let text = running(&site)["looks_by"].as_str().unwrap().to_owned();
    old.token = text.clone();
    assert_eq!(old.status().await["tenants"]["serving"], 2);
    for path in ["/v1/drain", "/v1/tenants/one/data/names"] {
        assert_eq!(old.operate("POST", path, "{}").await.status.as_u16(), 403, "{path}");
    }
    assert_eq!(old.operate("GET", "/v1/tenants/one/logs", "").await.status.as_u16(), 403);
    let site = site.file("config/admin.token", NEW);
    // It still checks which tenants it would leave out.
    let good = std::fs::read(site.path("tenants/one/tenant.toml")).unwrap();
    site.write("tenants/one/tenant.toml", "half a file");
    let refused = serve(&site, &["--takeover"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("it serves one, and this one would not"), "{said}");
    site.write("tenants/one/tenant.toml", good);
    let mut new = started(&site, &["--takeover"], NEW);
    assert_eq!(old.wait(), Some(0));
    assert_eq!(new.status().await["tenants"]["serving"], 2);
    // Earlier tokens are not valid.
    for token in [OLD, &text] {
        token.clone_into(&mut new.token);
        assert_eq!(new.operate("GET", "/v1/status", "").await.status.as_u16(), 401);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_from_an_earlier_version_with_another_token_explains_what_to_do() {
    let site = with_token(site(), OLD);
    let old = started(&site, &[], OLD);
    let mut written = running(&site);
    written.as_object_mut().unwrap().remove("looks_by");
    let site = site.file("state/running.json", written.to_string()).file("config/admin.token", NEW);
    let refused = serve(&site, &["--takeover"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("it was started with another admin.token") && said.contains("--leave-out"), "{said}");
    assert_eq!(old.status().await["tenants"]["serving"], 2, "the one that runs goes on");
    // A command reports the same about its token.
    let (code, said) = old.tell(&site, &["status"]);
    assert!(code == Some(1) && said.contains("takes another token: was admin.token changed"), "{said}");
    let new = started(&site, &["--takeover", "--leave-out"], NEW);
    assert_eq!(old.wait(), Some(0));
    assert_eq!(new.status().await["tenants"]["serving"], 2);
}

/// The old process's end must not be the service's: the service manager is notified of the new process before the old one
/// is told to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_is_notified_of_the_new_process_before_the_old_one_ends() {
    let redis = Redis::start();
    for storage in ["embedded".to_owned(), redis.url()] {
        let site = site();
        let path = site.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(tests::PATIENCE)).unwrap();
        let said = || {
            let mut words = [0; 256];
            let length = socket.recv(&mut words).unwrap();
            String::from_utf8_lossy(&words[..length]).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let variables = [("NOTIFY_SOCKET", path.display().to_string())];
        let old = Gateway::start_in(&site, &["--storage", &storage], &variables);
        assert_eq!(said(), ["READY=1", "STATUS=serving"], "who takes over from nobody is the main process already");
        let new = Gateway::start_in(&site, &["--storage", &storage, "--takeover"], &variables);
        let main = format!("MAINPID={}", new.process());
        assert_eq!(said(), [main.as_str(), "STATUS=taking over"]);
        assert_eq!(said(), ["READY=1", main.as_str(), "STATUS=serving"]);
        // The old process exits without a notification: the service continues.
        assert_eq!(old.wait(), Some(0));
        ended(new);
        assert_eq!(said()[0], "STOPPING=1");
    }
}
