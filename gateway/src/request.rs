//! The road of one request, top to bottom.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;

use crate::admission::{Admitted, Doors, Refused};
use crate::cache::{self, Asked, Cache, Caches, StaleIfError};
use crate::config::Snapshot;
use crate::deadline::Moment;
use crate::domain::Domain;
use crate::fault::Fault;
use crate::http::{
    BodySource, Exchange, HostPort, Origin, RequestBody, ResponseBody, X_FORWARDED_CLIENT_CERT, cdn_loop,
    clean_request, default_port, drop_underscores, name_loopback, normalise, spin,
};
use crate::response::{self, Compression};
use crate::route::{Found, Routed};
use crate::sandbox::Sandbox;
use crate::telemetry::{AccessShows, Metrics, Record, Tasks};
use crate::tenant::{InFlight, Ledger, PerAddress, Tenant, WhenFull};
use crate::tls::Client;

/// The other side of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The remote address at the time of the handshake.
    pub(crate) address: SocketAddr,
    /// Whether packets now come from another address, not validated yet (RFC 9000 §9.3). No proxy header is trusted there.
    pub(crate) has_moved: bool,
    pub(crate) scheme: Scheme,
    /// The server name of the handshake (SNI), if there was one.
    pub(crate) server_name: Option<Domain>,
    /// The client's identity from its verified certificate, if it sent one.
    pub(crate) client: Option<Client>,
    /// When the handshake ended and how long it took. The connection's first request reports it.
    pub(crate) handshake: Option<(SystemTime, Duration)>,
    pub(crate) handshake_reported: AtomicBool,
}

impl Peer {
    /// Returns the handshake's times to the first caller on this connection, and nothing to later callers.
    fn take_handshake(&self) -> Option<(SystemTime, Duration)> {
        let handshake = self.handshake?;
        (!self.handshake_reported.swap(true, Ordering::Relaxed)).then_some(handshake)
    }

    /// The client's identity for this tenant, if the tenant asks for certificates.
    ///
    /// # Errors
    /// [`Fault::Misdirected`] if the tenant requires a certificate and this connection has none. Another one may have it.
    fn caller(&self, tenant: &Tenant) -> Result<Option<&Client>, Fault> {
        let Some(callers) = tenant.callers else { return Ok(None) };
        match self.client.as_ref().filter(|client| client.by == callers.by && client.is_current()) {
            None if callers.is_required => Err(Fault::Misdirected),
            client => Ok(client),
        }
    }
}

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

    /// The client behind the request, seen through trusted proxies.
    fn origin(&self, headers: &HeaderMap, peer: &Peer) -> Origin {
        let trusted = (!peer.has_moved).then_some(&self.http.trusted_proxies);
        Origin::of(headers, peer.address, peer.scheme == Scheme::HTTP, trusted)
    }

    /// Takes one request from the address's rate limit at this tenant, then enters the tenant's door.
    async fn pass(&self, ledger: &Arc<Ledger>, address: IpAddr) -> Result<InFlight, Refused> {
        take(ledger, address)?;
        self.doors.pass(ledger, WhenFull::Wait).await
    }

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
        refuse_slowly(take(&routed.tenant().ledger, address), &routed.tenant().ledger, record).await?;
        cdn_loop::check(request.headers(), &routed.tenant().id)?;
        let caller = peer.caller(routed.tenant())?;
        let mut request = absolute(request, &peer.scheme, &host, port)?;
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
        let looked = cache.as_ref().filter(|_| keeps).map(|cache| self.look(cache, &routed, &request, record));
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
                self.run_or(fallback, routed, request, asked, (record, exchange)).await?
            }
        };
        Ok(response::compressed(answer, compression, is_head))
    }

    /// Looks in the cache. Returns the response for this request, if any, and a stale one to serve if the guest fails.
    fn look(
        self: &Arc<Self>,
        cache: &Arc<Cache>,
        routed: &Routed,
        request: &Request<BodySource>,
        record: &Record,
    ) -> (Option<Response<ResponseBody>>, Option<StaleIfError>) {
        let found = cache.find(request.method(), request.uri(), request.headers());
        let (found, outcome) = match found {
            // The outcome is not known yet; `run_or` counts it.
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
    async fn run_or(
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

fn compression(headers: &HeaderMap, tenant: &Tenant, record: &Arc<Record>) -> Option<Compression> {
    if tenant.compress.is_empty() {
        return None;
    }
    let coding = response::choose(headers, &tenant.compress);
    Some(Compression { coding, ledger: Arc::clone(&tenant.ledger), record: Arc::clone(record) })
}

/// Takes one request from the address's rate limit at this tenant.
fn take(ledger: &Ledger, address: IpAddr) -> Result<(), Refused> {
    Ok(ledger.by_address.take(address, Moment::now())?)
}

/// Delays the refusal if the tenant is refused again and again.
async fn refuse_slowly<T>(admitted: Result<T, Refused>, ledger: &Ledger, record: &Record) -> Result<T, Fault> {
    let refused = match admitted {
        Ok(admitted) => return Ok(admitted),
        Err(refused) => refused,
    };
    let fault = refuse(&refused, record);
    tokio::time::sleep(ledger.refusal_pause(Moment::now())).await;
    Err(fault)
}

/// Notes the refusal in the record, and returns its fault.
pub(crate) fn refuse(refused: &Refused, record: &Record) -> Fault {
    if let Some(limited) = refused.limited {
        record.limited(limited.fields());
    }
    refused.fault
}

/// Makes the target absolute, with the host that was routed by. The guest sees one form, however the client wrote it.
fn absolute<B>(
    mut request: Request<B>,
    scheme: &Scheme,
    host: &Domain,
    port: Option<u16>,
) -> Result<Request<B>, Fault> {
    let port = port.filter(|port| *port != default_port(Some(scheme)));
    let authority = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path).build();
    *request.uri_mut() = uri.map_err(|_not_a_uri| Fault::BadRequest)?;
    Ok(request)
}
