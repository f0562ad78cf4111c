//! Outbound HTTP from guests: to granted origins, counted, within bounds of time, size and number.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use super::egress::{Asked, Egress, Sender, Target};
use super::meter::Account;
use super::meter::NO_MEMORY;
use super::notices::Notices;
use super::sizes::{CHUNK_BYTES_MAX, INCOMING_BODY_BYTES, OUTGOING_BODY_BYTES, PIECES_MAX};
use super::weight::head_weighs;
use crate::deadline::Deadline;
use crate::fault::Quotum;
use crate::http::{CDN_LOOP, cdn_loop};
use crate::telemetry::{OutboundSpan, Record};
use crate::tenant::{Allotment, Budget, Component, Entry, Tenant, WhenFull, cost};

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Done)>;

/// One instance's way out.
pub(super) struct WayOut {
    pub(super) tenant: Arc<Tenant>,
    pub(super) component: Arc<Component>,
    pub(super) egress: Arc<Egress>,
    pub(super) record: Arc<Record>,
    pub(super) notices: Notices,
    /// Requests that one instance may send.
    pub(super) max: u64,
    /// Whom the request has been at, which all that leave carry on.
    pub(super) chain: HeaderValue,
    /// What the instance may use, with all that the same cause began.
    pub(super) budget: Budget,
    /// Fuel for requests that were sent, until it is charged.
    pub(super) owed: u64,
    /// What the instance's memory is counted in.
    pub(super) account: Arc<Account>,
    /// Is gone when the instance is.
    pub(super) alive: Arc<()>,
}

impl WayOut {
    /// What a request does that finds all of its tenant's places taken.
    ///
    /// A place is held until the answer's last byte, so a request that waits for one waits for the ends of other exchanges.
    /// That must not go round in a circle: sixteen requests that each ask a neighbour (`NAME.spin.internal`) have all of
    /// sixteen places, and none comes free as long as the neighbours wait for one themselves. The same circle goes through
    /// two tenants that ask each other by their public names. So only who stands at the front of its chain may wait: an
    /// instance that a client's request or a message started. One that a guest's request started, of this gateway or of
    /// another of its fleet (CDN-Loop names us), is refused at once. Then whatever holds a place has somebody on its other
    /// end who never waits for one, and ends by itself.
    ///
    /// What is left is an instance that holds places by answers that it does not read, and waits for more: its own time limit
    /// ends it.
    fn when_full(&self) -> WhenFull {
        if cdn_loop::came_from_a_guest(&self.chain) { WhenFull::Refuse } else { WhenFull::Wait }
    }
}

impl WasiHttpHooks for WayOut {
    /// The default's answer without the closure that the default makes for it each time.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Done,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        self.owed += cost::OUTBOUND;
        if self.record.went_out() >= self.max || !self.budget.take_outbound() {
            self.notices.outbound_used_up(self.max);
            return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
        }
        let target = match Target::of(request.uri(), &self.component.egress) {
            Ok(target) => target,
            Err(error) => {
                if matches!(error, Error::HttpRequestDenied) {
                    self.record.outbound_denied();
                    self.notices.denied(&self.component, request.uri());
                }
                return Box::new(std::future::ready(Err(error)));
            }
        };
        // A tunnel is no request: what follows its head is nobody's to look at.
        if request.method() == Method::CONNECT {
            return Box::new(std::future::ready(Err(Error::HttpRequestMethodInvalid)));
        }
        // Until the answer's last byte: the guest has no handle of it meanwhile, or one that says nothing of it.
        let bytes = head_weighs(&request) + OUTGOING_BODY_BYTES + INCOMING_BODY_BYTES;
        let Some(kept) = self.account.hold(bytes) else {
            return Box::new(std::future::ready(Err(Error::InternalError(Some(NO_MEMORY.to_owned())))));
        };
        let place = match self.tenant.ledger.go_out(self.when_full()) {
            Ok(place) => place,
            Err(quotum) => {
                self.record.quota_refused(quotum);
                return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
            }
        };
        request.headers_mut().insert(CDN_LOOP, self.chain.clone());
        let span = OutboundSpan::begin(&mut request);
        let (egress, tenant, record) = (Arc::clone(&self.egress), Arc::clone(&self.tenant), Arc::clone(&self.record));
        let patience = options.and_then(|options| options.first_byte_timeout);
        let outbound = async move {
            let taken = taken(place, patience, &egress).await;
            taken.inspect_err(|_gave_up| record.quota_refused(Quotum::OutboundInFlight))
        };
        let egress = Arc::clone(&self.egress);
        if let Some(whom) = target.own() {
            let budget = self.budget.inner();
            self.notices.will_be_refused(&self.chain, &budget);
            return Box::new(async move {
                let outbound = outbound.await?;
                let answered = egress.ask(Asked { tenant: tenant.id.clone(), whom, request, budget }).await;
                told(span, answered.as_ref().ok().map(http::Response::status));
                let response = answered?;
                let done: Done = Box::new(std::future::ready(Ok(())));
                // It is outbound until its last byte.
                let held = move |frame| {
                    let _outbound = (&outbound, &kept);
                    frame
                };
                Ok((response.map(|body| body.map_frame(held).boxed_unsync()), done))
            });
        }
        let component = Arc::clone(&self.component);
        let from = Sender { tenant, component, kept, alive: Arc::downgrade(&self.alive) };
        Box::new(async move {
            let sent = async { egress.exchange(from, target, request, options, outbound.await?).await };
            let sent = Box::pin(sent).await;
            told(span, sent.as_ref().ok().map(|(response, _done)| response.status()));
            sent
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    /// Their bytes are bounded by `outgoing`.
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        PIECES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

/// Ends a span, where there is one.
fn told(span: Option<OutboundSpan>, status: Option<http::StatusCode>) {
    if let Some(span) = span {
        span.end(status);
    }
}

/// The place, once it is there. A guest that says how long it waits for an answer waits no longer for a place; the others do
/// until their instance ends.
async fn taken(place: Entry, patience: Option<Duration>, egress: &Egress) -> Result<Allotment> {
    let awaited = match place {
        Entry::Granted(outbound) => return Ok(outbound),
        Entry::Awaited(awaited) => awaited,
    };
    egress.waited();
    let came = match patience {
        Some(patience) => Deadline::after(patience).run(awaited).await.ok(),
        None => Some(awaited.await),
    };
    came.and_then(|came| came.ok()).ok_or(Error::ConnectionLimitReached)
}
