//! Counts visits, one counter a path, with an atomic increment in the tenant's own store.

use wstd::http::{Body, Error, Request, Response, StatusCode};

wit_bindgen::generate!({
    path: "../../../gateway/wit/wasi-keyvalue-0.2.0-draft2",
    world: "imports",
    generate_all,
});
use wasi::keyvalue::{atomics, store};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let (status, text) = match visit(request.uri().path()) {
        Ok(count) => (StatusCode::OK, format!("{count}\n")),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("cannot count just now: {error:?}\n")),
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .body(text.into())?)
}

fn visit(path: &str) -> Result<i64, store::Error> {
    let bucket = store::open("default")?;
    atomics::increment(&bucket, path, 1)
}
