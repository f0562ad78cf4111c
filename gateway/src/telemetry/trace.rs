//! Distributed tracing: the W3C context that arrives and is passed on, and the spans of one request.
//!
//! Source: W3C Trace Context (level 1, <https://www.w3.org/TR/trace-context/>). Names follow OpenTelemetry's semantic
//! conventions for HTTP and databases, 1.3x. Names outside of them begin with `tollgate.`.
//!
//! A stage is reported when it has ended, with its duration. So a request that is not sampled costs one check of an option,
//! and a sampled one costs its spans.

mod of_guest;

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _};

use crate::ids::RequestId;

pub(crate) use of_guest::GuestSpan;

const TRACEPARENT: &str = "traceparent";

/// Where spans are sent, and which requests are sampled.
#[derive(Debug)]
pub(crate) struct Spans {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    /// Of 2^32 requests, this many are sampled.
    sampled_of_all: u64,
    /// Whether the gateway follows a client that says that it samples.
    follows_client: bool,
}

impl Spans {
    /// Samples each request with this probability, in parts per million.
    pub(super) fn new(processor: BatchSpanProcessor, sampled_per_million: u32, follows_client: bool) -> Self {
        let scope = InstrumentationScope::builder("tollgate").with_version(env!("CARGO_PKG_VERSION")).build();
        let sampled_of_all = (u64::from(sampled_per_million) << 32) / 1_000_000;
        Self { processor, scope, sampled_of_all, follows_client }
    }

    /// Sends the spans that wait. Call it where blocking is harmless.
    pub(super) fn end(&self) {
        // If the collector is gone, only the last spans are lost.
        let _lost = self.processor.shutdown();
    }

    fn samples(&self) -> bool {
        u64::from(rand::random::<u32>()) < self.sampled_of_all
    }
}

/// The contents of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: TraceId,
    span: SpanId,
    is_sampled: bool,
}

impl Parent {
    /// Parses `00-TRACE-SPAN-FLAGS`, and an unknown version whose text begins in the same way. Returns nothing for anything
    /// else.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let text = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex =
            |text: &str, length| text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_good =
            is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        if !is_good || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Self { trace, span, is_sampled })
    }
}

/// The trace of one request, sampled or not.
#[derive(Debug)]
pub(crate) struct Trace {
    id: TraceId,
    /// The caller's span.
    parent: Option<SpanId>,
    /// The spans of the request, and of the guest that answers it.
    root: SpanId,
    guest: SpanId,
    began: SystemTime,
    /// Where its spans are sent. Nothing if it is not sampled.
    spans: Option<Arc<Spans>>,
    has_guest_ended: AtomicBool,
    /// Spans that the guest has begun and not ended.
    open: Mutex<Vec<SpanId>>,
}

/// A stage that has ended.
pub(super) struct Stage {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: SpanKind,
    pub(super) took: Duration,
    pub(super) attributes: Vec<KeyValue>,
    /// The error, as a stable word.
    pub(super) error: Option<&'static str>,
}

impl Stage {
    /// A stage inside the gateway without further attributes.
    pub(super) const fn of(name: &'static str, took: Duration) -> Self {
        Self { name: Cow::Borrowed(name), kind: SpanKind::Internal, took, attributes: Vec::new(), error: None }
    }
}

fn new_span_id() -> SpanId {
    // Zero is not a valid id.
    SpanId::from_bytes(rand::random::<u64>().max(1).to_be_bytes())
}

impl Trace {
    /// The trace of a request with these fields. A request that a sampled guest sends is sampled too.
    pub(super) fn begin(spans: &Arc<Spans>, headers: &HeaderMap, request: RequestId) -> Self {
        let parent = Parent::of(headers);
        let of_guest = current().filter(|current| parent.is_some_and(|parent| parent.trace == current.id));
        let is_sampled = match (&of_guest, parent) {
            (Some(current), _) => current.spans.is_some(),
            (None, Some(parent)) if spans.follows_client && parent.is_sampled => true,
            (None, _) => spans.samples(),
        };
        Self {
            id: parent.map_or_else(|| TraceId::from_bytes(request.bytes()), |parent| parent.trace),
            parent: parent.map(|parent| parent.span),
            root: new_span_id(),
            guest: new_span_id(),
            began: SystemTime::now(),
            spans: is_sampled.then(|| Arc::clone(spans)),
            has_guest_ended: AtomicBool::new(false),
            open: Mutex::default(),
        }
    }

    /// The trace id in hexadecimal.
    pub(super) fn text(&self) -> String {
        self.id.to_string()
    }

    pub(super) const fn is_sampled(&self) -> bool {
        self.spans.is_some()
    }

