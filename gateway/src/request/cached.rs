//! The cache on the road of a request: a stored response in place of a run, a stale one if the guest fails, and revalidation.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;

use super::Road;
use crate::cache::{self, Asked, Cache, StaleIfError};
use crate::fault::Fault;
use crate::http::{BodySource, Exchange, ResponseBody};
use crate::response;
use crate::route::Routed;
use crate::telemetry::Record;

impl Road {
    /// Looks in the cache. Returns the response for this request, if any, and a stale one to serve if the guest fails.
    pub(super) fn look_up(
        self: &Arc<Self>,
        cache: &Arc<Cache>,
        routed: &Routed,
        request: &Request<BodySource>,
        record: &Record,
    ) -> (Option<Response<ResponseBody>>, Option<StaleIfError>) {
        let found = cache.find(request.method(), request.uri(), request.headers());
        let (found, outcome) = match found {
            // The outcome is not known yet; `run_or_stale` counts it.
            cache::Found::Miss(Some(fallback)) => return (None, Some(fallback)),
            cache::Found::Miss(None) => (None, "miss"),
            cache::Found::OnlyIfCached => (Some(cache::only_if_cached_miss()), "miss"),
            cache::Found::Hit(found) => (Some(found), "hit"),
            cache::Found::Stale(found, fields) => {
                self.revalidate(routed.clone(), request.uri(), fields, cache, record.generation());
                (Some(found), "stale")
            }
        };
        routed.tenant().ledger.figures.cache_asked(outcome);
        (found, None)
    }

    /// Runs the guest, and serves a stale response from the cache if the guest fails (RFC 5861 §4). The record says why.
    pub(super) async fn run_or_stale(
        &self,
        fallback: Option<StaleIfError>,
        routed: Routed,
        request: Request<BodySource>,
        asked: Option<Asked>,
        (record, exchange): (&Arc<Record>, &Arc<Exchange>),
    ) -> Result<Response<ResponseBody>, Fault> {
        let ledger = Arc::clone(&routed.tenant().ledger);
        let answered = self.run(routed, request, asked, (record, exchange)).await;
        let Some(fallback) = fallback else { return answered };
        let status = match &answered {
            Ok(answer) => Some(answer.status()),
            Err(fault) => Some(response::status(*fault)).filter(|_| is_failure(*fault)),
        };
        let stale = status.and_then(|status| fallback.instead_of(status));
        ledger.figures.cache_asked(if stale.is_some() { "stale" } else { "miss" });
        let Some(stale) = stale else { return answered };
        match answered {
            Ok(answer) => self.read_to_the_end(answer.into_body()),
            Err(fault) => record.fault(fault),
        }
        let bytes = http_body::Body::size_hint(stale.body()).lower();
        ledger.charge_body_bytes(bytes);
        record.sent(bytes);
        Ok(stale)
    }

    /// Reads a response that is sent to nobody, so that its guest can finish.
    fn read_to_the_end(&self, mut body: ResponseBody) {
        self.tasks.spawn(async move { while let Some(Ok(_frame)) = body.frame().await {} });
    }

    /// Revalidates a stale response: runs the guest again, by a request that belongs to no client.
    fn revalidate(self: &Arc<Self>, routed: Routed, url: &Uri, fields: HeaderMap, cache: &Arc<Cache>, generation: u64) {
        let asked = cache.ask(&Method::GET, url, &fields, true);
        let mut request = Request::new(BodySource::nothing());
        // The new request does not belong to the trace of the client that triggered it.
        let mut fields = fields;
        fields.remove("traceparent");
        (*request.uri_mut(), *request.headers_mut()) = (url.clone(), fields);
        let host = url.host().unwrap_or_default();
        let record = Record::new(&self.metrics, &request, host, generation);
        record.routed(&routed.tenant().ledger.figures, routed.component().name.as_str(), routed.name());
        let road = Arc::clone(self);
        self.tasks.spawn(async move {
            match road.run(routed, request, Some(asked), (&record, &Exchange::new(None))).await {
                Ok(answer) => {
                    record.status(answer.status());
                    let mut body = answer.into_body();
                    while let Some(Ok(_frame)) = body.frame().await {}
                }
                Err(fault) => record.fault(fault),
            }
        });
    }
}

/// Whether the guest or the gateway failed just now. Intended refusals are no failures.
const fn is_failure(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::Trap
            | Fault::Stack
            | Fault::Fuel
            | Fault::Memory
            | Fault::NoResponse
            | Fault::BadResponse
            | Fault::Stuck
            | Fault::Deadline
            | Fault::Overload
            | Fault::Internal
    )
}
