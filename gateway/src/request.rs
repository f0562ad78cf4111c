//! The road of one request, top to bottom: [`Road::answer`], then [`Road::walk`], then [`Road::run`]. What the cache does on it
//! is in `request/cached.rs`, and what a refusal costs in `request/refusal.rs`.

mod cached;
mod peer;
mod refusal;
mod target;

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, Response};

use crate::admission::{Admitted, Doors, Refused};
use crate::cache::{Asked, Caches};
use crate::config::Snapshot;
use crate::deadline::Moment;
use crate::fault::Fault;
use crate::http::{
    BodySource, Exchange, HostPort, Origin, RequestBody, ResponseBody, X_FORWARDED_CLIENT_CERT, cdn_loop,
    clean_request, drop_underscores, name_loopback, normalise, spin,
};
use crate::response::{self, Compression};
use crate::route::{Found, Routed};
use crate::sandbox::Sandbox;
use crate::telemetry::{AccessShows, Metrics, Record, Tasks};
use crate::tenant::{InFlight, Ledger, PerAddress, Tenant, WhenFull};
pub(crate) use peer::Peer;
pub(crate) use refusal::refuse;
use refusal::{refuse_slowly, take_rate};
use target::make_absolute;

/// The state that all requests share.
#[derive(Debug)]
pub(crate) struct Road {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) doors: Doors,
    pub(crate) sandbox: Sandbox,
    pub(crate) caches: Caches,
    pub(crate) http: crate::http::Settings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    /// The request rate limit for each client address, across all tenants.
    pub(crate) by_address: PerAddress,
    /// Which facts about clients the access log shows.
    pub(crate) shows: AccessShows,
    /// Whether responses say how long each step took. Only with development certificates.
    pub(crate) server_timing: bool,
    /// Whether the gateway serves a developer's single project, which answers under every name of this machine.
    pub(crate) is_project: bool,
}

