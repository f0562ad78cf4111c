//! A real image registry, Debian's `docker-registry`, with TLS and a password (`make setup-test` fetches it).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use crate::python::cache;
use crate::{Answer, Client, Protocol, free_address, hex, until};

/// Users in the format of htpasswd.
const USERS: &str = "puller:$2b$04$nNioS5BNqLWPVTTuKEF.Le/0TH7bIGzs2taf1.lBRemEXAEU4skd.\n";
/// `puller:pull-me`.
const LOGIN: &str = "Basic cHVsbGVyOnB1bGwtbWU=";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    server: Option<Child>,
    /// Its certificate, which is its own CA.
    pub ca_pem: String,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn program() -> PathBuf {
    let fetched = cache().join("registry/usr/bin/docker-registry");
    if fetched.exists() { fetched } else { PathBuf::from("docker-registry") }
}

fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

impl Registry {
    /// Starts on a free port.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {dir}/data}}}}\n\
             http:\n  addr: {address}\n  tls: {{certificate: {dir}/cert.pem, key: {dir}/key.pem}}\n\
             auth: {{htpasswd: {{realm: images, path: {dir}/users}}}}\n",
            dir = dir.path().display()
        );
        let ca_pem = made.cert.pem();
        for (name, text) in [
            ("cert.pem", ca_pem.as_str()),
            ("key.pem", &made.signing_key.serialize_pem()),
            ("users", USERS),
            ("config.yml", &config),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut registry = Self { server: None, ca_pem, address, dir };
        registry.start_again().await;
        registry
    }

    /// Starts again after a stop, with its former contents.
    pub async fn start_again(&mut self) {
        let mut command = Command::new(program());
        command.arg("serve").arg(self.dir.path().join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(command.spawn().unwrap());
        let address = self.address;
        until("the registry", async || tokio::net::TcpStream::connect(address).await.ok()).await;
    }

    /// Stops it, so that nobody can reach it.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may already have exited.
            let _ended = server.kill();
            let _reaped = server.wait();
        }
    }

    /// As in names of images: `localhost:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: Bytes) -> Answer {
        let client = Client::new(self.address, self.ca_pem.as_bytes(), Protocol::H1);
        let request = crate::request(method, "localhost", path)
            .header("authorization", LOGIN)
            .header("content-length", body.len())
            .header("content-type", kind);
        let body = Full::new(body).map_err(|never| match never {}).boxed();
        client.send("localhost", request.body(body).unwrap()).await
    }

    async fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let begun = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), "text/plain", Bytes::new()).await;
        let at: http::Uri = begun.header("location").parse().unwrap();
        let digest = format!("sha256:{}", sha256(bytes));
        let path = format!("{}&digest={digest}", at.path_and_query().unwrap());
        let put = self.send("PUT", &path, "application/octet-stream", bytes.to_vec().into()).await;
        assert_eq!(put.status.as_u16(), 201, "{}", put.text());
        digest
    }

    /// Pushes a component. Returns its image's digest, without `sha256:`.
    pub async fn push(&self, name: &str, kind: &str, component: &[u8]) -> String {
        let layer = serde_json::json!({ "mediaType": kind, "digest": self.blob(name, component).await, "size": component.len() });
        let config = serde_json::json!({
            "mediaType": "application/vnd.wasm.config.v0+json", "digest": self.blob(name, b"{}").await, "size": 2
        });
        let manifest =
            serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let manifest = manifest.to_string().into_bytes();
        let put = self.send("PUT", &format!("/v2/{name}/manifests/latest"), MANIFEST, manifest.clone().into()).await;
        assert_eq!(put.status.as_u16(), 201, "{}", put.text());
        sha256(&manifest)
    }
}
