//! Every SDK and toolchain of `gateway/docs/sdks.md` that is available here: outbound requests and messages. The suites
//! that the table names test its other columns (HTTP, storage, variables).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};

use tests::{Gateway, Protocol, Redis, Site, Tenant, guest, top, until};

/// Spin's Rust SDKs, as components and as the core modules that templates up to 3.6 build.
const HTTP: [&str; 6] =
    ["spin-sdk-3", "spin-sdk-3-module", "spin-sdk-5", "spin-sdk-5-module", "spin-sdk-6", "spin-sdk-7"];
const MESSAGES: [&str; 8] = [
    "messages-2",
    "messages-2-module",
    "messages-3",
    "messages-3-module",
    "messages-5",
    "messages-5-module",
    "messages-6",
    "messages-7",
];

/// A server outside that answers every request.
fn outside() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            let _gone =
                write!(reader.get_mut(), "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello");
        }
    });
    address
}

#[tokio::test]
async fn every_sdk_reaches_only_granted_origins() {
    let outside = outside();
    let mut site = Site::new();
    for name in HTTP {
        let tenant =
            Tenant::new(&format!("{name}.localhost"), name).stores(&["default"]).redis(&["redis://granted:6379"]);
        site = site.tenant(name, &tenant.with(&format!("[egress]\nallow = [\"http://{outside}\"]")));
    }
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    for name in HTTP {
        let fetch = async |url: String| client.call("POST", &format!("{name}.localhost"), "/fetch", url).await.text();
        assert_eq!(fetch(format!("http://{outside}/")).await, "200 hello", "{name}");
        let denied = fetch("http://127.0.0.1:1/".to_owned()).await;
        assert!(denied.contains("Denied"), "{name}: {denied}");
    }
}

#[tokio::test]
async fn every_sdk_handles_messages() {
    let redis = Redis::start();
    let mut site = Site::new();
    for name in MESSAGES {
        let tenant = format!(
            "schema = 1\nhosts = [\"{name}.localhost\"]\n[[component]]\nname = \"listener\"\nsource = \"{}\"\n\
             stores = [\"default\"]\nredis = [\"redis://granted:6379\"]\n\
             [[subscription]]\nchannel = \"orders\"\ncomponent = \"listener\"\n",
            guest(name).display()
        );
        site = site.file(&format!("tenants/{name}/tenant.toml"), tenant);
    }
    let gateway = Gateway::start_with(&site, &["--storage", &redis.url()]);
    gateway.storage().await;
    for name in MESSAGES {
        let publish = || redis.cli(&["PUBLISH", &format!("tg:{{{name}}}:ch:orders"), "append k heard"]);
        until(name, async || (publish() == "1").then_some(())).await;
        let value = || redis.cli(&["HGET", &format!("tg:{{{name}}}:kv:default"), "k"]);
        until(name, async || value().contains("heard").then_some(())).await;
    }
}

/// A row names the guests that were built with the SDK and the suites that test them, or says why it cannot be built here.
#[test]
fn the_table_of_sdks_names_guests_and_the_suites_that_test_them() {
    let text = std::fs::read_to_string(top().join("gateway/docs/sdks.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| SDK"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 12, "{}", rows.len());
    let suite = |name: &str| std::fs::read_to_string(top().join(format!("tests/suites/{name}.rs")));
    for row in rows {
        let [sdk, guests, cells @ ..] = row.as_slice() else { panic!("{row:?}") };
        assert_eq!(cells.len(), 6, "{sdk}: a cell for each capability");
        let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let guests = quoted(guests);
        for cell in cells {
            if *cell == "not built here" {
                assert!(guests.is_empty(), "{sdk}: a guest that is not built");
                continue;
            }
            if *cell == "not tried" {
                continue;
            }
            let suites = quoted(cell);
            assert!(!suites.is_empty(), "{sdk}: {cell} names no suite");
            for name in suites {
                let source = suite(&name).unwrap_or_else(|_| panic!("{sdk}: there is no suite {name}"));
                let names_one = guests.iter().any(|guest| source.contains(&format!("\"{guest}\"")));
                assert!(names_one, "{sdk}: the suite {name} names none of {guests:?}");
            }
        }
    }
}
