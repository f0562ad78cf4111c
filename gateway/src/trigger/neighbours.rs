//! Requests of a component to its own tenant, to a component by `http://NAME.spin.internal` (Spin's service chaining) or to
//! a path by `http://self.alt`. They use no connection but meet everything that any request meets: both doors, limits,
//! quotas, a record. They may use what is left of the budget of the request that sends them (`tenant/budget.rs`).
//!
//! Security: the tenant is that of the calling component; only the name and the path come from the guest.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};

use http_body_util::BodyExt as _;

use crate::admission::WhenFull;
use crate::config::Snapshot;
use crate::fault::Fault;
use crate::host::{self, Asked, Callee, Told};
use crate::http::{
    Exchange, Origin, RequestBody, ResponseBody, cdn_loop, clean_request, drop_underscores, spell, spin,
};
use crate::request::{Road, refuse};
use crate::response;
use crate::route::Found;
use crate::telemetry::Record;

/// The sender's address, which these requests do not have.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Finds and starts components of the same tenant.
pub(crate) struct Neighbours(Weak<Road>);

impl Neighbours {
    pub(crate) fn new(road: &Arc<Road>) -> Self {
        Self(Arc::downgrade(road))
    }
}

impl host::Neighbours for Neighbours {
    fn send(&self, asked: Asked) -> Pin<Box<dyn Future<Output = Told> + Send>> {
        let road = self.0.upgrade();
        Box::pin(async move {
            let road = road.ok_or(wasmtime_wasi_http::Error::DestinationUnavailable)?;
            let snapshot = road.snapshot.load_full();
            let host = asked.request.uri().host().unwrap_or_default().to_owned();
            let record = Record::new(&road.metrics, &asked.request, &host, snapshot.generation);
            let answered = walk(&road, &snapshot, asked, &record).await;
            let answer = answered.unwrap_or_else(|fault| {
                record.fault(fault);
                response::of_fault(fault, record.id, record.limits())
            });
            record.status(answer.status());
            Ok(answer
                .map(|body| body.map_err(|_torn| wasmtime_wasi_http::Error::HttpResponseIncomplete).boxed_unsync()))
        })
    }
}

async fn walk(
    road: &Road,
    snapshot: &Snapshot,
    asked: Asked,
    record: &Arc<Record>,
) -> Result<http::Response<ResponseBody>, Fault> {
    let Asked { tenant, whom, mut request, budget } = asked;
    let depth = cdn_loop::check_depth(request.headers());
    spell(&mut request)?;
    drop_underscores(request.headers_mut());
    clean_request(&mut request, Origin { address: NOBODY, is_plain: false, by_proxy: false }, record.id)?;
    record.inject_trace_context(request.headers_mut());
    if request.uri().host().is_none_or(str::is_empty) {
        *request.uri_mut() = itself(request.uri())?;
    }
    let url = request.uri().clone();
    let is_head = request.method() == http::Method::HEAD;
    let found = match whom {
        Callee::Component(name) => Found::Component(snapshot.routes.inner(&tenant, &name).ok_or(Fault::NoRoute)?),
        Callee::Path => snapshot.routes.own(&tenant, url.path())?,
    };
    let routed = match found {
        Found::Component(routed) => routed,
        Found::Fixed(tenant, route, fixed) => {
            record.routed(&tenant.ledger.figures, "", &route);
            depth?;
            let _entered =
                road.doors.pass(&tenant.ledger, WhenFull::Refuse).await.map_err(|refused| refuse(&refused, record))?;
            tenant.ledger.charge_body_bytes(fixed.body.len() as u64);
            return Ok(response::of_fixed(&fixed, is_head));
        }
        Found::Loading(_) => return Err(Fault::Loading),
    };
    record.routed(&routed.tenant().ledger.figures, routed.component().name.as_str(), routed.name());
    depth?;
    if let Some(matched) = routed.spin_match(url.path()) {
        spin::tell(request.headers_mut(), &matched, &url, NOBODY);
    }
    let limits = Arc::clone(routed.limits());
    let (parts, body) = request.into_parts();
    let (body, verdict) = RequestBody::new(
        body,
        limits.request_body,
        &road.http,
        (Arc::clone(record), Exchange::new(None)),
        &road.tasks,
    )?;
    let admitted = road.doors.admit(routed, WhenFull::Refuse).await.map_err(|refused| refuse(&refused, record))?;
    record.queued(admitted.queued);
    let request = http::Request::from_parts(parts, body);
    let reply = road.sandbox.run(admitted, request, verdict, Arc::clone(record), Some(budget)).await?;
    response::of_reply(reply, is_head, &road.tasks)
}

/// Gives a relative URL the name by which a tenant calls itself.
fn itself(uri: &http::Uri) -> Result<http::Uri, Fault> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let url = http::Uri::builder().scheme("http").authority(host::SELF).path_and_query(path).build();
    url.map_err(|_no_url| Fault::BadRequest)
}
