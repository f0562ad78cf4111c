//! Sends back what it was sent: the body as it streams in, the head on `/head`, one variable on `/env`, or what the request
//! asks for on `/say`. Prints it on `/print`. On `/files/read`, `list`, `write` and others, reports the result of that call
//! on the file that the body names.

use std::path::Path;

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
    if let Some(what) = path.strip_prefix("/files/") {
        let name = request.into_body().contents().await?.to_vec();
        let name = String::from_utf8(name).unwrap_or_default();
        return Ok(Response::new(files(what, Path::new(&name)).unwrap_or_else(|error| error.kind().to_string()).into()));
    }
    if path.starts_with("/say") {
        return say(request.headers());
    }
    if path == "/print" {
        println!("{}", String::from_utf8_lossy(&request.into_body().contents().await?));
        return Ok(Response::new("printed".into()));
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

/// Answers as the request's `say-` headers ask: `say-status`, `say-bytes` of body, and any header. `x-moment` differs each
/// time.
fn say(headers: &wstd::http::HeaderMap) -> Result<Response<Body>, Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bytes: usize = text("say-bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let status: u16 = text("say-status").and_then(|status| status.parse().ok()).unwrap_or(200);
    let mut response = Response::builder().status(status).header("x-moment", moment.to_string());
    for (name, value) in headers {
        match name.as_str().strip_prefix("say-") {
            None | Some("status" | "bytes") => {}
            Some(name) => response = response.header(name, value),
        }
    }
    let words = (0..).flat_map(|n| format!("{} words of a text\n", n % 500).into_bytes());
    Ok(response.body(words.take(bytes).collect::<Vec<u8>>().into())?)
}

fn files(what: &str, path: &Path) -> std::io::Result<String> {
    match what {
        "read" => std::fs::read_to_string(path),
        "list" => {
            let names = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names.join(" "))
        }
        "write" => std::fs::write(path, "mine").map(|()| "written".to_owned()),
        "append" => std::fs::OpenOptions::new().append(true).open(path).map(|_file| "opened".to_owned()),
        "remove" => std::fs::remove_file(path).map(|()| "removed".to_owned()),
        "rename" => std::fs::rename(path, "/elsewhere").map(|()| "renamed".to_owned()),
        "folder" => std::fs::create_dir(path).map(|()| "made".to_owned()),
        _ => Ok("what?".to_owned()),
    }
}
