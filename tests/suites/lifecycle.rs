//! Start, reload, drain, and what is kept between two runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use tests::{Client, Gateway, Protocol, Site, Tenant};

fn site() -> Site {
    Site::new()
        .tenant("echo", &Tenant::new("echo.localhost", "echo"))
        .tenant("slow", &Tenant::new("slow.localhost", "hostile").with("[limits]\ntime = \"3s\"\nfuel = \"9000G\""))
}

#[tokio::test]
async fn a_component_compiled_before_answers_after_a_restart_without_compiling() {
    // A folder of its own: other tests have it compiled already in theirs.
    let fresh = site();
    let compiled = fresh.path("state/compiled");
    let fresh = fresh.file(
        "config/gateway.toml",
        format!(
            "schema = 1\n[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [isolation]\nwatch = false\n[sandbox]\ncompiled = \"{}\"\n",
            compiled.display()
        ),
    );
    let first = Gateway::start(&fresh);
    assert_eq!(first.metric("tollgate_compilations_total").await, 2.0);
    assert_eq!(first.get("echo.localhost", "/head").await.status.as_u16(), 200);
    first.kill_9();
    let second = Gateway::start(&fresh);
    assert_eq!(second.get("echo.localhost", "/head").await.status.as_u16(), 200);
    assert_eq!(second.metric("tollgate_compilations_total").await, 0.0);
}

#[tokio::test]
async fn compile_ahead_leaves_nothing_to_compile() {
    let fresh = Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"));
    let own = fresh.path("state/compiled");
    let text = std::fs::read_to_string(fresh.config()).unwrap();
    let old = text.lines().find(|line| line.starts_with("compiled")).unwrap().to_owned();
    fresh.write("config/gateway.toml", text.replace(&old, &format!("compiled = \"{}\"", own.display())));
    let done = std::process::Command::new(tests::tollgate())
        .args(["compile", "--config"])
        .arg(fresh.config())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let gateway = Gateway::start(&fresh);
    assert_eq!(gateway.metric("tollgate_compilations_total").await, 0.0);
}

#[tokio::test]
async fn sigterm_finishes_requests_in_flight_and_accepts_no_new_ones() {
    let gateway = Gateway::start(&site());
    let (https, admin) = (gateway.https, gateway.admin);
    let client = gateway.client(Protocol::H2);
    let slow = tokio::spawn(async move { client.get("slow.localhost", "/drip").await });
    tests::until("the request", async || (gateway.metric("tollgate_instances").await > 0.0).then_some(())).await;

    gateway.signal("TERM");
    tests::until("a closed door", async || tokio::net::TcpStream::connect(https).await.is_err().then_some(())).await;
    let ready = Client::plain(admin).get("localhost", "/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.text().as_str()), (503, "draining\n"));
    let answer = slow.await.unwrap();
    // It dripped for its three seconds, through the drain, and was ended by its own deadline.
    assert!(answer.text().len() > 20, "{}", answer.text());
    assert_eq!(gateway.wait(), Some(0));
}

#[tokio::test]
async fn a_drain_has_a_limit() {
    let slow = Tenant::new("slow.localhost", "hostile").with("[limits]\ntime = \"50s\"");
    let site = Site::new().tenant("slow", &slow);
    let text = std::fs::read_to_string(site.config()).unwrap();
    site.write("config/gateway.toml", text.replace("drain = \"10s\"", "drain = \"1s\""));
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H1);
    let held = tokio::spawn(async move {
        client
            .start("slow.localhost", tests::request("GET", "slow.localhost", "/sleep").body(tests::empty()).unwrap())
            .await
            .map(|response| response.status().as_u16())
    });
    tests::until("the request", async || (gateway.metric("tollgate_instances").await > 0.0).then_some(())).await;
    let start = std::time::Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(30), "it did not wait for the fifty seconds");
    // Whether its connection or its guest is ended first, it breaks off or gets an error.
    assert!(held.await.unwrap().map_or(true, |status| status == 500), "the request was not served");
}