    /// Tells the guest the parent of its own spans.
    pub(super) fn inject_trace_context(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.traceparent(self.guest));
    }

    fn traceparent(&self, span: SpanId) -> HeaderValue {
        let text = format!("00-{}-{span}-{:02x}", self.id, u8::from(self.is_sampled()));
        // All of it is ASCII.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Reports a stage of the request that ends now.
    pub(super) fn stage(&self, stage: Stage) {
        self.put(stage, new_span_id(), self.root, SystemTime::now());
    }

    /// Reports a stage that the guest caused.
    fn stage_of_guest(&self, stage: Stage) {
        self.put(stage, new_span_id(), self.innermost(), SystemTime::now());
    }

    /// Reports the connection's handshake, which ended before the request began.
    pub(super) fn handshake(&self, stage: Stage, ended: SystemTime) {
        self.put(stage, new_span_id(), self.root, ended);
    }

    /// Reports the guest's own span, once.
    pub(super) fn guest(&self, stage: Stage) {
        if !self.has_guest_ended.swap(true, Ordering::Relaxed) {
            self.put(stage, self.guest, self.root, SystemTime::now());
        }
    }

    /// Reports the request as a whole.
    pub(super) fn end(&self, mut stage: Stage) {
        let now = SystemTime::now();
        stage.took = now.duration_since(self.began).unwrap_or(stage.took);
        self.put(stage, self.root, self.parent.unwrap_or(SpanId::INVALID), now);
    }

    fn put(&self, stage: Stage, span: SpanId, parent: SpanId, ended: SystemTime) {
        let Some(spans) = &self.spans else { return };
        let Stage { name, kind, took, mut attributes, error } = stage;
        let status = match error {
            Some(kind) => {
                attributes.push(KeyValue::new("error.type", kind));
                Status::error(kind)
            }
            None => Status::Unset,
        };
        spans.processor.on_end(SpanData {
            span_context: SpanContext::new(self.id, span, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: span == self.root && self.parent.is_some(),
            span_kind: kind,
            name,
            start_time: ended.checked_sub(took).unwrap_or(ended),
            end_time: ended,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: spans.scope.clone(),
        });
    }
}

/// A request that a guest sends, from its head to the response's head.
#[derive(Debug)]
pub(crate) struct OutboundSpan {
    trace: Arc<Trace>,
    span: SpanId,
    parent: SpanId,
    began: std::time::Instant,
    attributes: Vec<KeyValue>,
    name: String,
}

impl OutboundSpan {
    /// The span of this request, whose `traceparent` it sets. Nothing if tracing is off. If the guest set a `traceparent`
    /// of this trace, that span is the parent.
    pub(crate) fn begin<B>(request: &mut http::Request<B>) -> Option<Self> {
        let trace = current()?;
        let own = Parent::of(request.headers()).filter(|parent| parent.trace == trace.id);
        let span = new_span_id();
        request.headers_mut().insert(TRACEPARENT, trace.traceparent(span));
        if !trace.is_sampled() {
            return None;
        }
        let method = request.method().to_string();
        let host = request.uri().host().unwrap_or_default().to_owned();
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.clone()),
            KeyValue::new("server.address", host),
            KeyValue::new("url.path", request.uri().path().to_owned()),
        ];
        attributes.extend(request.uri().port_u16().map(|port| KeyValue::new("server.port", i64::from(port))));
        let parent = own.map_or_else(|| trace.innermost(), |own| own.span);
        Some(Self { trace, span, parent, began: std::time::Instant::now(), attributes, name: method })
    }

    /// Ends the span with a status, or without one after an error.
    pub(crate) fn end(mut self, status: Option<http::StatusCode>) {
        let error = match status {
            Some(status) => {
                self.attributes.push(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
                (status.is_client_error() || status.is_server_error()).then_some("status")
            }
            None => Some("no-response"),
        };
        let stage = Stage {
            name: self.name.into(),
            kind: SpanKind::Client,
            took: self.began.elapsed(),
            attributes: self.attributes,
            error,
        };
        self.trace.put(stage, self.span, self.parent, SystemTime::now());
    }
}

thread_local! {
    /// The trace of the guest that this thread runs at this moment.
    static CURRENT: RefCell<Option<Arc<Trace>>> = const { RefCell::new(None) };
}

/// The trace of the guest for which this is called.
fn current() -> Option<Arc<Trace>> {
    CURRENT.with_borrow(Option::clone)
}

/// Reports a store call that a guest waited for. `system` is the backend, `call` the operation.
pub(crate) fn storage_call(
    system: impl FnOnce() -> &'static str,
    call: &'static str,
    took: Duration,
    error: Option<&'static str>,
) {
    CURRENT.with_borrow(|current| {
        let Some(trace) = current.as_ref().filter(|trace| trace.is_sampled()) else { return };
        let attributes = vec![KeyValue::new("db.system.name", system()), KeyValue::new("db.operation.name", call)];
        trace.stage_of_guest(Stage { name: call.into(), kind: SpanKind::Client, took, attributes, error });
    });
}

pin_project_lite::pin_project! {
    /// Work for a guest. The guest's trace is the current one whenever the work runs.
    pub(crate) struct Within<F> {
        trace: Option<Arc<Trace>>,
        #[pin]
        work: F,
    }
}

/// Binds work to a trace, if there is one.
pub(crate) const fn within<F: Future>(trace: Option<Arc<Trace>>, work: F) -> Within<F> {
    Within { trace, work }
}

/// Restores the previous trace, however the work ends.
struct Restore(Option<Arc<Trace>>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(trace) = this.trace else { return this.work.poll(cx) };
        let before = CURRENT.replace(Some(Arc::clone(trace)));
        let _restore = Restore(before);
        this.work.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(text: &str) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(text).ok()?);
        Parent::of(&headers)
    }

    #[test]
    fn a_traceparent_is_read_as_the_specification_has_it() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let read = parent(&format!("00-{trace}-{span}-01"));
        assert!(read.is_some_and(|parent| parent.is_sampled && parent.trace.to_string() == trace));
        assert!(parent(&format!("00-{trace}-{span}-00")).is_some_and(|parent| !parent.is_sampled));
        assert!(parent(&format!("cc-{trace}-{span}-03-more")).is_some(), "a later version");
        let zero = "0".repeat(32);
        for bad in [
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{zero}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{}-01", &span[1..]),
            format!("00-{trace}-0000000000000000-01"),
            "00".to_owned(),
        ] {
            assert_eq!(parent(&bad), None, "{bad}");
        }
    }
}
