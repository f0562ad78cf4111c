//! One structured record a request, written when both its response and its instance have ended.
//!
//! The record is shared by the response's body and by the running guest; whoever lets go last writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::figures::FaultSeen;
use super::{Figures, Metrics};
use crate::fault::{Blame, Fault, Quotum};
use crate::ids::RequestId;

/// Facts about one request, filled in along the road.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    pub(crate) id: RequestId,
    started: Instant,
    /// Nothing for a message, which comes from no client.
    request: Option<Asked>,
    generation: u64,
    /// Whose it is, once that is known.
    routed: std::sync::OnceLock<Whose>,
    status: AtomicU16,
    fault: std::sync::OnceLock<Fault>,
    /// The values of Retry-After, RateLimit-Policy and RateLimit.
    limited: std::sync::OnceLock<[http::HeaderValue; 3]>,
    queue_us: AtomicU64,
    load_us: AtomicU64,
    instance_us: AtomicU64,
    guest_us: AtomicU64,
    /// Burned by the guest, and by the host for it while it ran.
    fuel: AtomicU64,
    /// For bringing the response's body out, which may go on when the guest is gone.
    fuel_of_body: AtomicU64,
    memory: AtomicU64,
    storage_ops: AtomicU64,
    outbound: AtomicU64,
    log_lines: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// The tenant's figures, the component and the route.
#[derive(Debug)]
struct Whose {
    figures: Arc<Figures>,
    component: String,
    route: String,
}

/// What the client asked for.
#[derive(Debug)]
struct Asked {
    method: http::Method,
    host: String,
    path: String,
    protocol: http::Version,
}

/// Where the time of a request went until now, for the `Server-Timing` header (W3C Server Timing).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) queue: Duration,
    pub(crate) load: Duration,
    pub(crate) instance: Duration,
    pub(crate) guest: Duration,
    pub(crate) fuel: u64,
}

/// What the log says where no response was begun, as nginx has it; it is never sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// Longer texts of strangers are cut in the log.
const TEXT_BYTES_MAX: usize = 512;