#[tokio::test]
async fn a_reload_changes_tenants_and_keeps_the_last_good_version() {
    let site = site();
    let gateway = Gateway::start(&site);
    let generation = async || gateway.metric("tollgate_config_generation").await;
    let file = site.path("tenants/echo/tenant.toml");
    let good = std::fs::read_to_string(&file).unwrap();

    let reload = async |text: &str| {
        let before = generation().await;
        site.write("tenants/echo/tenant.toml", text);
        gateway.signal("HUP");
        tests::until("the reload", async || (generation().await > before).then_some(())).await;
    };
    reload(&good.replace("echo.localhost", "renamed.localhost")).await;
    assert_eq!(gateway.get("renamed.localhost", "/head").await.status.as_u16(), 200, "with a certificate of its own");

    reload("schema = 1\nthis is not it").await;
    assert_eq!(gateway.get("renamed.localhost", "/head").await.status.as_u16(), 200, "the last good one");
    assert_eq!(gateway.tenant("echo").await["standing"], "stale");
    assert_eq!(gateway.get("slow.localhost", "/ok").await.text(), "ok");

    reload(&good.replace("schema = 1", "schema = 1\nenabled = false")).await;
    let suspended = gateway.get("echo.localhost", "/head").await;
    assert_eq!((suspended.status.as_u16(), suspended.problem().as_str()), (503, "suspended"));
    assert_eq!(gateway.tenant("echo").await["standing"], "suspended");
}

