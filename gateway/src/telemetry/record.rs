//! The facts about one request, collected along its road. `access` writes them when the road has ended.
//!
//! The response's body and the running guest share the record. The last one to drop it writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::access::ClientInfo;
use super::trace::{Stage, Trace};
use super::{Figures, Metrics};
use crate::fault::{Fault, QuotaKind};
use crate::ids::RequestId;

/// The facts about one request, collected along its road.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) metrics: Arc<Metrics>,
    pub(crate) id: RequestId,
    pub(super) started: Instant,
    pub(super) begun: StartedBy,
    pub(super) generation: u64,
    /// The client, if the log shows it.
    pub(super) client: std::sync::OnceLock<ClientInfo>,
    /// The tenant, once it is known.
    pub(super) routed: std::sync::OnceLock<Attribution>,
    pub(super) status: AtomicU16,
    pub(super) fault: std::sync::OnceLock<Fault>,
    /// The name of the error code that the guest returned instead of a response.
    error_code: std::sync::OnceLock<String>,
    /// Whether the guest returned a head, and whether it finished its whole response.
    has_head: AtomicBool,
    is_whole: AtomicBool,
    /// Whether the guest ended with its response's body still open.
    is_body_left_open: AtomicBool,
    /// The values of Retry-After, RateLimit-Policy and RateLimit.
    pub(super) limited: std::sync::OnceLock<[http::HeaderValue; 3]>,
    pub(super) queue_us: AtomicU64,
    pub(super) load_us: AtomicU64,
    pub(super) instance_us: AtomicU64,
    pub(super) guest_us: AtomicU64,
    /// Burned by the guest, and by the host for it while it ran.
    pub(super) fuel: AtomicU64,
    /// Burned for sending the response's body, which may continue after the guest has ended.
    pub(super) fuel_of_body: AtomicU64,
    pub(super) memory: AtomicU64,
    pub(super) storage_ops: AtomicU64,
    pub(super) outbound: AtomicU64,
    pub(super) log_lines: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    /// The trace, if tracing is on.
    pub(super) trace: Option<Arc<Trace>>,
}

/// The tenant's figures, the component and the route.
#[derive(Debug)]
pub(super) struct Attribution {
    pub(super) figures: Arc<Figures>,
    pub(super) component: String,
    pub(super) route: String,
}

/// What started it.
#[derive(Debug)]
pub(super) enum StartedBy {
    Request(Asked),
    /// A message, which comes from no client.
    Message,
    /// A schedule that was due.
    Run,
    Nothing,
}

/// What the client asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: http::Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) protocol: http::Version,
}

/// How the request's time was spent until now, for the `Server-Timing` header (W3C Server Timing).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) queue: Duration,
    pub(crate) load: Duration,
    pub(crate) instance: Duration,
    pub(crate) guest: Duration,
    pub(crate) fuel: u64,
}

/// A lookup of code that is in memory takes less.
const LOAD_US_MIN: u64 = 100;

/// Longer texts from strangers are truncated in the log.
const TEXT_BYTES_MAX: usize = 512;

