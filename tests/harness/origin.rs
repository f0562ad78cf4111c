//! A server outside of the gateway that guests call: hyper over TLS, HTTP/1.1 or HTTP/2. It keeps connections open and
//! records which request came on which connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{Body, Protocol};

/// Runs as long as the test's runtime.
#[derive(Debug)]
pub struct Origin {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, which is its own CA.
    pub ca_pem: String,
    state: Arc<State>,
}

/// A request that it received.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The number of the connection, from 0.
    pub connection: usize,
    /// Whether the connection used HTTP/2.
    pub is_http2: bool,
    /// Its path.
    pub path: String,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its trailers; none with HTTP/1.1.
    pub trailers: HeaderMap,
}

#[derive(Debug, Default)]
struct State {
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

impl Origin {
    /// Starts on a free port of 127.0.0.1, for one version.
    pub async fn start(protocol: Protocol) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = match protocol {
            Protocol::H1 => vec![b"http/1.1".to_vec()],
            Protocol::H2 => vec![b"h2".to_vec()],
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let own = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&own));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let number = state.connections.fetch_add(1, Ordering::SeqCst);
                    state.open.fetch_add(1, Ordering::SeqCst);
                    let (asked, io) = (Arc::clone(&state), TokioIo::new(stream));
                    let service = service_fn(move |request| answer(Arc::clone(&asked), number, request));
                    let _ended = match protocol {
                        Protocol::H1 => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
                        Protocol::H2 => {
                            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            server.serve_connection(io, service).await
                        }
                    };
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, ca_pem: made.cert.pem(), state }
    }

    /// All requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Number of connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Number of open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

async fn answer(state: Arc<State>, connection: usize, request: Request<Incoming>) -> hyper::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let is_http2 = parts.version == http::Version::HTTP_2;
    let mut asked = Asked { connection, is_http2, path, headers: parts.headers, trailers: HeaderMap::new() };
    let told = |text: Vec<u8>| {
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
        Response::new(body.boxed())
    };
    // It answers before it reads the body.
    if asked.path == "/early" {
        state.asked.lock().unwrap().push(asked);
        return Ok(told(b"early".to_vec()));
    }
    let collected = body.collect().await?;
    asked.trailers = collected.trailers().cloned().unwrap_or_default();
    let bytes = collected.to_bytes();
    let path = asked.path.clone();
    state.asked.lock().unwrap().push(asked);
    let mut response = match path.as_str() {
        "/large" => told(vec![b'x'; 1 << 20]),
        "/empty" => told(Vec::new()),
        _ if bytes.is_empty() => told(b"hello".to_vec()),
        _ => told(bytes.to_vec()),
    };
    match path.as_str() {
        "/close" => drop(response.headers_mut().insert("connection", HeaderValue::from_static("close"))),
        "/none" => *response.status_mut() = StatusCode::NO_CONTENT,
        "/grpc" => {
            let trailers =
                HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
            response = response.map(|body| body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed());
        }
        _ => {}
    }
    Ok(response)
}
