//! One page that says who answered.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    let host = request.uri().authority().map_or("", |authority| authority.as_str());
    let page = format!(
        "<!doctype html><meta charset=utf-8><title>{greeting}</title>\n\
         <h1>{greeting}</h1>\n\
         <p>This page was made by the component <code>site</code> of the tenant <code>hello</code>, \
         for <code>{host}</code>, in a sandbox that was made for this one request.</p>\n"
    );
    Ok(Response::builder()
        .header("content-type", "text/html; charset=utf-8")
        .body(page.into())?)
}