#[tokio::test]
async fn a_valid_change_on_disk_is_served_and_an_invalid_one_is_not() {
    let site = site();
    let gateway = Gateway::start(&site);
    let served = async |host: &str, wanted: u16| {
        tests::until(&format!("{wanted} of {host}"), async || {
            let has = gateway.admin("/v1/tenants").await.contains(&format!("\"{host}\""));
            (has == (wanted == 200)).then_some(())
        })
        .await;
        // Without a tenant there is no certificate either.
        if wanted == 200 {
            assert_eq!(gateway.get(host, "/head").await.status.as_u16(), 200, "{host}");
        }
    };
    let file = site.path("tenants/echo/tenant.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    // As editors do it: a new file, and then a rename over the old one.
    site.write("tenants/echo/.tenant.toml.new", good.replace("echo.localhost", "renamed.localhost"));
    std::fs::rename(site.path("tenants/echo/.tenant.toml.new"), &file).unwrap();
    served("renamed.localhost", 200).await;
    served("echo.localhost", 404).await;
    let loads = gateway.log("config").len();
    site.write("tenants/echo/tenant.toml", "schema = 1\nthis is not it");
    tests::until("the problem", async || (gateway.metric("tollgate_config_problems").await > 0.0).then_some(())).await;
    served("renamed.localhost", 200).await;
    site.write("tenants/echo/tenant.toml", &good);
    served("echo.localhost", 200).await;
    assert!(gateway.log("config").len() > loads);
    // One tenant is added, and one is removed.
    std::fs::create_dir(site.path("tenants/late")).unwrap();
    std::fs::copy(tests::guest("echo"), site.path("tenants/late/site.wasm")).unwrap();
    let component = good.lines().find(|line| line.starts_with("source")).unwrap();
    let late = good.replace("echo.localhost", "late.localhost").replace(component, "source = \"site.wasm\"");
    site.write("tenants/late/tenant.toml", late);
    served("late.localhost", 200).await;
    std::fs::remove_dir_all(site.path("tenants/late")).unwrap();
    served("late.localhost", 404).await;
}

#[tokio::test]
async fn late_and_indirect_changes_are_detected_too() {
    let site = site();
    std::fs::create_dir(site.path("shared")).unwrap();
    std::fs::copy(tests::guest("echo"), site.path("shared/app.wasm")).unwrap();
    let tenant = |name: &str| {
        format!(
            "schema = 1\nhosts = [\"{name}.localhost\"]\n[[component]]\nname = \"site\"\n\
             source = \"../../shared/app.wasm\"\n[[route]]\npath = \"/...\"\ncomponent = \"site\"\n"
        )
    };
    for name in ["a", "b"] {
        std::fs::create_dir_all(site.path(&format!("tenants/{name}"))).unwrap();
        site.write(&format!("tenants/{name}/tenant.toml"), tenant(name));
    }
    let gateway = Gateway::start(&site);
    let problems = async |count: f64| {
        tests::until(&format!("{count} problems"), async || {
            (gateway.metric("tollgate_config_problems").await == count).then_some(())
        })
        .await;
    };
    // One file of two tenants, each with its own path to it.
    std::fs::write(site.path("shared/app.wasm"), "no component").unwrap();
    problems(2.0).await;
    std::fs::copy(tests::guest("echo"), site.path("shared/app.wasm")).unwrap();
    problems(0.0).await;
    // A folder whose file is added much later, as an editor does it.
    std::fs::create_dir(site.path("tenants/late")).unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    site.write("tenants/late/tenant.toml", tenant("late"));
    tests::until("the late one", async || gateway.admin("/v1/tenants").await.contains("late.localhost").then_some(()))
        .await;
    // A tenant with an invalid file keeps its host, and nobody takes it meanwhile.
    site.write("tenants/b/tenant.toml", "half a");
    problems(1.0).await;
    site.write("tenants/a/tenant.toml", tenant("a").replace("[\"a.localhost\"]", "[\"a.localhost\", \"b.localhost\"]"));
    problems(2.0).await;
    let answer = gateway.get("b.localhost", "/head").await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(gateway.record(&answer).await["tenant"], "b");
    // A tenant whose file cannot be read is served as before, and so are all tenants if their common folder cannot be read.
    std::fs::remove_file(site.path("tenants/late/tenant.toml")).unwrap();
    std::fs::create_dir(site.path("tenants/late/tenant.toml")).unwrap();
    problems(3.0).await;
    assert_eq!(gateway.get("late.localhost", "/head").await.status.as_u16(), 200);
    std::fs::rename(site.path("tenants"), site.path("elsewhere")).unwrap();
    let before = gateway.metric("tollgate_config_generation").await;
    gateway.signal("HUP");
    tests::until("the reload", async || (gateway.metric("tollgate_config_generation").await > before).then_some(()))
        .await;
    assert_eq!(gateway.get("a.localhost", "/head").await.status.as_u16(), 200);
}

/// The serial number of the certificate for a name, and whether the session was resumed.
async fn shaken(gateway: &Gateway, config: &Arc<rustls::ClientConfig>, name: &str) -> (Vec<u8>, bool) {
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let tcp = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
    let mut tls = connector.connect(name.to_owned().try_into().unwrap(), tcp).await.unwrap();
    let session = tls.get_ref().1;
    let leaf = session.peer_certificates().unwrap()[0].to_vec();
    let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    // TLS 1.3 sends tickets after the handshake, together with the answer.
    tls.write_all(format!("GET /head HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    (leaf, resumed)
}

#[tokio::test]
async fn a_certificate_is_replaced_during_handshakes() {
    let made = || rcgen::generate_simple_self_signed(vec!["own.localhost".to_owned()]).unwrap();
    let (first, second) = (made(), made());
    let own = Tenant::new("own.localhost", "echo")
        .with("[tls]\ncert = \"../../live/cert.pem\"\nkey = \"../../live/key.pem\"");
    let site = Site::new().tenant("own", &own);
    let put = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        site.write("live/key.pem", made.signing_key.serialize_pem());
        site.write("live/cert.pem", made.cert.pem());
    };
    put(&first);
    let gateway = Gateway::start(&site);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(first.cert.der().clone()).unwrap();
    roots.add(second.cert.der().clone()).unwrap();
    let config =
        || Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth());
    let keeps = config();
    assert!(!shaken(&gateway, &keeps, "own.localhost").await.1);
    let resumed = shaken(&gateway, &keeps, "own.localhost").await;
    assert_eq!(resumed, (first.cert.der().to_vec(), true), "the second connection resumes the first");

    // A key that does not match the certificate, between two writes or for good: the old pair stays.
    site.write("live/key.pem", second.signing_key.serialize_pem());
    tests::until("the problem", async || (gateway.metric("tollgate_config_problems").await > 0.0).then_some(())).await;
    assert_eq!(shaken(&gateway, &config(), "own.localhost").await.0, first.cert.der().to_vec());
    put(&second);
    tests::until("the second certificate", async || {
        let (leaf, _) = shaken(&gateway, &config(), "own.localhost").await;
        (leaf == second.cert.der().to_vec()).then_some(())
    })
    .await;
    assert!(gateway.metric("tollgate_certificate_expiry_seconds").await > 0.0);
    assert!(gateway.told("/v1/certificates").await[0]["not_after_ms"].as_u64().unwrap() > 1_700_000_000_000);
}

#[tokio::test]
async fn flags_override_variables_and_those_override_the_file() {
    let site = site();
    let [of_file, of_variable, of_flag] = std::array::from_fn(|_| tests::free_address());
    let text = std::fs::read_to_string(site.config()).unwrap();
    let file = text.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{of_file}\""));
    site.write("config/gateway.toml", file);
    assert_eq!(Gateway::start(&site).admin, of_file);
    let variable = [("TOLLGATE_ADMIN", of_variable.to_string())];
    assert_eq!(Gateway::start_in(&site, &[], &variable).admin, of_variable);
    assert_eq!(Gateway::start_in(&site, &["--admin", &of_flag.to_string()], &variable).admin, of_flag);
}

