//! One structured log line for each request, written when both its response and its instance have ended. At the same time
//! the request's counts, faults and root span are recorded.
//!
//! The response's body and the running guest share the record. The last one to drop it writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::access_log::{Fields, Shows};
use super::figures::{FaultSeen, Figures};
use super::record::{Asked, Record, StartedBy, cut, micros};
use super::trace::{Stage, Trace};
use crate::fault::{Blame, Fault};

/// The logged status if no response began, as in nginx. It is never sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

impl Record {
    /// Counts a fault, and keeps it for later questions.
    fn note(&self, fault: Fault, status: u16) {
        let of = self.routed.get();
        let seen = || FaultSeen {
            at: std::time::SystemTime::now(),
            tenant: of.map(|of| of.figures.tenant.clone()),
            request: self.id,
            kind: fault.kind(),
            status,
            route: of.map(|of| of.route.clone()).unwrap_or_default(),
            count: Arc::new(AtomicU64::new(1)),
        };
        let seen = of.and_then(|of| of.figures.fault(fault, seen));
        // Faults of clients and of requests without a tenant are not kept: they would displace those that an operator can
        // fix.
        self.metrics.fault(seen.filter(|_| fault.blame() != Blame::Client), fault);
    }

    /// Ends the span of the whole request.
    fn end_trace(
        &self,
        what: &dyn std::fmt::Display,
        route: &str,
        error: Option<Fault>,
        more: impl FnOnce(&mut Vec<KeyValue>),
    ) {
        let Some(trace) = self.sampled() else { return };
        let (tenant, component, _) = self.names();
        let mut attributes = vec![
            KeyValue::new("tollgate.tenant", tenant.to_owned()),
            KeyValue::new("tollgate.component", component.to_owned()),
            KeyValue::new("tollgate.request_id", self.id.to_string()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("tollgate.fuel", i64::try_from(self.fuel()).unwrap_or(i64::MAX)),
            KeyValue::new(
                "tollgate.memory_peak",
                i64::try_from(self.memory.load(Ordering::Relaxed)).unwrap_or(i64::MAX),
            ),
        ];
        if !self.error_code().is_empty() {
            attributes.push(KeyValue::new("tollgate.error_code", self.error_code().to_owned()));
        }
        more(&mut attributes);
        let (kind, error) = (SpanKind::Server, error.map(Fault::kind));
        let name = format!("{what} {route}").into();
        trace.end(Stage { name, kind, took: self.started.elapsed(), attributes, error });
    }

    /// Counts the outcome of a message or of a schedule's run. `what` names it in the record.
    fn count_started(&self, what: &'static str, count: impl FnOnce(&Figures, &'static str, u64)) -> &'static str {
        let is_refused = self.status.load(Ordering::Relaxed) != 200;
        let fault = self.first_fault();
        let outcome = fault.map_or(if is_refused { "refused" } else { "ok" }, Fault::kind);
        let fuel = self.fuel();
        self.metrics.totals.burned(fuel);
        if let Some(of) = self.routed.get() {
            count(&of.figures, outcome, fuel);
        }
        if let Some(fault) = fault {
            self.note(fault, 0);
        }
        let (_, _, name) = self.names();
        self.end_trace(&what, name, fault, |_none| {});
        outcome
    }

    /// Records the outcome of a schedule's run.
    fn write_run(&self) {
        let outcome = self.count_started("schedule", Figures::run);
        let (tenant, component, schedule) = self.names();
        tracing::info!(
            target: "schedules",
            request_id = %self.id,
            tenant,
            component,
            schedule,
            outcome,
            duration_us = micros(self.started.elapsed()),
            queue_us = self.queue_us.load(Ordering::Relaxed),
            guest_us = self.guest_us.load(Ordering::Relaxed),
            fuel = self.fuel(),
            memory_peak = self.memory.load(Ordering::Relaxed),
            storage_ops = self.storage_ops.load(Ordering::Relaxed),
            outbound = self.outbound.load(Ordering::Relaxed),
            log_lines = self.lines_logged(),
            generation = self.generation,
        );
    }

    /// Records the outcome of a message.
    fn write_message(&self) {
        let outcome = self.count_started("message", Figures::message);
        let (tenant, component, channel) = self.names();
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
            fuel = self.fuel(),
            memory_peak = self.memory.load(Ordering::Relaxed),
            storage_ops = self.storage_ops.load(Ordering::Relaxed),
            outbound = self.outbound.load(Ordering::Relaxed),
            log_lines = self.lines_logged(),
            generation = self.generation,
        );
    }
}