fn cut(text: &str) -> String {
    text.chars().take(TEXT_BYTES_MAX).collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Record {
    pub(crate) fn new<B>(metrics: &Arc<Metrics>, request: &http::Request<B>, host: &str, generation: u64) -> Arc<Self> {
        metrics.requests_in_flight.inc();
        let asked = Asked {
            method: request.method().clone(),
            host: cut(host),
            path: cut(request.uri().path()),
            protocol: request.version(),
        };
        Self::of(metrics, Some(asked), generation)
    }

    /// Of a message that starts a component.
    pub(crate) fn of_message(metrics: &Arc<Metrics>, generation: u64) -> Arc<Self> {
        Self::of(metrics, None, generation)
    }

    fn of(metrics: &Arc<Metrics>, request: Option<Asked>, generation: u64) -> Arc<Self> {
        Arc::new(Self {
            metrics: Arc::clone(metrics),
            id: RequestId::new(),
            started: Instant::now(),
            request,
            generation,
            routed: std::sync::OnceLock::new(),
            status: AtomicU16::new(0),
            fault: std::sync::OnceLock::new(),
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

    /// Of the configuration that it met.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn routed(&self, figures: &Arc<Figures>, component: &str, route: &str) {
        let (figures, component, route) = (Arc::clone(figures), component.to_owned(), route.to_owned());
        let _first = self.routed.set(Whose { figures, component, route });
    }

    /// Tenant, component and route, as far as they are known.
    fn names(&self) -> (&str, &str, &str) {
        let whose = self.routed.get();
        whose.map_or(("-", "-", "-"), |of| (of.figures.tenant.as_str(), of.component.as_str(), of.route.as_str()))
    }

    pub(crate) fn status(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    /// Notes a fault; the first one is the cause of the others.
    pub(crate) fn fault(&self, fault: Fault) {
        let _first = self.fault.set(fault);
    }

    pub(crate) fn first_fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }

    pub(crate) fn queued(&self, time: Duration) {
        self.queue_us.store(micros(time), Ordering::Relaxed);
    }

    pub(crate) fn loaded(&self, time: Duration) {
        self.load_us.store(micros(time), Ordering::Relaxed);
    }

    pub(crate) fn instantiated(&self, time: Duration) {
        self.instance_us.store(micros(time), Ordering::Relaxed);
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

    /// Why the tenant's own door refused it, for the response.
    pub(crate) fn limited(&self, fields: [http::HeaderValue; 3]) {
        let _first = self.limited.set(fields);
    }

    pub(crate) fn limits(&self) -> Option<&[http::HeaderValue; 3]> {
        self.limited.get()
    }

    /// Counts one more outbound request and says how many there were before.
    pub(crate) fn went_out(&self) -> u64 {
        self.outbound.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a line to the tenant's log, whether it found room or not.
    pub(crate) fn logged(&self) {
        self.log_lines.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lines_logged(&self) -> u64 {
        self.log_lines.load(Ordering::Relaxed)
    }

    /// Counts a quota of the tenant that had no room for something.
    pub(crate) fn quota_refused(&self, quotum: Quotum) {
        if let Some(of) = self.routed.get() {
            of.figures.quota_refused(quotum);
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

    /// Counts one more storage operation and says how many there were before.
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

impl Record {
    /// Counts a fault, and keeps it for whoever asks why.
    fn note(&self, fault: Fault, status: u16) {
        let of = self.routed.get();
        // What clients do wrong would drive out what somebody can mend.
        let seen = (fault.blame() != Blame::Client).then(|| FaultSeen {
            at: std::time::SystemTime::now(),
            tenant: of.map(|of| of.figures.tenant.clone()),
            request: self.id,
            kind: fault.kind(),
            status,
            route: of.map(|of| of.route.clone()).unwrap_or_default(),
        });
        if let Some(of) = of {
            of.figures.fault(seen.clone(), fault);
        }
        self.metrics.fault(seen, fault);
    }

    /// What is left of a message's run.
    fn write_message(&self) {
        let (tenant, component, channel) = self.names();
        let is_refused = self.status.load(Ordering::Relaxed) != 200;
        let fault = self.first_fault();
        let outcome = fault.map_or(if is_refused { "refused" } else { "ok" }, Fault::kind);
        let fuel = self.fuel();
        if let Some(of) = self.routed.get() {
            of.figures.message(outcome, fuel);
        }
        if let Some(fault) = fault {
            self.note(fault, 0);
        }
        tracing::info!(
            target: "messages",
            request_id = %self.id,
            tenant,
            component,
            channel,
            outcome,
            bytes_in = self.bytes_in.load(Ordering::Relaxed),
            duration_us = micros(self.started.elapsed()),
            queue_us = self.queue_us.load(Ordering::Relaxed),
            guest_us = self.guest_us.load(Ordering::Relaxed),
            fuel,
            memory_peak = self.memory.load(Ordering::Relaxed),
            storage_ops = self.storage_ops.load(Ordering::Relaxed),
            outbound = self.outbound.load(Ordering::Relaxed),
            log_lines = self.lines_logged(),
            generation = self.generation,
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(request) = &self.request else { return self.write_message() };
        let duration = self.started.elapsed();
        let (tenant, component, route) = self.names();
        let mut fault = self.first_fault();
        let mut status = self.status.load(Ordering::Relaxed);
        if status == 0 {
            // Nobody was there any more to take an answer.
            fault = fault.or(Some(Fault::ClientGone));
            status = CLIENT_CLOSED_REQUEST;
        }
        let fuel = self.fuel();
        self.metrics.requests_in_flight.dec();
        self.metrics.totals.answered(status, duration, fuel);
        match self.routed.get() {
            Some(of) => of.figures.answered(status, duration, fuel, None),
            None => self.metrics.answered_nobody(status, duration, None),
        }
        if let Some(fault) = fault {
            self.note(fault, status);
        }
        if let Some(Fault::Quota(quotum)) = fault {
            self.quota_refused(quotum);
        }
        macro_rules! record {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    request_id = %self.id,
                    tenant,
                    component,
                    route,
                    method = %request.method,
                    host = request.host,
                    path = request.path,
                    protocol = ?request.protocol,
                    status,
                    fault = fault.map_or("", Fault::kind),
                    bytes_in = self.bytes_in.load(Ordering::Relaxed),
                    bytes_out = self.bytes_out.load(Ordering::Relaxed),
                    duration_us = micros(duration),
                    queue_us = self.queue_us.load(Ordering::Relaxed),
                    load_us = self.load_us.load(Ordering::Relaxed),
                    instance_us = self.instance_us.load(Ordering::Relaxed),
                    guest_us = self.guest_us.load(Ordering::Relaxed),
                    fuel,
                    memory_peak = self.memory.load(Ordering::Relaxed),
                    storage_ops = self.storage_ops.load(Ordering::Relaxed),
                    outbound = self.outbound.load(Ordering::Relaxed),
                    log_lines = self.lines_logged(),
                    generation = self.generation,
                )
            };
        }
        match fault.map(Fault::blame) {
            Some(Blame::Gateway) => record!(error),
            Some(Blame::Tenant) => record!(warn),
            Some(Blame::Client) | None => record!(info),
        }
    }
}
