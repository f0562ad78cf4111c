//! Outbound requests: only to granted origins, within limits, and never in a cycle.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use tests::{Gateway, Protocol, Site, Tenant, until};

/// A server outside: answers every request with `body` after `delay`, and records the heads that it got.
#[derive(Debug)]
struct Outside {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    fn start(body: &'static str, delay_ms: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&heads);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                    kept.lock().unwrap().push(head);
                    std::thread::sleep(std::time::Duration::from_millis(delay_ms));
                    let mut stream = stream;
                    let _gone = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                });
            }
        });
        Self { address, heads }
    }

    fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

fn tenant(host: &str, allow: &[String], more: &str) -> Tenant {
    Tenant::new(host, "hostile").with(&format!("[egress]\nallow = {allow:?}\n{more}"))
}

#[tokio::test]
async fn only_granted_origins_are_reached() {
    let (granted, other) = (Outside::start("hello from outside", 0), Outside::start("secret", 0));
    let (port, other_port) = (granted.address.port(), other.address.port());
    let allow = [format!("http://127.0.0.1:{port}"), format!("http://localhost:{other_port}")];
    let site = Site::new()
        .tenant("out", &tenant("out.localhost", &allow, ""))
        .tenant("none", &Tenant::new("none.localhost", "hostile"));
    let gateway = Gateway::start(&site);
    let fetch = async |tenant: &str, url: &str| {
        gateway.get(&format!("{tenant}.localhost"), &format!("/fetch/{}", url.replace("://", "/"))).await.text()
    };
    assert_eq!(fetch("out", &format!("http://127.0.0.1:{port}/some/path")).await, "200 hello from outside");
    let head = granted.heads.lock().unwrap()[0].clone();
    assert!(head.starts_with(&format!("GET /some/path HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n")), "{head}");
    assert!(head.contains("cdn-loop: tollgate; t="), "{head}");
    for (url, error) in [
        // A granted name with an internal address.
        (format!("http://localhost:{other_port}/"), "DestinationIpProhibited"),
        // A port, scheme, spelling or host other than the granted one.
        (format!("http://127.0.0.1:{other_port}/"), "HttpRequestDenied"),
        (format!("https://127.0.0.1:{port}/"), "HttpRequestDenied"),
        (format!("http://127.1:{port}/"), "HttpRequestDenied"),
        (format!("http://2130706433:{port}/"), "HttpRequestDenied"),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), "HttpRequestDenied"),
        (format!("http://{}/", gateway.admin), "HttpRequestDenied"),
        ("http://169.254.169.254/".to_owned(), "HttpRequestDenied"),
    ] {
        assert_eq!(fetch("out", &url).await, error, "{url}");
    }
    assert_eq!(fetch("none", &format!("http://127.0.0.1:{port}/")).await, "HttpRequestDenied", "another's grant");
    assert_eq!((granted.count(), other.count()), (1, 0));
    gateway.quiet().await;
}

#[tokio::test]
async fn an_https_origin_needs_a_certificate_that_is_trusted() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let outside = https(&made);
    let allow = [format!("https://127.0.0.1:{}", outside.port())];
    let path = format!("/fetch/https/127.0.0.1:{}/", outside.port());
    let site = Site::new().tenant("out", &tenant("out.localhost", &allow, ""));
    let trusting = Site::new()
        .tenant("out", &tenant("out.localhost", &allow, ""))
        .gateway("[egress]\nca = \"ca.pem\"")
        .file("config/ca.pem", made.cert.pem());
    let answer = Gateway::start(&site).get("out.localhost", &path).await.text();
    assert!(answer.starts_with("Tls"), "{answer}");
    let answer = Gateway::start(&trusting).get("out.localhost", &path).await.text();
    assert_eq!(answer, "200 over TLS");
}

