//! The dashboard's files for a browser: HTML, style and script, inside the binary. They contain no data; the API provides
//! it.
//!
//! Security: the page may load only itself, runs only scripts from its own files, and cannot be framed.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, header};

use super::Admin;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, media type, text.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("../../dashboard/index.html")),
    ("/words.js", "text/javascript; charset=utf-8", include_str!("../../dashboard/words.js")),
    ("/charts.js", "text/javascript; charset=utf-8", include_str!("../../dashboard/charts.js")),
    ("/dashboard.js", "text/javascript; charset=utf-8", include_str!("../../dashboard/dashboard.js")),
    ("/dashboard.css", "text/css; charset=utf-8", include_str!("../../dashboard/dashboard.css")),
    ("/uplot.js", "text/javascript; charset=utf-8", include_str!("../../dashboard/vendor/uPlot.iife.min.js")),
    ("/uplot.css", "text/css; charset=utf-8", include_str!("../../dashboard/vendor/uPlot.min.css")),
];

pub(super) fn routes() -> Router<Arc<Admin>> {
    let pages = FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, text)| router.route(path, get(async move || file(kind, text))));
    let document = super::openapi();
    pages.route("/openapi.json", get(async move || file("application/json", document)))
}

fn file(kind: &'static str, text: impl IntoResponse) -> Response {
    const REFERRER: HeaderName = HeaderName::from_static("referrer-policy");
    let fields = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
        (REFERRER, "no-referrer"),
    ];
    (fields, text).into_response()
}
