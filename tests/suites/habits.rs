//! Operators' usual practice: both address families, mapped ports, rotated logs, signals, health checks.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tests::{Client, Gateway, Protocol, Redis, RedisCluster, Site, Tenant, free_port, until};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn echo() -> Site {
    Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"))
}

/// A file of `config/` with its own addresses and free ports, and the files that it names.
fn shipped(name: &str, redis: &Redis, cluster: &RedisCluster) -> (Site, [u16; 2]) {
    let text = std::fs::read_to_string(tests::top().join("config").join(name)).unwrap();
    let [https, http, admin] = [(); 3].map(|()| free_port());
    let own = "[listen]\nhttps = [\"127.0.0.1:8443\"]\nhttp = [\"127.0.0.1:8080\"]\nadmin = \"127.0.0.1:9443\"\n";
    let mut text = if text.contains("[listen]") { text } else { format!("{text}\n{own}") };
    for (port, free) in [(443, https), (8443, https), (80, http), (8080, http), (9443, admin)] {
        text = text.replace(&format!(":{port}\""), &format!(":{free}\""));
    }
    text = text.replace("[listen]\n", "[listen]\nquic = true\n");
    let urls = "redis://10.0.0.1:6379,redis://10.0.0.2:6379,redis://10.0.0.3:6379";
    text = text.replace(urls, cluster.url().trim_start_matches("redis-cluster:"));
    let site = Site::new().file("redis-url", redis.url());
    text = text.replace("/etc/tollgate/redis-url", site.path("redis-url").to_str().unwrap());
    text = text.replace("/etc/tollgate/tenants", site.path("tenants").to_str().unwrap());
    (site.file("config/gateway.toml", text), [https, http])
}

/// The addresses at which something listens on this port: lines of proc_net(5).
fn bound(table: &str, port: u16) -> bool {
    let lines = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap();
    lines.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&format!(":{port:04X}"))))
}

#[tokio::test]
async fn every_shipped_file_starts_on_each_address_family_that_it_names() {
    let (redis, cluster) = (Redis::start(), RedisCluster::start());
    let files = std::fs::read_dir(tests::top().join("config")).unwrap().map(|entry| entry.unwrap().file_name());
    let files: Vec<String> = files.map(|name| name.into_string().unwrap()).collect();
    let files: Vec<&String> = files.iter().filter(|name| name.ends_with(".toml")).collect();
    assert!(files.len() >= 4, "{files:?}");
    for name in files {
        let (site, [https, http]) = shipped(name, &redis, &cluster);
        let text = std::fs::read_to_string(site.config()).unwrap();
        let variables = [("TOLLGATE_REDIS_URL", redis.url())];
        let gateway = Gateway::start_in(&site, &["--state", "state"], &variables);
        let families = if text.contains("[::]") { ["127.0.0.1", "[::1]"].as_slice() } else { &["127.0.0.1"] };
        for host in families {
            let at = |port: u16| -> SocketAddr { format!("{host}:{port}").parse().unwrap() };
            let answer = Client::new(at(https), &gateway.ca_pem, Protocol::H2).get("localhost", "/").await;
            assert_eq!(answer.status.as_u16(), 404, "{name} at {host}");
            assert_eq!(Client::plain(at(http)).get("localhost", "/").await.status.as_u16(), 404, "{name} at {host}");
        }
        let udp = ["udp", "udp6"].map(|table| bound(table, https));
        assert_eq!(udp, [true, families.len() == 2], "{name}: HTTP/3");
    }
}

#[tokio::test]
async fn a_redirect_uses_the_public_port_and_only_a_tenants_host() {
    let site = echo().listen("quic = true");
    let gateway = Gateway::start_with(&site, &["--public-https", "443"]);
    let plain = Client::plain(gateway.http);
    let answer = plain.get("echo.localhost", "/a?b=c").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (308, "https://echo.localhost/a?b=c"));
    for nobody in ["elsewhere.example", "localhost", "127.0.0.1"] {
        let answer = plain.get(nobody, "/a").await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (404, ""), "{nobody}");
    }
    assert_eq!(gateway.get("echo.localhost", "/head").await.header("alt-svc"), "h3=\":443\"; ma=86400");
    drop(gateway);
    // Also in the file.
    let gateway = Gateway::start(&echo().listen("public_https = 4443"));
    let answer = Client::plain(gateway.http).get("echo.localhost", "/").await;
    assert_eq!(answer.header("location"), "https://echo.localhost:4443/");
}