/// The client: its address and its program, as far as the log shows them.
#[derive(Debug)]
pub(super) struct ClientInfo {
    client: Option<String>,
    user_agent: Option<String>,
}

impl Record {
    /// Notes the client, as far as the operator configured it.
    pub(crate) fn note_client(&self, shows: Shows, from: std::net::IpAddr, headers: &http::HeaderMap) {
        if shows == Shows::default() {
            return;
        }
        let user_agent = headers.get(http::header::USER_AGENT).filter(|_| shows.user_agent);
        let _first = self.client.set(ClientInfo {
            client: shows.client.then(|| from.to_canonical().to_string()),
            user_agent: user_agent.map(|said| cut(&String::from_utf8_lossy(said.as_bytes()))),
        });
    }
}

impl Record {
    /// The status that the client got, and the fault if there was one.
    fn outcome(&self) -> (u16, Option<Fault>) {
        let fault = self.first_fault();
        match self.status.load(Ordering::Relaxed) {
            // The client had left before there was an answer.
            0 => (CLIENT_CLOSED_REQUEST, fault.or(Some(Fault::ClientGone))),
            status => (status, fault),
        }
    }

    fn count(&self, status: u16, fault: Option<Fault>, took: Duration, trace_id: Option<&str>) {
        let fuel = self.fuel();
        self.metrics.requests_in_flight.one_less();
        self.metrics.totals.answered(status, took, fuel);
        match self.routed.get() {
            Some(of) => of.figures.answered(status, took, fuel, trace_id),
            None => self.metrics.answered_nobody(status, took, trace_id),
        }
        if let Some(fault) = fault {
            self.note(fault, status);
        }
        if let Some(Fault::Quota(quota)) = fault {
            self.quota_refused(quota);
        }
    }

    fn fields<'f>(
        &'f self,
        request: &'f Asked,
        (status, fault): (u16, Option<Fault>),
        took: Duration,
        trace_id: Option<&'f str>,
    ) -> Fields<'f> {
        let (tenant, component, route) = self.names();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Fields {
            request_id: self.id,
            tenant,
            component,
            route,
            method: request.method.as_str(),
            host: &request.host,
            path: &request.path,
            protocol: request.protocol,
            status,
            fault: fault.map_or("", Fault::kind),
            error_code: self.error_code(),
            bytes_in: load(&self.bytes_in),
            bytes_out: load(&self.bytes_out),
            duration_us: micros(took),
            queue_us: load(&self.queue_us),
            load_us: load(&self.load_us),
            instance_us: load(&self.instance_us),
            guest_us: load(&self.guest_us),
            fuel: self.fuel(),
            memory_peak: load(&self.memory),
            storage_ops: load(&self.storage_ops),
            outbound: load(&self.outbound),
            log_lines: self.lines_logged(),
            generation: self.generation,
            trace_id,
            client: self.client.get().and_then(|info| info.client.as_deref()),
            user_agent: self.client.get().and_then(|info| info.user_agent.as_deref()),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // A request without a tenant belongs to nobody.
        let is_somebodys = self.routed.get().is_some();
        let request = match &self.begun {
            StartedBy::Request(request) => request,
            StartedBy::Message if is_somebodys => return self.write_message(),
            StartedBy::Run if is_somebodys => return self.write_run(),
            StartedBy::Message | StartedBy::Run | StartedBy::Nothing => return,
        };
        let took = self.started.elapsed();
        let (status, fault) = self.outcome();
        let trace_id = self.sampled().map(Trace::text);
        self.count(status, fault, took, trace_id.as_deref());
        let (_, _, route) = self.names();
        self.end_trace(&request.method, route, fault, |attributes| {
            attributes.extend([
                KeyValue::new("http.request.method", request.method.to_string()),
                KeyValue::new("http.response.status_code", i64::from(status)),
                KeyValue::new("server.address", request.host.clone()),
                KeyValue::new("url.path", request.path.clone()),
                KeyValue::new("network.protocol.version", format!("{:?}", request.protocol).replace("HTTP/", "")),
            ]);
        });
        let fields = self.fields(request, (status, fault), took, trace_id.as_deref());
        match self.metrics.access_log() {
            Some(log) => log.write(&fields),
            None => fields.log(fault.map(Fault::blame)),
        }
    }
}
