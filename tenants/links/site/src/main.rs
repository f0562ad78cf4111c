//! A URL shortener: `PUT /{slug}` with a URL as the body, `GET /{slug}` goes there, `GET /` lists them all with their hits.
//!
//! Links are kept in the store `links` by their slug, hits in the store `hits`.

use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

wit_bindgen::generate!({
    path: "../../../gateway/wit/wasi-keyvalue-0.2.0-draft2",
    world: "imports",
    generate_all,
});
use wasi::keyvalue::{atomics, batch, store};

/// The longest URL that is kept.
const URL_BYTES_MAX: usize = 2000;

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let method = request.method().clone();
    let slug = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().contents().await?.to_vec();
    let done = match (method, slug.as_str()) {
        (Method::GET, "") => list(),
        (Method::GET, slug) => follow(slug),
        (Method::PUT, slug) => keep(slug, &body),
        (Method::DELETE, slug) => forget(slug),
        _ => Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "Use GET, PUT or DELETE.\n")),
    };
    Ok(done.unwrap_or_else(|error| {
        plain(StatusCode::SERVICE_UNAVAILABLE, &format!("The store does not answer: {error:?}\n"))
    }))
}

fn keep(slug: &str, body: &[u8]) -> Result<Response<Body>, store::Error> {
    let well_named = !slug.is_empty()
        && slug.len() <= 64
        && slug.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !well_named {
        return Ok(plain(StatusCode::BAD_REQUEST, "A slug is 1 to 64 letters, digits, - or _.\n"));
    }
    let url = str::from_utf8(body).unwrap_or_default().trim();
    let is_url = (url.starts_with("https://") || url.starts_with("http://"))
        && url.len() <= URL_BYTES_MAX
        && url.bytes().all(|b| b.is_ascii_graphic());
    if !is_url {
        return Ok(plain(StatusCode::BAD_REQUEST, "The body must be an http or https URL.\n"));
    }
    let links = store::open("links")?;
    let status = if links.exists(slug)? { StatusCode::OK } else { StatusCode::CREATED };
    links.set(slug, url.as_bytes())?;
    Ok(plain(status, &format!("/{slug} goes to {url}\n")))
}

fn follow(slug: &str) -> Result<Response<Body>, store::Error> {
    let Some(url) = store::open("links")?.get(slug)? else {
        return Ok(plain(StatusCode::NOT_FOUND, "No such link.\n"));
    };
    atomics::increment(&store::open("hits")?, slug, 1)?;
    Ok(Response::builder()
        .status(StatusCode::PERMANENT_REDIRECT)
        .header("location", url)
        // A browser that remembers the way would not be counted again.
        .header("cache-control", "no-store")
        .body("".into())
        .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "The link is damaged.\n")))
}

fn forget(slug: &str) -> Result<Response<Body>, store::Error> {
    store::open("links")?.delete(slug)?;
    store::open("hits")?.delete(slug)?;
    Ok(plain(StatusCode::OK, "Gone.\n"))
}

fn list() -> Result<Response<Body>, store::Error> {
    let (links, hits) = (store::open("links")?, store::open("hits")?);
    let mut rows = String::new();
    let mut cursor = None;
    loop {
        let page = links.list_keys(cursor.as_deref())?;
        let urls = batch::get_many(&links, &page.keys)?;
        let counts = batch::get_many(&hits, &page.keys)?;
        for (url, count) in urls.into_iter().zip(counts) {
            let Some((slug, url)) = url else { continue };
            let url = escape(&String::from_utf8_lossy(&url));
            let count = count.map_or_else(|| "0".to_owned(), |(_, n)| String::from_utf8_lossy(&n).into_owned());
            rows += &format!("<tr><td><a href=\"/{slug}\">/{slug}</a><td>{url}<td class=n>{count}\n");
        }
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let page = format!("{HEAD}<table><tr><th>Link<th>Goes to<th class=n>Hits\n{rows}</table>\n");
    Ok(Response::builder()
        .header("content-type", "text/html; charset=utf-8")
        .body(page.into())
        .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "")))
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(text.to_owned().into());
    *response.status_mut() = status;
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Links</title>
<meta name=viewport content=\"width=device-width\">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1c2430 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #d8dee8; overflow-wrap: anywhere }
.n { text-align: right; font-variant-numeric: tabular-nums }
code { background: #eef1f6; padding: .1rem .3rem }
</style>
<h1>Links</h1>
<p>Add one with <code>curl -X PUT --data https://example.com/ https://links.localhost:8443/example</code>.</p>
";