#[test]
fn the_image_and_the_production_example_name_the_public_port() {
    let read = |path: &str| std::fs::read_to_string(tests::top().join(path)).unwrap();
    assert!(read("Dockerfile").contains("TOLLGATE_PUBLIC_HTTPS=443"));
    assert!(read("config/production.toml").contains("\npublic_https = 443"));
}

/// Calls the guest, which prints the caller, and waits until a file contains it.
async fn printed(gateway: &Gateway, file: &Path) -> String {
    assert_eq!(gateway.get("talks.localhost", "/head").await.status.as_u16(), 200);
    until("a line in a file", async || std::fs::read_to_string(file).ok().filter(|text| !text.is_empty())).await
}

#[tokio::test]
async fn moved_log_files_are_reopened_on_usr1_and_hup() {
    let access = "[telemetry.access]\nto = \"file\"\npath = \"../state/access.log\"";
    let talks = Tenant::new("talks.localhost", "echo");
    let site = Site::new().gateway(access).tenant("talks", &talks);
    let gateway = Gateway::start(&site);
    let files = ["state/access.log", "state/logs/talks.log"].map(|path| site.path(path));
    for signal in ["USR1", "HUP"] {
        for file in &files {
            printed(&gateway, file).await;
        }
        let aside = files.clone().map(|file| file.with_extension(signal));
        files.iter().zip(&aside).for_each(|(file, aside)| std::fs::rename(file, aside).unwrap());
        let told = gateway.log("telemetry").len();
        gateway.signal(signal);
        until("the signal", async || (gateway.log("telemetry").len() > told).then_some(())).await;
        // The access log's file exists before the first request, and the moved files are complete.
        until("a new file", async || files[0].exists().then_some(())).await;
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let before = aside.clone().map(|path| read(&path));
        for file in &files {
            printed(&gateway, file).await;
        }
        assert_eq!(before, aside.map(|path| read(&path)), "{signal}: nothing is written to what was moved");
    }
}

#[tokio::test]
async fn no_signal_ends_a_gateway_without_a_drain() {
    let site = Site::new().tenant("slow", &Tenant::new("slow.localhost", "hostile"));
    let gateway = Gateway::start(&site);
    // Those with a number have no portable name: SIGSTKFLT, SIGIO, and the first and the last real-time signal.
    let others = ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "XFSZ", "HUP", "PIPE", "16", "29", "34", "64"];
    let helper = crate::confined::children(gateway.process())[0].0;
    for name in others {
        gateway.signal(name);
    }
    // A log rotation tool may signal all processes of a service, or all with its name.
    for name in ["USR1", "HUP"] {
        let told = std::process::Command::new("kill").arg(format!("-{name}")).arg(helper.to_string()).status();
        assert!(told.unwrap().success());
    }
    let warned = |number: i64| gateway.log("gateway").iter().any(|line| line["signal"] == number);
    until("a word of SIGUSR2", async || warned(12).then_some(())).await;
    assert_eq!(crate::confined::children(gateway.process())[0].0, helper, "the helper is there");
    let client = gateway.client(Protocol::H2);
    let slow = tokio::spawn(async move { client.get("slow.localhost", "/drip").await });
    until("the request", async || (gateway.metric("tollgate_instances").await > 0.0).then_some(())).await;
    gateway.signal("QUIT");
    let answer = slow.await.unwrap();
    assert!(answer.text().len() > 20, "{}", answer.text());
    assert_eq!(gateway.wait(), Some(0));
}

#[tokio::test]
async fn only_the_gateways_user_can_read_its_state() {
    let access = "[telemetry.access]\nto = \"file\"\npath = \"../logs/access.log\"";
    let site = Site::new().gateway(access).tenant("talks", &Tenant::new("talks.localhost", "echo"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // As in a shell whose files everybody may read.
    assert_ne!(mode(&site.config()) & 0o044, 0, "this test is run with a mask that says the same");
    std::fs::create_dir_all(site.path("state")).unwrap();
    std::fs::set_permissions(site.path("state"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let gateway = Gateway::start(&site);
    printed(&gateway, &site.path("state/logs/talks.log")).await;
    printed(&gateway, &site.path("logs/access.log")).await;
    assert_eq!(mode(&site.path("state")), 0o700);
    let (mut folders, mut seen) = (vec![site.path("state"), site.path("logs")], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path) & 0o077, 0, "{}: {:o}", path.display(), mode(&path));
            folders.extend(path.is_dir().then_some(path));
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} files");
}

/// The complete answer to these bytes.
async fn said(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &str) -> String {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The side that closes need not wait for TLS's close notification.
    let _ended = tokio::time::timeout(tests::PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// A handshake without a server name, as a load balancer's.
async fn without_a_name(gateway: &Gateway) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&gateway.ca_pem).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.enable_sni = false;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), TcpStream::connect(gateway.https).await?).await
}