impl Road {
    /// Answers one request, successfully or with a fault, and writes one access record.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        mut request: Request<impl Into<BodySource>>,
        peer: &Peer,
        exchange: &Arc<Exchange>,
    ) -> Response<ResponseBody> {
        if self.is_project {
            name_loopback(&mut request);
        }
        // Load the configuration once and keep it to the end: a reload never splits a request.
        let snapshot = self.snapshot.load_full();
        let target = normalise(&mut request, self.http.fields);
        let shown = target.as_ref().map_or("", |target| target.host.as_str());
        let record = Record::new(&self.metrics, &request, shown, snapshot.generation);
        exchange.set_record(&record);
        let origin = self.origin(request.headers(), peer);
        record.note_client(self.shows, origin.address.ip(), request.headers());
        if let Some((ended, took)) = peer.take_handshake() {
            record.handshake(ended, took);
        }
        let is_head = request.method() == Method::HEAD;
        let asked = (request.map(Into::into), target);
        let walked = self.walk(&snapshot, asked, (peer, origin), &record, exchange).await;
        let mut answer = walked.unwrap_or_else(|fault| {
            record.fault(fault);
            let refusal = if fault == Fault::NoRoute && self.is_project {
                response::of_nothing_here(record.id, snapshot.shown())
            } else {
                response::of_fault(fault, record.id, record.limits())
            };
            // HTTP/2 would send the fault's text as data, but the response to a HEAD has no body.
            if is_head {
                return refusal.map(|_words| crate::http::empty());
            }
            record.sent(http_body::Body::size_hint(refusal.body()).lower());
            refusal
        });
        record.status(answer.status());
        response::mark(answer.headers_mut(), record.id, self.server_timing.then(|| record.times()));
        answer
    }

    /// From the request line to a response: clean, route, admit, look in the cache, run.
    async fn walk(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        (mut request, target): (Request<BodySource>, Result<HostPort, Fault>),
        (peer, origin): (&Peer, Origin),
        record: &Arc<Record>,
        exchange: &Arc<Exchange>,
    ) -> Result<Response<ResponseBody>, Fault> {
        let HostPort { host, port } = target?;
        let address = origin.address.ip();
        self.by_address.take(address, Moment::now()).map_err(|limited| refuse(&limited.into(), record))?;
        self.metrics.fields_dropped(drop_underscores(request.headers_mut()));
        clean_request(&mut request, origin, record.id)?;
        record.inject_trace_context(request.headers_mut());
        // A client may reuse a connection for another host, but never for another tenant (RFC 9110 §7.4).
        if peer.server_name.as_ref().is_some_and(|name| !snapshot.routes.same_owner(name, &host)) {
            return Err(Fault::Misdirected);
        }
        // The route says which tenant answers, and with what.
        let routed = match snapshot.routes.find(&host, request.uri().path())? {
            Found::Component(routed) => routed,
            Found::Fixed(tenant, route, fixed) => {
                peer.caller(&tenant)?;
                record.routed(&tenant.ledger.figures, "", &route);
                let _entered = refuse_slowly(self.pass(&tenant.ledger, address).await, &tenant.ledger, record).await?;
                let is_head = request.method() == Method::HEAD;
                tenant.ledger.charge_body_bytes(fixed.body.len() as u64);
                record.sent(if is_head { 0 } else { fixed.body.len() as u64 });
                return Ok(response::of_fixed(&fixed, is_head));
            }
            Found::Loading(tenant) => {
                peer.caller(&tenant)?;
                record.routed(&tenant.ledger.figures, "", "");
                let _entered = refuse_slowly(self.pass(&tenant.ledger, address).await, &tenant.ledger, record).await?;
                return Err(Fault::Loading);
            }
        };
        record.routed(&routed.tenant().ledger.figures, routed.component().name.as_str(), routed.name());
        refuse_slowly(take_rate(&routed.tenant().ledger, address), &routed.tenant().ledger, record).await?;
        cdn_loop::check(request.headers(), &routed.tenant().id)?;
        // From here on the request becomes what its guest sees: an absolute target, and the fields that the gateway adds.
        let caller = peer.caller(routed.tenant())?;
        let mut request = make_absolute(request, &peer.scheme, &host, port)?;
        let url = request.uri().clone();
        if let Some(matched) = routed.spin_match(url.path()) {
            spin::tell(request.headers_mut(), &matched, &url, origin.address);
        }
        let cache = self.caches.of(&routed.tenant().id);
        // A response made for one authenticated caller is never shared, and a target does not identify a request's body.
        let keeps = caller.is_none() && request.body().is_empty();
        if let Some(caller) = caller {
            request.headers_mut().insert(X_FORWARDED_CLIENT_CERT, caller.header.clone());
        }
        let compression = compression(request.headers(), routed.tenant(), record);
        let is_head = request.method() == Method::HEAD;
        let looked = cache.as_ref().filter(|_| keeps).map(|cache| self.look_up(cache, &routed, &request, record));
        let (kept, fallback) = looked.unwrap_or_default();
        let answer = match kept {
            Some(kept) => {
                let ledger = &routed.tenant().ledger;
                let _entered = refuse_slowly(self.doors.pass(ledger, WhenFull::Wait).await, ledger, record).await?;
                let bytes = http_body::Body::size_hint(kept.body()).lower();
                ledger.charge_body_bytes(bytes);
                record.sent(bytes);
                kept
            }
            None => {
                let (method, url, fields) = (request.method(), request.uri(), request.headers());
                let asked = cache.map(|cache| cache.ask(method, url, fields, keeps));
                self.run_or_stale(fallback, routed, request, asked, (record, exchange)).await?
            }
        };
        Ok(response::compressed(answer, compression, is_head))
    }

    /// Runs the guest, and stores its response in the cache if the response allows it.
    pub(crate) async fn run(
        &self,
        routed: Routed,
        request: Request<BodySource>,
        asked: Option<Asked>,
        (record, exchange): (&Arc<Record>, &Arc<Exchange>),
    ) -> Result<Response<ResponseBody>, Fault> {
        let is_head = request.method() == Method::HEAD;
        let body_max = routed.limits().request_body;
        let (parts, body) = request.into_parts();
        let (body, verdict) =
            RequestBody::new(body, body_max, &self.http, (Arc::clone(record), Arc::clone(exchange)), &self.tasks)?;
        let ledger = Arc::clone(&routed.tenant().ledger);
        // A request that a guest sends must not wait: it would wait for that same guest, which may hold the place itself.
        let may_wait = exchange.has_client() && !cdn_loop::is_of_a_guest(&parts.headers);
        let when_full = if may_wait { WhenFull::Wait } else { WhenFull::Refuse };
        let admitted = refuse_slowly(self.doors.admit(routed, when_full).await, &ledger, record).await?;
        record.queued(admitted.queued);
        let permits: Weak<Admitted> = Arc::downgrade(&admitted);
        exchange.admitted(permits);
        let request = Request::from_parts(parts, body);
        let reply = self.sandbox.run(admitted, request, verdict, Arc::clone(record), None).await?;
        let mut answer = response::of_reply(reply, is_head, &self.tasks)?;
        let recorder = asked.and_then(|asked| asked.answered(&mut answer));
        Ok(match recorder {
            Some(recorder) => answer.map(|body| recorder.copy(body)),
            None => answer,
        })
    }

    /// The client behind the request, seen through trusted proxies.
    fn origin(&self, headers: &HeaderMap, peer: &Peer) -> Origin {
        let trusted = (!peer.has_moved).then_some(&self.http.trusted_proxies);
        Origin::of(headers, peer.address, peer.scheme == Scheme::HTTP, trusted)
    }

    /// Takes one request from the address's rate limit at this tenant, then enters the tenant's door.
    async fn pass(&self, ledger: &Arc<Ledger>, address: IpAddr) -> Result<InFlight, Refused> {
        take_rate(ledger, address)?;
        self.doors.pass(ledger, WhenFull::Wait).await
    }
}

fn compression(headers: &HeaderMap, tenant: &Tenant, record: &Arc<Record>) -> Option<Compression> {
    if tenant.compress.is_empty() {
        return None;
    }
    let coding = response::choose(headers, &tenant.compress);
    Some(Compression { coding, ledger: Arc::clone(&tenant.ledger), record: Arc::clone(record) })
}