#[test]
fn the_development_ca_is_printed_with_what_to_do() {
    let site = site();
    let run = || {
        let ca = std::process::Command::new(tests::tollgate()).args(["ca", "--config"]).arg(site.config()).output();
        String::from_utf8(ca.unwrap().stdout).unwrap()
    };
    let text = run();
    assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");
    assert!(text.contains(&format!("curl --cacert {}", site.path("state/tls/ca.pem").display())), "{text}");
    assert!(!text.contains("PRIVATE KEY"));
    assert_eq!(run(), text, "it is made once");
}

#[tokio::test]
async fn the_operators_listener_reports_the_gateways_state() {
    let gateway = Gateway::start(&site());
    assert_eq!(gateway.admin("/healthz").await, "ok\n");
    assert_eq!(gateway.admin("/readyz").await, "ready\n");
    gateway.get("echo.localhost", "/head").await;
    tests::until("the count", async || {
        let line = "tollgate_requests_total{tenant=\"echo\",status=\"2xx\"}";
        gateway.admin("/metrics").await.contains(line).then_some(())
    })
    .await;
    let status = gateway.status().await;
    // One more if components had to be compiled first.
    assert!(status["generation"].as_u64().unwrap() >= 1, "{status}");
    assert_eq!(status["storage"]["backend"], "embedded");
    assert_eq!(status["tenants"]["serving"], 2);
    assert!(gateway.announced.contains("https  127.0.0.1:"), "{}", gateway.announced);
    let missing = gateway.operate("GET", "/nothing", "").await;
    assert_eq!(missing.status.as_u16(), 404);
}

#[tokio::test]
async fn one_access_record_contains_everything() {
    let gateway = Gateway::start(&site());
    let answer = gateway.client(Protocol::H1).call("POST", "echo.localhost", "/some/path", "12345").await;
    let record = gateway.record(&answer).await;
    let generation = gateway.status().await["generation"].clone();
    for (field, value) in [
        ("tenant", serde_json::json!("echo")),
        ("component", "site".into()),
        ("route", "/...".into()),
        ("method", "POST".into()),
        ("host", "echo.localhost".into()),
        ("path", "/some/path".into()),
        ("status", 200.into()),
        ("fault", "".into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 5.into()),
        ("storage_ops", 0.into()),
        ("generation", generation),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    for field in ["duration_us", "instance_us", "guest_us", "fuel", "memory_peak"] {
        assert!(record[field].as_u64().unwrap() > 0, "{field} in {record}");
    }
    assert!(record["queue_us"].is_u64() && record["load_us"].is_u64());
}

/// However often others were requested before, the component that is requested now stays in memory.
#[tokio::test]
async fn an_earlier_burst_keeps_no_component_out_of_memory() {
    let storm = ["echo", "hostile", "kv", "kv-draft", "spin", "async-hello"];
    let mut site = Site::new().tenant("calm", &Tenant::new("calm.localhost", "hello-site"));
    for guest in storm {
        let grants = Tenant::new(&format!("{guest}.localhost"), guest).stores(&["default"]);
        site = site.tenant(guest, &grants.redis(&["redis://granted:6379"]));
    }
    let gateway = Gateway::start(&site.gateway("[sandbox]\ncache = \"1MiB\""));
    for _ in 0..30 {
        for guest in storm {
            gateway.get(&format!("{guest}.localhost"), "/ok").await;
        }
    }
    let before = gateway.metric("tollgate_component_loads_total").await;
    assert!(before > 6.0, "they do not fit together: {before}");
    for _ in 0..150 {
        assert_eq!(gateway.get("calm.localhost", "/").await.status.as_u16(), 200);
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let loads = gateway.metric("tollgate_component_loads_total").await - before;
    assert!(loads <= 2.0, "it was loaded {loads} times");
}

/// A gateway with fixed ports, because a process that takes over has the same configuration.
fn settled(storage: &str) -> Site {
    let site = site().gateway(storage);
    let text = std::fs::read_to_string(site.config()).unwrap();
    let (https, admin) = (tests::free_address(), tests::free_address());
    let text = text.replace("https = [\"127.0.0.1:0\"]", &format!("https = [\"{https}\"]"));
    site.write("config/gateway.toml", text.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{admin}\"")));
    site
}