pub(super) fn cut(text: &str) -> String {
    text.chars().take(TEXT_BYTES_MAX).collect()
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Record {
    pub(crate) fn new<B>(metrics: &Arc<Metrics>, request: &http::Request<B>, host: &str, generation: u64) -> Arc<Self> {
        metrics.requests_in_flight.one_more();
        let asked = Asked {
            method: request.method().clone(),
            host: cut(host),
            path: cut(request.uri().path()),
            protocol: request.version(),
        };
        Self::of(metrics, StartedBy::Request(asked), generation, request.headers())
    }

    /// The record of a message that starts a component.
    pub(crate) fn of_message(metrics: &Arc<Metrics>, generation: u64) -> Arc<Self> {
        Self::of(metrics, StartedBy::Message, generation, &http::HeaderMap::new())
    }

    /// The record of a schedule's run.
    pub(crate) fn of_run(metrics: &Arc<Metrics>, generation: u64) -> Arc<Self> {
        Self::of(metrics, StartedBy::Run, generation, &http::HeaderMap::new())
    }

    /// For an instance that waits for another request, and for the gateway's own requests. It is never written.
    pub(crate) fn of_nobody(metrics: &Arc<Metrics>) -> Arc<Self> {
        Self::of(metrics, StartedBy::Nothing, 0, &http::HeaderMap::new())
    }

    fn of(metrics: &Arc<Metrics>, begun: StartedBy, generation: u64, headers: &http::HeaderMap) -> Arc<Self> {
        let id = RequestId::new();
        Arc::new(Self {
            metrics: Arc::clone(metrics),
            // A request that no client sent belongs to no trace.
            trace: metrics
                .spans()
                .filter(|_| !matches!(begun, StartedBy::Nothing))
                .map(|spans| Arc::new(Trace::begin(spans, headers, id))),
            id,
            started: Instant::now(),
            begun,
            generation,
            client: std::sync::OnceLock::new(),
            routed: std::sync::OnceLock::new(),
            status: AtomicU16::new(0),
            fault: std::sync::OnceLock::new(),
            error_code: std::sync::OnceLock::new(),
            has_head: AtomicBool::new(false),
            is_whole: AtomicBool::new(false),
            is_body_left_open: AtomicBool::new(false),
            limited: std::sync::OnceLock::new(),
            queue_us: AtomicU64::new(0),
            load_us: AtomicU64::new(0),
            instance_us: AtomicU64::new(0),
            guest_us: AtomicU64::new(0),
            fuel: AtomicU64::new(0),
            fuel_of_body: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            storage_ops: AtomicU64::new(0),
            outbound: AtomicU64::new(0),
            log_lines: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        })
    }

    /// The generation of the configuration that the request met.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn routed(&self, figures: &Arc<Figures>, component: &str, route: &str) {
        let (figures, component, route) = (Arc::clone(figures), component.to_owned(), route.to_owned());
        let _first = self.routed.set(Attribution { figures, component, route });
    }

    /// Tenant, component and route, as far as they are known.
    pub(super) fn names(&self) -> (&str, &str, &str) {
        let whose = self.routed.get();
        whose.map_or(("-", "-", "-"), |of| (of.figures.tenant.as_str(), of.component.as_str(), of.route.as_str()))
    }

    pub(crate) fn status(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    /// Notes a fault. The first one is the cause of the others.
    pub(crate) fn fault(&self, fault: Fault) {
        let _first = self.fault.set(fault);
    }

    /// Notes the name of the error code that the guest returned instead of a response.
    pub(crate) fn answered_with(&self, code: String) {
        let _first = self.error_code.set(code);
    }

    /// The guest's error code, or an empty text.
    pub(super) fn error_code(&self) -> &str {
        self.error_code.get().map_or("", String::as_str)
    }

    /// Notes that the guest returned a head.
    pub(crate) fn answered(&self) {
        self.has_head.store(true, Ordering::Release);
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.has_head.load(Ordering::Acquire)
    }

    /// Notes that the guest ended without finishing or dropping its response's body.
    pub(crate) fn note_body_left_open(&self) {
        self.is_body_left_open.store(true, Ordering::Release);
    }

    pub(crate) fn has_left_body_open(&self) -> bool {
        self.is_body_left_open.load(Ordering::Acquire)
    }

    /// Notes that the guest finished its response. Must be called before a later fault is noted.
    pub(crate) fn finished(&self) {
        self.is_whole.store(true, Ordering::Release);
    }

    /// Whether the complete response may be sent, whatever happens to the guest afterwards.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }

    pub(crate) fn first_fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }

    /// The trace to which the guest's actions belong, if tracing is on.
    pub(crate) fn trace(&self) -> Option<Arc<Trace>> {
        self.trace.clone()
    }

    /// Tells the guest its trace, if tracing is on (W3C Trace Context).
    pub(crate) fn inject_trace_context(&self, headers: &mut http::HeaderMap) {
        if let Some(trace) = &self.trace {
            trace.inject_trace_context(headers);
        }
    }

    /// Notes the handshake of the connection whose first request this is.
    pub(crate) fn handshake(&self, ended: std::time::SystemTime, took: Duration) {
        if let Some(trace) = &self.trace {
            trace.handshake(Stage::of("tls.handshake", took), ended);
        }
    }

    /// The trace, if its spans are exported.
    pub(super) fn sampled(&self) -> Option<&Trace> {
        self.trace.as_deref().filter(|trace| trace.is_sampled())
    }

    fn stage(&self, name: &'static str, took: Duration) {
        if let Some(trace) = self.sampled() {
            trace.stage(Stage::of(name, took));
        }
    }

    pub(crate) fn queued(&self, time: Duration) {
        self.queue_us.store(micros(time), Ordering::Relaxed);
        self.stage("admission", time);
    }

    /// Notes more time that passed before the guest began.
    pub(crate) fn queued_longer(&self, time: Duration) {
        self.queue_us.fetch_add(micros(time), Ordering::Relaxed);
        self.stage("memory.wait", time);
    }

    pub(crate) fn loaded(&self, time: Duration) {
        self.load_us.store(micros(time), Ordering::Relaxed);
        self.stage("component.load", time);
    }

    /// Whether the component's code was not in memory when the request came.
    pub(crate) fn is_cold_start(&self) -> bool {
        self.load_us.load(Ordering::Relaxed) > LOAD_US_MIN
    }

    pub(crate) fn instantiated(&self, time: Duration) {
        self.instance_us.store(micros(time), Ordering::Relaxed);
        self.stage("instantiate", time);
    }

    /// Sets the guest's time: until its end, or, before that, until its response's head.
    pub(crate) fn guest_ended(&self, time: Duration) {
        self.guest_ran(time);
        if let Some(trace) = self.sampled() {
            let mut stage = Stage::of("guest", time);
            stage.error = self.first_fault().map(Fault::kind);
            trace.guest(stage);
        }
    }

    pub(crate) fn guest_ran(&self, time: Duration) {
        self.guest_us.store(micros(time), Ordering::Relaxed);
    }

    pub(crate) fn burned(&self, fuel: u64) {
        self.fuel.store(fuel, Ordering::Relaxed);
    }

    pub(crate) fn fuel_of_guest(&self) -> u64 {
        self.fuel.load(Ordering::Relaxed)
    }

    pub(crate) fn burned_for_body(&self, fuel: u64) {
        self.fuel_of_body.fetch_add(fuel, Ordering::Relaxed);
    }

    pub(crate) fn fuel(&self) -> u64 {
        self.fuel_of_guest() + self.fuel_of_body.load(Ordering::Relaxed)
    }

    /// Notes why the tenant's own door refused the request, for the response.
    pub(crate) fn limited(&self, fields: [http::HeaderValue; 3]) {
        let _first = self.limited.set(fields);
    }

    pub(crate) fn limits(&self) -> Option<&[http::HeaderValue; 3]> {
        self.limited.get()
    }

    /// Counts an outbound request. Returns how many there were before.
    pub(crate) fn count_outbound(&self) -> u64 {
        self.outbound.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a line to the tenant's log, whether it fits into the queue or not.
    pub(crate) fn logged(&self) {
        self.log_lines.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lines_logged(&self) -> u64 {
        self.log_lines.load(Ordering::Relaxed)
    }

    /// Counts an outbound request that no grant of the tenant allows.
    pub(crate) fn outbound_denied(&self) {
        if let Some(of) = self.routed.get() {
            of.figures.outbound_denied();
        }
    }

    /// Counts a refusal by one of the tenant's quotas.
    pub(crate) fn quota_refused(&self, quota: QuotaKind) {
        if let Some(of) = self.routed.get() {
            of.figures.quota_refused(quota);
        }
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_peak(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
    }

    /// Counts storage operations. Returns how many there were before.
    pub(crate) fn storage_op(&self, count: u64) -> u64 {
        self.storage_ops.fetch_add(count, Ordering::Relaxed)
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn times(&self) -> Times {
        let time = |us: &AtomicU64| Duration::from_micros(us.load(Ordering::Relaxed));
        Times {
            queue: time(&self.queue_us),
            load: time(&self.load_us),
            instance: time(&self.instance_us),
            guest: time(&self.guest_us),
            fuel: self.fuel(),
        }
    }
}
