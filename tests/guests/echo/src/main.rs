//! Says back what it was sent: the body as it streams in, or the head on `/head`, or one variable on `/env`.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    if let Some(name) = path.strip_prefix("/env/") {
        let value = std::env::var(name).unwrap_or_else(|_| "(not set)".to_owned());
        return Ok(Response::new(value.into()));
    }
    if path.starts_with("/head") {
        let mut lines = vec![format!("{} {}", request.method(), request.uri())];
        for (name, value) in request.headers() {
            lines.push(format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
        println!("somebody looked at {path}");
        return Ok(Response::builder()
            .header("x-from-guest", "yes")
            .header("server", "impostor")
            .body((lines.join("\n") + "\n").into())?);
    }
    if path == "/no-content" {
        return Ok(Response::builder().status(204).body("".into())?);
    }
    if path == "/sized" {
        let body = request.into_body().contents().await?.to_vec();
        return Ok(Response::builder().header("content-length", body.len()).body(body.into())?);
    }
    Ok(Response::new(request.into_body()))
}
