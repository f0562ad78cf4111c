//! Outbound HTTP from guests: to granted origins only, counted, with limits on time, size and number.

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
use crate::fault::QuotaKind;
use crate::http::{CDN_LOOP, cdn_loop};
use crate::telemetry::{OutboundSpan, Record};
use crate::tenant::{Budget, Component, Entry, QuotaPermit, Tenant, WhenFull, cost};

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Done)>;

/// One instance's access to outbound requests.
pub(super) struct OutboundHttp {
    pub(super) tenant: Arc<Tenant>,
    pub(super) component: Arc<Component>,
    pub(super) egress: Arc<Egress>,
    pub(super) record: Arc<Record>,
    pub(super) notices: Notices,
    /// The most requests that one instance may send.
    pub(super) max: u64,
    /// The tenants that the request came through, which all outbound requests carry on.
    pub(super) chain: HeaderValue,
    /// What the instance may use, together with everything of the same cause.
    pub(super) budget: Budget,
    /// Fuel for requests that were sent, until it is charged.
    pub(super) owed: u64,
    /// The account of the instance's memory.
    pub(super) account: Arc<Account>,
    /// Dropped with the instance.
    pub(super) alive: Arc<()>,
}

impl OutboundHttp {
    /// What to do with a request if all of its tenant's places are taken.
    ///
    /// A place is held until the last byte of the response, so a request that waits for one waits for other exchanges to
    /// end. This wait must not become a cycle. Example: sixteen requests that each call a neighbour (`NAME.spin.internal`)
    /// hold all of sixteen places, and none is released while the neighbours wait for a place themselves. The same cycle
    /// passes through two tenants that call each other by their public names. So only the first instance of a chain may
    /// wait: one that a client's request or a message started. An instance that a guest's request started, of this gateway
    /// or of another one of its fleet (CDN-Loop names us), is refused at once. Then every exchange that holds a place leads
    /// to an instance that never waits for one, so that it ends by itself.
    ///
    /// One case remains: an instance that holds places by responses that it does not read, and waits for more. Its own time
    /// limit ends it.
    fn when_full(&self) -> WhenFull {
        if cdn_loop::came_from_a_guest(&self.chain) { WhenFull::Refuse } else { WhenFull::Wait }
    }
}

impl WasiHttpHooks for OutboundHttp {
    /// The default's answer, without the closure that the default creates each time.
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
        if self.record.count_outbound() >= self.max || !self.budget.take_outbound() {
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
        // A tunnel is not a request: nobody can check what follows its head.
        if request.method() == Method::CONNECT {
            return Box::new(std::future::ready(Err(Error::HttpRequestMethodInvalid)));
        }
        // Charged until the last byte of the response: meanwhile the guest has no handle to it, or one that does not show
        // its size.
        let bytes = head_weighs(&request) + OUTGOING_BODY_BYTES + INCOMING_BODY_BYTES;
        let Some(kept) = self.account.hold(bytes) else {
            return Box::new(std::future::ready(Err(Error::InternalError(Some(NO_MEMORY.to_owned())))));
        };
        let place = match self.tenant.ledger.go_out(self.when_full()) {
            Ok(place) => place,
            Err(quota) => {
                self.record.quota_refused(quota);
                return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
            }
        };
        request.headers_mut().insert(CDN_LOOP, self.chain.clone());
        let span = OutboundSpan::begin(&mut request);
        let (egress, tenant, record) = (Arc::clone(&self.egress), Arc::clone(&self.tenant), Arc::clone(&self.record));
        let patience = options.and_then(|options| options.first_byte_timeout);
        let outbound = async move {
            let taken = taken(place, patience, &egress).await;
            taken.inspect_err(|_gave_up| record.quota_refused(QuotaKind::OutboundInFlight))
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
                // The place is held until the last byte.
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

    /// `outgoing` bounds their bytes.
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        PIECES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

/// Ends a span, if there is one.
fn told(span: Option<OutboundSpan>, status: Option<http::StatusCode>) {
    if let Some(span) = span {
        span.end(status);
    }
}

/// Waits for the place. If the guest set a time limit for the response, the wait has the same limit; otherwise it lasts
/// until its instance ends.
async fn taken(place: Entry, patience: Option<Duration>, egress: &Egress) -> Result<QuotaPermit> {
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
