//! One structured line a request, written when both its response and its instance have ended; with it go its counts, its faults
//! and the span of the whole.
//!
//! The record is shared by the response's body and by the running guest; whoever lets go last writes it.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::access_log::Fields;
use super::figures::FaultSeen;
use super::record::{Record, micros};
use super::trace::Stage;
use crate::fault::{Blame, Fault};

/// What the log says where no response was begun, as nginx has it; it is never sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

fn unix_ms(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
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

    /// The span of the request as a whole.
    fn end_trace(&self, name: String, error: Option<Fault>, more: impl FnOnce(&mut Vec<KeyValue>)) {
        let Some(trace) = self.trace.as_ref().filter(|trace| trace.is_sampled()) else { return };
        let (tenant, component, route) = self.names();
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
        more(&mut attributes);
        let (kind, error) = (SpanKind::Server, error.map(Fault::kind));
        trace.end(Stage { name: name.into(), kind, took: self.started.elapsed(), attributes, error });
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
        self.end_trace(format!("message {channel}"), fault, |_none| {});
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
        let trace_id = self.trace.as_ref().and_then(|trace| trace.sampled_id());
        match self.routed.get() {
            Some(of) => of.figures.answered(status, duration, fuel, trace_id.as_deref()),
            None => self.metrics.answered_nobody(status, duration, trace_id.as_deref()),
        }
        if let Some(fault) = fault {
            self.note(fault, status);
        }
        if let Some(Fault::Quota(quotum)) = fault {
            self.quota_refused(quotum);
        }
        self.end_trace(format!("{} {route}", request.method), fault, |attributes| {
            attributes.extend([
                KeyValue::new("http.request.method", request.method.to_string()),
                KeyValue::new("http.response.status_code", i64::from(status)),
                KeyValue::new("server.address", request.host.clone()),
                KeyValue::new("url.path", request.path.clone()),
                KeyValue::new("network.protocol.version", format!("{:?}", request.protocol).replace("HTTP/", "")),
            ]);
        });
        if let Some(log) = self.metrics.access_log() {
            let method = request.method.as_str();
            let (host, path, protocol) = (&request.host, &request.path, format!("{:?}", request.protocol));
            let fields = Fields {
                unix_ms: unix_ms(SystemTime::now()),
                request_id: self.id.to_string(),
                tenant,
                component,
                route,
                method,
                host,
                path,
                protocol,
                status,
                fault: fault.map_or("", Fault::kind),
                bytes_in: self.bytes_in.load(Ordering::Relaxed),
                bytes_out: self.bytes_out.load(Ordering::Relaxed),
                duration_us: micros(duration),
                queue_us: self.queue_us.load(Ordering::Relaxed),
                load_us: self.load_us.load(Ordering::Relaxed),
                instance_us: self.instance_us.load(Ordering::Relaxed),
                guest_us: self.guest_us.load(Ordering::Relaxed),
                fuel,
                memory_peak: self.memory.load(Ordering::Relaxed),
                storage_ops: self.storage_ops.load(Ordering::Relaxed),
                outbound: self.outbound.load(Ordering::Relaxed),
                log_lines: self.lines_logged(),
                generation: self.generation,
                trace_id: trace_id.as_deref(),
            };
            if !log.write(self.routed.get().map(|of| &of.figures.tenant), &fields) {
                self.metrics.log_lines_dropped(1);
            }
            return;
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
                    trace_id,
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
