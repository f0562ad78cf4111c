//! Clients: HTTP/1.1 and HTTP/2 over TLS, with a server name and a host that may differ, and streaming bodies.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The HTTP version to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    H1,
    /// HTTP/2
    H2,
}

/// A request's body, complete or streamed.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// Opens a connection for each request, which is enough for tests.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    protocol: Protocol,
}

/// A response that was read to its end, and whether it was complete.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header section.
    pub headers: HeaderMap,
    /// The body, as far as it arrived.
    pub body: Bytes,
    /// Why the body broke off, if it did.
    pub torn: Option<String>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value. Empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The end of a problem's `type`. Empty if the body is not a problem.
    #[must_use]
    pub fn problem(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["type"]
            .as_str()
            .and_then(|kind| kind.strip_prefix("urn:tollgate:problem:"))
            .unwrap_or_default()
            .to_owned()
    }
}

/// A connection that stays open, of either version.
#[derive(Debug)]
pub enum Sender {
    /// HTTP/1.1.
    H1(hyper::client::conn::http1::SendRequest<Body>),
    /// HTTP/2.
    H2(hyper::client::conn::http2::SendRequest<Body>),
}

impl Client {
    /// Over TLS, trusting this CA.
    #[must_use]
    pub fn new(address: SocketAddr, ca_pem: &[u8], protocol: Protocol) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = match protocol {
            Protocol::H1 => vec![b"http/1.1".to_vec()],
            Protocol::H2 => vec![b"h2".to_vec()],
        };
        Self { address, tls: Some(Arc::new(config)), protocol }
    }

    /// Plain HTTP/1.1.
    #[must_use]
    pub const fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, protocol: Protocol::H1 }
    }

    /// A TLS connection on which nothing was sent yet, for bytes that no well-behaved client sends.
    pub async fn tls(&self, server_name: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.shake(server_name, stream).await.unwrap()
    }

    /// Performs the handshake on an existing connection.
    ///
    /// # Errors
    /// The gateway refuses the handshake.
    pub async fn shake(&self, server_name: &str, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::clone(self.tls.as_ref().unwrap()));
        connector.connect(ServerName::try_from(server_name.to_owned()).unwrap(), stream).await
    }

    /// A connection that stays open.
    pub async fn connect(&self, server_name: &str) -> Sender {
        if self.tls.is_none() {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            return Sender::H1(sender);
        }
        let stream = TokioIo::new(self.tls(server_name).await);
        match self.protocol {
            Protocol::H1 => {
                let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                Sender::H1(sender)
            }
            Protocol::H2 => {
                let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
                let (sender, connection) = handshake.await.unwrap();
                tokio::spawn(connection);
                Sender::H2(sender)
            }
        }
    }

    /// Sends a request on a connection of its own. Returns when the head of the response has arrived.
    ///
    /// # Errors
    /// The connection broke off before.
    pub async fn start(&self, server_name: &str, request: Request<Body>) -> Result<Response<Incoming>, String> {
        self.connect(server_name).await.send(request).await
    }

    /// Sends a request and reads the response to its end.
    pub async fn send(&self, server_name: &str, request: Request<Body>) -> Answer {
        let response = self.start(server_name, request).await.expect("a response");
        read(response).await
    }

    /// GET.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.send(host, request("GET", host, path).body(empty()).unwrap()).await
    }

    /// Any method with a body.
    pub async fn call(&self, method: &str, host: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
        self.send(host, request(method, host, path).body(body).unwrap()).await
    }
}

impl Sender {
    /// Sends a request. Returns when the head of the response has arrived.
    ///
    /// # Errors
    /// The connection broke off before.
    pub async fn send(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, String> {
        let sent = async {
            match self {
                Self::H1(sender) => {
                    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse().unwrap();
                    if let Some(authority) = request.uri().authority().cloned()
                        && !request.headers().contains_key("host")
                    {
                        request.headers_mut().insert("host", authority.as_str().parse().unwrap());
                    }
                    *request.uri_mut() = path;
                    sender.send_request(request).await
                }
                Self::H2(sender) => sender.send_request(request).await,
            }
        };
        let sent = tokio::time::timeout(crate::PATIENCE, sent).await;
        sent.expect("no response in time").map_err(|error| format!("{error:?}"))
    }

    /// Whether the gateway closed it.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::H1(sender) => sender.is_closed(),
            Self::H2(sender) => sender.is_closed(),
        }
    }
}

/// Reads a response to its end.
pub async fn read(response: Response<Incoming>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut torn = None;
    loop {
        let frame = tokio::time::timeout(crate::PATIENCE, body.frame()).await.expect("the body stands still");
        match frame {
            None => break,
            Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
            Some(Err(error)) => {
                torn = Some(format!("{error:?}"));
                break;
            }
        }
    }
    Answer { status: parts.status, headers: parts.headers, body: bytes.into(), torn }
}

/// A request for a host, for any version.
#[must_use]
pub fn request(method: &str, host: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://{host}{path}"))
}

/// This body.
#[must_use]
pub fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// No body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}
