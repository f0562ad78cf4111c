//! Metrics, in the text format that the scraper asks for.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, header};

use super::Admin;
use super::refusal::ProblemDetails;

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns all metrics: in the text format of OpenMetrics 1.0 if `Accept` asks for it, as Prometheus does, otherwise
/// in Prometheus's older text format.
#[utoipa::path(get, path = "/metrics", tag = "gateway", responses(
    (status = 200, content(
        (String = "text/plain; version=0.0.4; charset=utf-8"),
        (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    )),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> impl IntoResponse {
    let of = &admin.road.metrics;
    let (kind, text) = if asks_for_open_metrics(&headers) { (OPEN, of.text()) } else { (PLAIN, of.plain_text()) };
    ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text)
}

/// Whether it is named, and is not wanted less than the older format (RFC 9110 §12.5.1).
fn asks_for_open_metrics(headers: &HeaderMap) -> bool {
    let weight = |wanted: &str| {
        let lists = headers.get_all(header::ACCEPT).iter().filter_map(|list| list.to_str().ok());
        let named = lists.flat_map(|list| list.split(',')).filter_map(|one| {
            let mut parts = one.split(';').map(str::trim);
            parts.next().filter(|kind| kind.eq_ignore_ascii_case(wanted))?;
            let said = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            Some(said.map_or(1.0, |said| said.parse().unwrap_or(0.0)))
        });
        named.fold(0.0_f32, f32::max)
    };
    let open = weight("application/openmetrics-text");
    open > 0.0 && open >= weight("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_are_for_who_asks_for_them() {
        let asks = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            asks_for_open_metrics(&headers)
        };
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;\
                          version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert!(asks(prometheus) && asks("application/openmetrics-text") && asks("Application/OpenMetrics-Text; q=1"));
        let others = ["text/plain;version=0.0.4", "*/*", "application/json", "application/openmetrics-text;q=0", ""];
        for other in others {
            assert!(!asks(other), "{other}");
        }
        assert!(!asks("text/plain;q=0.9, application/openmetrics-text;q=0.1"));
        assert!(!asks_for_open_metrics(&HeaderMap::new()));
    }
}
