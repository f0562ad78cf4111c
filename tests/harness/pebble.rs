//! A real ACME server, Debian's `pebble`, with a DNS that returns 127.0.0.1 for every name (`make setup-test` fetches
//! both).

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::python::cache;
use crate::{Client, Protocol, free_address};

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Pebble {
    server: Child,
    names: Child,
    /// The server's output.
    pub said: Arc<Mutex<Vec<String>>>,
    ca_pem: String,
    address: SocketAddr,
    management: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.names] {
            // It may already have exited.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn program(name: &str) -> PathBuf {
    let fetched = cache().join("pebble/usr/bin").join(name);
    if fetched.exists() { fetched } else { PathBuf::from(name) }
}

impl Pebble {
    /// Validates challenges on these ports, and issues certificates for this many seconds.
    #[must_use]
    pub fn start(http: u16, https: u16, seconds: u64) -> Self {
        Self::start_with(http, https, seconds, &serde_json::json!({}))
    }

    /// The same, with additional keys in its configuration.
    #[must_use]
    pub fn start_with(http: u16, https: u16, seconds: u64, more: &serde_json::Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (cert, key) = (put("cert.pem", &made.cert.pem()), put("key.pem", &made.signing_key.serialize_pem()));
        let (address, management, dns) = (free_address(), free_address(), free_address());
        let mut config = serde_json::json!({ "pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": cert,
            "privateKey": key,
            "httpPort": http,
            "tlsPort": https,
            "ocspResponderURL": "",
            "certificateValidityPeriod": seconds,
        }});
        config["pebble"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = put("pebble.json", &config.to_string());
        let names = Command::new(program("pebble-challtestsrv"))
            .args(["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &dns.to_string(), "-management", &free_address().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble-challtestsrv: make setup-test fetches it");
        let mut server = Command::new(program("pebble"))
            .arg("-config")
            .arg(config)
            .args(["-dnsserver", &dns.to_string(), "-strict"])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble: make setup-test fetches it");
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, out) = (Arc::clone(&said), server.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { server, names, said, ca_pem: made.cert.pem(), address, management, dir }
    }

    /// The `[tls]` section for a gateway that uses this CA.
    #[must_use]
    pub fn tls(&self, challenge: &str) -> String {
        format!(
            "[tls]\ncertificates = \"acme\"\n[tls.acme]\ndirectory = \"https://localhost:{}/dir\"\nca = \"{}\"\n\
             challenges = [\"{challenge}\"]\nagree_to_terms = true\ncontacts = [\"mailto:operator@example.com\"]\n",
            self.address.port(),
            self.dir.path().join("cert.pem").display()
        )
    }

    /// The certificate and key by which clients know it, in PEM.
    #[must_use]
    pub fn pair(&self) -> [Vec<u8>; 2] {
        ["cert.pem", "key.pem"].map(|name| std::fs::read(self.dir.path().join(name)).unwrap())
    }

    /// The contents of its directory.
    pub async fn directory(&self) -> serde_json::Value {
        let listens = async || tokio::net::TcpStream::connect(self.address).await.ok();
        crate::until("pebble", listens).await;
        let client = Client::new(self.address, self.ca_pem.as_bytes(), Protocol::H1);
        let said = client.get("localhost", "/dir").await.text();
        // Its URLs contain the Host of the request.
        let own = format!("https://localhost:{}/", self.address.port());
        serde_json::from_str(&said.replace("https://localhost/", &own)).unwrap()
    }

    /// A client for this address that trusts only what this CA signs.
    pub async fn client(&self, address: SocketAddr) -> Client {
        let management = Client::new(self.management, self.ca_pem.as_bytes(), Protocol::H1);
        let root = management.get("localhost", "/roots/0").await.text();
        Client::new(address, root.as_bytes(), Protocol::H1)
    }
}