#[tokio::test]
async fn a_health_check_works_on_the_public_ports_and_fails_before_a_drain() {
    const CHECK: &str = "OPTIONS / HTTP/1.0\r\n\r\n";
    let gateway = Gateway::start(&echo().listen("health = \"/\"\nunhealthy = \"3s\""));
    let by_name = "GET / HTTP/1.1\r\nhost: 10.1.2.3:8443\r\nconnection: close\r\n\r\n";
    let head = "HEAD / HTTP/1.1\r\nhost: lb.internal\r\nconnection: close\r\n\r\n";
    for request in [CHECK, "GET / HTTP/1.0\r\n\r\n", by_name, head] {
        let plain = said(TcpStream::connect(gateway.http).await.unwrap(), request).await;
        let secure = said(without_a_name(&gateway).await.unwrap(), request).await;
        for answer in [plain, secure] {
            assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 OK\r\n"), "{request:?}: {answer}");
            assert_eq!(answer.ends_with("\r\n\r\nok\n"), request != head, "{request:?}: {answer}");
        }
    }
    assert_eq!(gateway.get("localhost", "/").await.text(), "ok\n", "over HTTP/2");
    // A tenant's paths are its own; other paths and methods belong to nobody.
    assert_eq!(gateway.client(Protocol::H2).call("POST", "echo.localhost", "/", "mine").await.text(), "mine");
    assert_eq!(gateway.get("localhost", "/else").await.status.as_u16(), 404);
    assert_eq!(gateway.client(Protocol::H2).call("POST", "localhost", "/", "").await.status.as_u16(), 404);
    let answer = said(without_a_name(&gateway).await.unwrap(), "GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains(" 400 "), "HTTP/1.1 needs a Host: {answer}");

    gateway.signal("TERM");
    until("a word that it leaves", async || {
        let answer = said(TcpStream::connect(gateway.http).await.unwrap(), CHECK).await;
        (answer.contains(" 503 ") && answer.ends_with("draining\n")).then_some(())
    })
    .await;
    let ready = Client::plain(gateway.admin).get("localhost", "/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.text().as_str()), (503, "draining\n"));
    // Requests meanwhile are served; a second signal ends the wait.
    assert_eq!(gateway.client(Protocol::H2).call("POST", "echo.localhost", "/", "late").await.text(), "late");
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
}

#[tokio::test]
async fn without_a_health_path_there_is_no_health_check() {
    let gateway = Gateway::start(&echo());
    let answer = said(TcpStream::connect(gateway.http).await.unwrap(), "OPTIONS / HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains(" 400 "), "{answer}");
    assert_eq!(gateway.get("localhost", "/healthz").await.status.as_u16(), 404);
}

#[tokio::test]
async fn a_service_manager_is_notified_of_start_and_end() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let site = echo();
    let path = site.path("notify");
    let name = format!("tollgate-test-{}", std::process::id());
    let by_path = UnixDatagram::bind(&path).unwrap();
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    for (socket, told) in [(by_path, path.display().to_string()), (by_name, format!("@{name}"))] {
        socket.set_read_timeout(Some(tests::PATIENCE)).unwrap();
        let said = || {
            let mut words = [0; 256];
            let length = socket.recv(&mut words).unwrap();
            String::from_utf8_lossy(&words[..length]).lines().next().unwrap().to_owned()
        };
        let gateway = Gateway::start_in(&site, &[], &[("NOTIFY_SOCKET", told)]);
        assert_eq!(said(), "READY=1");
        gateway.signal("TERM");
        assert_eq!(said(), "STOPPING=1");
        assert_eq!(gateway.wait(), Some(0));
    }
    // The systemd unit waits for this notification.
    let unit = std::fs::read_to_string(tests::top().join("config/systemd/tollgate.service")).unwrap();
    assert!(unit.contains("\nType=notify\n"));
}
