//! The limit of the stack: only hyper and rustls, one thread, and a fixed body of about the size of `hello`'s page.
//!
//! The program `loadtest` runs it beside the gateway: `bare 127.0.0.1:0` prints its address. With a Redis URL as well, it
//! answers from Redis: GET reads a field and POST sets one (`loadtest/storage.sh`). `--cert FILE` writes its certificate
//! there, for clients that must trust it, and `--http1` turns HTTP/2 off.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that cannot go on should stop")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use redis::aio::MultiplexedConnection;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// About as many bytes as the page of the tenant `hello`; nginx and workerd serve as many.
static BODY: [u8; 320] = [b'x'; 320];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| arguments.iter().skip_while(|argument| *argument != flag).nth(1).cloned();
    let said = Said {
        address: arguments.first().cloned().unwrap_or_else(|| "127.0.0.1:0".to_owned()),
        redis: arguments.get(1).filter(|argument| argument.starts_with("redis")).cloned(),
        cert: after("--cert"),
        is_http1: arguments.iter().any(|argument| argument == "--http1"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(&said));
}

struct Said {
    address: String,
    redis: Option<String>,
    /// The file that its certificate is written to.
    cert: Option<String>,
    is_http1: bool,
}

/// As many shared connections as the gateway opens to one server.
const CONNECTIONS: usize = 2;

struct Store {
    connections: Vec<MultiplexedConnection>,
    next: AtomicUsize,
}

impl Store {
    async fn open(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(client.get_multiplexed_async_connection().await.unwrap());
        }
        Self { connections, next: AtomicUsize::new(0) }
    }

    async fn answer(&self, request: Request<Incoming>) -> Bytes {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let mut connection = self.connections[at].clone();
        if request.method() == hyper::Method::GET {
            let value: Option<Vec<u8>> =
                redis::cmd("HGET").arg("bare").arg("k").query_async(&mut connection).await.unwrap();
            return value.unwrap_or_default().into();
        }
        let value = request.into_body().collect().await.unwrap().to_bytes();
        let () = redis::cmd("HSET").arg("bare").arg("k").arg(&value[..]).query_async(&mut connection).await.unwrap();
        Bytes::from_static(b"set")
    }
}

fn acceptor(said: &Said) -> TlsAcceptor {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    if let Some(file) = &said.cert {
        std::fs::write(file, made.cert.pem()).unwrap();
    }
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if said.is_http1 {
        config.alpn_protocols.remove(0);
    }
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(said: &Said) {
    let listener = TcpListener::bind(&said.address).await.unwrap();
    let acceptor = acceptor(said);
    println!("{}", listener.local_addr().unwrap());
    let store = match &said.redis {
        Some(url) => Some(Arc::new(Store::open(url).await)),
        None => None,
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let _best_effort = stream.set_nodelay(true);
        let (acceptor, store) = (acceptor.clone(), store.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = hyper::service::service_fn(move |request| {
                let store = store.clone();
                async move {
                    let body = match store {
                        Some(store) => store.answer(request).await,
                        None => Bytes::from_static(&BODY),
                    };
                    Ok::<_, Infallible>(hyper::Response::new(Full::new(body)))
                }
            });
            // The client ends the connection when it has measured enough; how the connection ends does not matter.
            if is_h2 {
                let h2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ended = h2.serve_connection(TokioIo::new(stream), service).await;
            } else {
                let mut h1 = hyper::server::conn::http1::Builder::new();
                let _ended = h1.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}
