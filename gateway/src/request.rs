//! The road of one request, top to bottom.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::uri::Scheme;
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;

use crate::admission::{Doors, Refused};
use crate::config::Snapshot;
use crate::deadline::Moment;
use crate::domain::Domain;
use crate::fault::Fault;
use crate::http::{Origin, RequestBody, ResponseBody, authority, cdn_loop, clean_request, spin};
use crate::response;
use crate::route::{Fixed, Found};
use crate::sandbox::{Reply, Sandbox};
use crate::telemetry::{Metrics, Record, Tasks};
use crate::tenant::Ledger;

/// Who is on the other side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) scheme: Scheme,
    /// The server name of the handshake (SNI), if there was one.
    pub(crate) server_name: Option<Domain>,
}

/// Everything a request meets.
#[derive(Debug)]
pub(crate) struct Road {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) doors: Doors,
    pub(crate) sandbox: Sandbox,
    pub(crate) http: crate::http::Settings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    /// Whether responses say where their time went: with development certificates only.
    pub(crate) server_timing: bool,
}

impl Road {
    /// Answers one request, whatever comes of it, and leaves one access record.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Response<ResponseBody> {
        // One look at the configuration, held to the end: a reload never splits a request.
        let snapshot = self.snapshot.load_full();
        let host = authority(&request);
        let shown = host.as_ref().map_or("", |(host, _)| host.as_str());
        let record = Record::new(&self.metrics, &request, shown, snapshot.generation);
        let is_head = request.method() == Method::HEAD;
        let replied = self.walk(&snapshot, request, host, peer, &record).await;
        let answered = replied.and_then(|answer| match answer {
            Answer::Reply(reply) => response::of_reply(reply, is_head, &self.tasks),
            Answer::Fixed(fixed) => Ok(response::of_fixed(&fixed, is_head)),
        });
        let mut answer = answered.unwrap_or_else(|fault| {
            record.fault(fault);
            let refusal = response::of_fault(fault, record.id, record.limits());
            // HTTP/2 would send the words of a fault as data, which the answer to a HEAD must not have.
            if is_head { refusal.map(|_words| crate::http::empty()) } else { refusal }
        });
        record.status(answer.status());
        response::mark(answer.headers_mut(), record.id, self.server_timing.then(|| record.times()));
        answer
    }

    async fn walk(
        &self,
        snapshot: &Snapshot,
        mut request: Request<Incoming>,
        host: Result<(Domain, Option<u16>), Fault>,
        peer: &Peer,
        record: &Arc<Record>,
    ) -> Result<Answer, Fault> {
        let (host, port) = host?;
        let is_plain = peer.scheme == Scheme::HTTP;
        let origin = Origin::of(request.headers(), peer.address, is_plain, &self.http.trusted_proxies);
        clean_request(&mut request, origin, record.id)?;
        // A client may reuse a connection for another host, but never for another tenant (RFC 9110 §7.4).
        if peer.server_name.as_ref().is_some_and(|name| !snapshot.routes.same_owner(name, &host)) {
            return Err(Fault::Misdirected);
        }
        let routed = match snapshot.routes.find(&host, request.uri().path())? {
            Found::Component(routed) => routed,
            Found::Fixed(tenant, route, fixed) => {
                record.routed(tenant.id.as_str(), "", &route);
                let _entered = refuse_slowly(Doors::pass(&tenant.ledger), &tenant.ledger, record).await?;
                tenant.ledger.moved(fixed.body.len() as u64);
                return Ok(Answer::Fixed(fixed));
            }
        };
        record.routed(routed.tenant().id.as_str(), routed.component().name.as_str(), routed.name());
        cdn_loop::check(request.headers(), &routed.tenant().id)?;
        let body_max = routed.limits().request_body;
        let mut request = absolute(request, &peer.scheme, &host, port)?;
        let url = request.uri().clone();
        if let Some(matched) = routed.spin_match(url.path()) {
            spin::tell(request.headers_mut(), &matched, &url, origin.address);
        }
        let (parts, body) = request.into_parts();
        let (body, verdict) = RequestBody::new(body, body_max, self.http.body_idle, Arc::clone(record), &self.tasks)?;
        let ledger = Arc::clone(&routed.tenant().ledger);
        let admitted = refuse_slowly(self.doors.admit(routed).await, &ledger, record).await?;
        record.queued(admitted.queued);
        let request = Request::from_parts(parts, body);
        Ok(Answer::Reply(self.sandbox.run(admitted, request, verdict, Arc::clone(record)).await?))
    }
}

/// What a request is answered with.
enum Answer {
    Reply(Reply),
    Fixed(Arc<Fixed>),
}

/// A tenant that is refused again and again waits for each.
async fn refuse_slowly<T>(admitted: Result<T, Refused>, ledger: &Ledger, record: &Record) -> Result<T, Fault> {
    let refused = match admitted {
        Ok(admitted) => return Ok(admitted),
        Err(refused) => refused,
    };
    let fault = refuse(&refused, record);
    tokio::time::sleep(ledger.refusal_pause(Moment::now())).await;
    Err(fault)
}

/// What the record says of a refusal, and the fault that it is.
pub(crate) fn refuse(refused: &Refused, record: &Record) -> Fault {
    if let Some(limited) = refused.limited {
        record.limited(limited.fields());
    }
    refused.fault
}

/// The guest sees one target, whichever way the client wrote it: the host that was routed by.
fn absolute(
    mut request: Request<Incoming>,
    scheme: &Scheme,
    host: &Domain,
    port: Option<u16>,
) -> Result<Request<Incoming>, Fault> {
    let authority = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path).build();
    *request.uri_mut() = uri.map_err(|_not_a_uri| Fault::BadRequest)?;
    Ok(request)
}
