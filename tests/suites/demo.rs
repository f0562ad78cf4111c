//! The demo tenants as shipped: the committed components and the shipped configuration.

use std::process::Command;

use tests::{Gateway, Protocol, Site, Tenant, top};

const DEMOS: [(&str, &[&str]); 4] =
    [("counter", &["site"]), ("hello", &["site"]), ("links", &["site"]), ("rps", &["rock", "paper", "scissors"])];

/// The shipped tenants with the shipped gateway's file, except for ports and state.
fn shipped() -> (Site, Gateway) {
    let shipped = std::fs::read_to_string(top().join("config/gateway.toml")).unwrap();
    let tenants = top().join("tenants");
    let text = shipped
        .replace("dir = \"../tenants\"", &format!("dir = \"{}\"", tenants.display()))
        .replace("format = \"text\"", "format = \"json\"");
    let site = Site::new().file("config/gateway.toml", text);
    let ports = ["--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let gateway = Gateway::start_with(&site, &ports);
    (site, gateway)
}

#[tokio::test]
async fn the_demo_tenants_do_what_the_readme_describes() {
    let (_site, gateway) = shipped();
    for protocol in [Protocol::H1, Protocol::H2] {
        let client = gateway.client(protocol);
        let hello = client.get("hello.localhost", "/").await;
        assert!(hello.text().contains("<h1>Hello from Tollgate</h1>"), "{}", hello.text());
        assert!(hello.text().contains("<code>hello.localhost</code>"), "{}", hello.text());
        assert!(hello.header("server-timing").contains("fuel;desc="));
    }
    let client = gateway.client(Protocol::H2);
    assert_eq!(client.get("counter.localhost", "/").await.text(), "1\n");
    assert_eq!(client.get("counter.localhost", "/").await.text(), "2\n");
    assert_eq!(client.get("counter.localhost", "/elsewhere").await.text(), "1\n");

    let put = client.call("PUT", "links.localhost", "/tour", "https://example.com/a?b=c").await;
    assert_eq!(put.status.as_u16(), 201, "{}", put.text());
    let go = client.get("links.localhost", "/tour").await;
    assert_eq!((go.status.as_u16(), go.header("location")), (308, "https://example.com/a?b=c"));
    let list = client.get("links.localhost", "/").await.text();
    assert!(list.contains("<a href=\"/tour\">/tour</a><td>https://example.com/a?b=c<td class=n>1"), "{list}");
    assert_eq!(client.get("links.localhost", "/none").await.status.as_u16(), 404);
    assert_eq!(client.call("PUT", "links.localhost", "/bad", "javascript:alert(1)").await.status.as_u16(), 400);

    for hand in ["rock", "paper", "scissors"] {
        let played = client.get("rps.localhost", &format!("/{hand}")).await.text();
        assert!(played.starts_with(&format!("You play {hand}, the house plays ")), "{played}");
    }
    assert_eq!(client.get("rps.localhost", "/lizard").await.status.as_u16(), 404);
    for id in ["counter", "hello", "links", "rps"] {
        assert_eq!(gateway.tenants().await.iter().filter(|t| t["id"] == id).count(), 1);
    }
}

#[test]
fn the_committed_components_are_small_clean_and_match_their_source() {
    for (tenant, components) in DEMOS {
        let dir = top().join("tenants").join(tenant);
        for component in components {
            let bytes = std::fs::read(dir.join(format!("{component}.wasm"))).unwrap();
            assert!(bytes.len() < 300 << 10, "{tenant}/{component} has {} bytes", bytes.len());
            let text = String::from_utf8_lossy(&bytes);
            for path in ["/root/", "/home/", "/Users/", "/work/", ".cargo/registry"] {
                assert!(!text.contains(path), "{tenant}/{component} has a path of the machine that built it: {path}");
            }
        }
        let hash = Command::new(top().join("tests/guests/build.sh")).arg("--hash").arg(&dir).output().unwrap();
        let hash = String::from_utf8(hash.stdout).unwrap();
        let recorded = std::fs::read_to_string(dir.join("source.sha256")).unwrap();
        assert_eq!(hash, recorded, "the source of {tenant} is not what its component was built from: run `make demos`");
    }
}

/// Runs `check` on a shipped gateway file. Returns its JSON output.
fn check(name: &str) -> serde_json::Value {
    let state = tempfile::tempdir().unwrap();
    let check = Command::new(tests::tollgate())
        .args(["check", "--json", "--config"])
        .arg(top().join("config").join(name))
        .arg("--state")
        .arg(state.path())
        .env("TOLLGATE_REDIS_URL", "redis://127.0.0.1:6379")
        .output()
        .unwrap();
    serde_json::from_slice(&check.stdout).unwrap()
}

#[test]
fn no_shipped_file_has_a_problem() {
    for entry in std::fs::read_dir(top().join("config")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".toml") {
            continue;
        }
        let found = check(&name);
        let problems = found["problems"].as_array().unwrap();
        if name == "production.toml" {
            // It is for a machine with these files; nothing else may be wrong with it.
            let missing = |problem: &serde_json::Value| {
                let file = problem["file"].as_str().unwrap();
                file == "/etc/tollgate/tenants"
                    || problem["found"].as_str().unwrap().contains("/etc/tollgate/redis-url")
            };
            assert!(problems.iter().all(missing), "{found:#}");
        } else {
            assert_eq!((&found["tenants"], problems.len()), (&4.into(), 0), "{name}: {found:#}");
        }
    }
}

#[tokio::test]
async fn the_page_without_a_framework_equals_the_demo_tenants() {
    let greeting = "[env]\nGREETING = \"Hello from Tollgate\"";
    let of = |host, component| Tenant::of(host, component).with(greeting);
    let demo = top().join("tenants/hello/site.wasm");
    let site = Site::new()
        .tenant("hello", &of("hello.localhost", &demo))
        .tenant("plain", &of("plain.localhost", &tests::guest("plain-hello")));
    let gateway = Gateway::start(&site);
    let (page, plain) = (gateway.get("hello.localhost", "/").await, gateway.get("plain.localhost", "/").await);
    assert_eq!(page.text().replace("hello.localhost", "plain.localhost"), plain.text());
    assert_eq!(page.header("content-type"), plain.header("content-type"));
}