fn https(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> SocketAddr {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _head = stream.read(&mut [0; 4096]).await;
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nover TLS").await;
            let _closed = stream.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn outbound_requests_are_bounded_in_number_time_and_size() {
    let outside = Outside::start("slow", 300);
    let large = Outside::start("0123456789", 0);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let allow: Vec<String> = [outside.address, large.address, silent.local_addr().unwrap()]
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    let site = Site::new()
        .tenant("calls", &tenant("calls.localhost", &allow, "[limits]\noutbound = 5"))
        .tenant("once", &tenant("once.localhost", &allow, "[limits]\noutbound = 50\n[quota]\noutbound_in_flight = 3\noutbound_waiting = 0"))
        .tenant(
            "rate",
            &tenant(
                "rate.localhost",
                &allow,
                "[limits]\noutbound = 50\n[quota]\noutbound_in_flight = 50\noutbound = { rate = 1, per = \"1h\", burst = 7 }",
            ),
        )
        .gateway("[egress]\nidle = \"1s\"\nresponse = \"9B\"");
    let gateway = Gateway::start(&site);
    let many = format!("/fetch-many/http/{}", outside.address);
    for (tenant, through) in [("calls", 5), ("once", 3), ("rate", 7)] {
        let text = gateway.get(&format!("{tenant}.localhost"), &many).await.text();
        assert_eq!(text, format!("{{\"200\": {through}, \"ConnectionLimitReached\": {}}}", 40 - through), "{tenant}");
    }
    assert_eq!(outside.count(), 15);
    for (tenant, quota, refused) in [("once", "outbound-in-flight", 37.0), ("rate", "outbound", 33.0)] {
        let line = format!("tollgate_quota_refusals_total{{tenant=\"{tenant}\",quota=\"{quota}\"}}");
        assert_eq!(gateway.metric(&line).await, refused, "{tenant}");
    }
    let fetch =
        async |address: SocketAddr| gateway.get("calls.localhost", &format!("/fetch/http/{address}/")).await.text();
    assert_eq!(fetch(silent.local_addr().unwrap()).await, "HttpResponseTimeout");
    // The tenth byte is not passed on; the bytes before it may have been.
    assert_ne!(fetch(large.address).await, "200 0123456789");
    gateway.quiet().await;
}

/// A router in the wild answered its 404 by fetching the same URL: one GET became 250 nested instances.
#[tokio::test]
async fn a_request_that_comes_back_to_its_tenant_is_refused() {
    let port = tests::free_port();
    let own = format!("https://127.0.0.1:{port}");
    let site = Site::new();
    let (ca, _first) = {
        // The first start creates the development CA.
        let gateway = Gateway::start(&site);
        (std::fs::read(site.path("state/tls/ca.pem")).unwrap(), gateway)
    };
    let names: Vec<String> = ["a", "b"].iter().map(|name| format!("https://{name}.localhost:{port}")).collect();
    let allow = [names, vec![own]].concat();
    let site = site
        .gateway("[egress]\nca = \"ca.pem\"")
        .file("config/ca.pem", ca)
        .tenant("a", &tenant("a.localhost", &allow, ""))
        .tenant("b", &tenant("b.localhost", &allow, ""));
    drop(_first);
    let gateway = Gateway::start_with(&site, &["--https", &format!("127.0.0.1:{port}")]);
    let host = |name: &str| format!("/fetch/https/{name}.localhost:{port}");
    // a to a is refused at once; a to b to a is refused at the second visit of a; a to b is allowed.
    let text = gateway.get("a.localhost", &format!("{}/ok", host("a"))).await.text();
    assert!(text.starts_with("508 ") && text.contains("urn:tollgate:problem:loop"), "{text}");
    let text = gateway.get("a.localhost", &format!("{}{}/ok", host("b"), host("a"))).await.text();
    assert!(text.starts_with("200 508 "), "{text}");
    assert_eq!(gateway.get("a.localhost", &format!("{}/ok", host("b"))).await.text(), "200 ok");
    // A line is written a moment after its answer.
    let loops = async || {
        let loops = gateway.log("access").into_iter().filter(|line| line["fault"] == "loop").count();
        (loops == 2).then_some(())
    };
    until("both loops in the access log", loops).await;
    let direct = tests::request("GET", "a.localhost", "/ok").header("cdn-loop", "fastly, tollgate; t=0000000000000000");
    let answer = gateway.client(Protocol::H2).send("a.localhost", direct.body(tests::empty()).unwrap()).await;
    assert_eq!(answer.text(), "ok", "others' entries, and other tenants', are no loop");
    gateway.quiet().await;
}