/// Sends requests without a pause, over open connections and over new ones, until told to stop. Returns the number of
/// answers.
async fn ask(client: Client, protocol: Protocol, is_kept: bool, stop: Arc<AtomicBool>) -> u32 {
    let mut count = 0;
    let mut kept = None;
    while !stop.load(Ordering::Relaxed) {
        if kept.is_none() || !is_kept {
            kept = Some(client.connect("echo.localhost").await);
        }
        let request = tests::request("GET", "echo.localhost", "/head").body(tests::empty()).unwrap();
        let response = kept.as_mut().unwrap().send(request).await;
        // A request that never left the client because the connection had ended is sent again on another one (RFC 9113
        // §8.7).
        if response.as_ref().is_err_and(|error| error.contains("Canceled")) {
            kept = None;
            continue;
        }
        assert!(response.is_ok(), "{protocol:?} kept {is_kept} after {count}: {response:?}");
        let response = response.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        // The client obeys: it sends no further request on this connection.
        let is_last = response.headers().get("connection").is_some_and(|value| value == "close");
        tests::read(response).await;
        if is_last || kept.as_ref().unwrap().is_closed() {
            kept = None;
        }
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_takes_over_and_no_request_fails() {
    let redis = tests::Redis::start();
    for storage in [String::new(), format!("[storage]\nbackend = \"redis\"\nurl = \"{}\"", redis.url())] {
        let site = settled(&storage);
        let old = Gateway::start(&site);
        let stop = Arc::<AtomicBool>::default();
        let ways = [Protocol::H1, Protocol::H2].into_iter().flat_map(|protocol| [(protocol, true), (protocol, false)]);
        let asking: Vec<_> = ways
            .map(|(protocol, is_kept)| tokio::spawn(ask(old.client(protocol), protocol, is_kept, stop.clone())))
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let site = Arc::new(site);
        let with = Arc::clone(&site);
        let new = tokio::task::spawn_blocking(move || Gateway::start_with(&with, &["--takeover"])).await.unwrap();
        let code = tokio::task::spawn_blocking(move || old.wait()).await.unwrap();
        assert_eq!(code, Some(0), "the old one ended by itself");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(new.admin("/readyz").await, "ready\n");
        stop.store(true, Ordering::Relaxed);
        for asked in asking {
            assert!(asked.await.unwrap() > 10);
        }
        // And once more, from the process that took over.
        let third = tokio::task::spawn_blocking(move || Gateway::start_with(&site, &["--takeover"])).await.unwrap();
        assert_eq!(new.wait(), Some(0));
        assert_eq!(third.get("echo.localhost", "/head").await.status.as_u16(), 200);
    }
}

#[test]
fn a_takeover_without_a_running_gateway_is_an_error() {
    let site = settled("");
    let output = std::process::Command::new(tests::tollgate())
        .args(["serve", "--takeover", "--config"])
        .arg(site.config())
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is one running with this state folder?"), "{said}");
}

/// Opens a socket as systemd would, and becomes the gateway (sd_listen_fds(3)).
const ACTIVATE: &str = "import os, socket, sys
listening = socket.create_server(('127.0.0.1', int(sys.argv[1])))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])";

#[tokio::test]
async fn a_socket_from_systemd_is_served() {
    let site = settled("");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let https: std::net::SocketAddr =
        text.split("https = [\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
    let mut child = std::process::Command::new("python3")
        .args(["-c", ACTIVATE, &https.port().to_string()])
        .arg(tests::tollgate())
        .args(["serve", "--config"])
        .arg(site.config())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // If the gateway did not take the socket, it could not listen on the same address and would exit.
    let ca = tests::until("the CA", async || std::fs::read(site.path("state/tls/ca.pem")).ok()).await;
    let client = Client::new(https, &ca, Protocol::H1);
    // Its component may have to be compiled first.
    tests::until("an answer", async || (client.get("echo.localhost", "/head").await.status == 200).then_some(())).await;
    child.kill().unwrap();
    child.wait().unwrap();
}
