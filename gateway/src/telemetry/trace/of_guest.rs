//! The spans that a guest creates itself (wasi:otel), as part of its request's trace.
//!
//! Security: a span belongs to the request's own trace, whatever trace it names. Its attribute `tollgate.tenant`, which no
//! guest can set, names the tenant. Names that a tenant chooses are data in its spans, and never labels of the gateway's
//! metrics.
//!
//! Limit: at most [`OPEN_MAX`] open spans are known. The caller bounds the size of a span.

use std::sync::PoisonError;
use std::time::SystemTime;

use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks, SpanProcessor as _};

use super::Trace;

/// Further spans are exported as well, but calls in the meantime are not their children.
const OPEN_MAX: usize = 64;

/// A span that a guest ended.
pub(crate) struct GuestSpan {
    /// In hexadecimal, as the guest wrote them.
    pub(crate) span: String,
    pub(crate) parent: String,
    pub(crate) kind: SpanKind,
    pub(crate) name: String,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
    pub(crate) attributes: Vec<KeyValue>,
    pub(crate) events: Vec<Event>,
    pub(crate) links: Vec<Link>,
    pub(crate) status: Status,
    /// The library that created the span, and its version.
    pub(crate) scope: (String, Option<String>),
    /// Attributes, events and links that were dropped.
    pub(crate) dropped: [u32; 3],
}

impl Trace {
    /// The trace id and the guest's own span id, in hexadecimal, and whether its spans are exported.
    pub(crate) fn of_guest(&self) -> (String, String, bool) {
        (self.id.to_string(), self.guest.to_string(), self.is_sampled())
    }

    /// Makes this span the parent of the guest's actions until it ends.
    pub(crate) fn begin_in_guest(&self, span: &str) {
        let Some(span) = id_of(span).filter(|_| self.is_sampled()) else { return };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() < OPEN_MAX {
            open.push(span);
        }
    }

    /// Sends a span of the guest. `whose` is the tenant and the component.
    pub(crate) fn end_in_guest(&self, span: GuestSpan, whose: [&str; 2]) {
        let Some(spans) = &self.spans else { return };
        // A guest cannot overwrite the gateway's own spans.
        let Some(id) = id_of(&span.span).filter(|id| ![self.root, self.guest].contains(id)) else { return };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|open| *open != id);
        drop(open);
        let mut attributes = span.attributes;
        for (name, value) in ["tollgate.tenant", "tollgate.component"].into_iter().zip(whose) {
            attributes.push(KeyValue::new(name, value.to_owned()));
        }
        let (name, version) = span.scope;
        let scope = InstrumentationScope::builder(name);
        let scope = match version {
            Some(version) => scope.with_version(version).build(),
            None => scope.build(),
        };
        let [dropped_attributes, dropped_events, dropped_links] = span.dropped;
        let (mut events, mut links) = (SpanEvents::default(), SpanLinks::default());
        (events.events, events.dropped_count) = (span.events, dropped_events);
        (links.links, links.dropped_count) = (span.links, dropped_links);
        spans.processor.on_end(SpanData {
            span_context: SpanContext::new(self.id, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            // A span that starts a trace of its own becomes a child of the guest's span.
            parent_span_id: id_of(&span.parent).unwrap_or(self.guest),
            parent_span_is_remote: false,
            span_kind: span.kind,
            name: span.name.into(),
            start_time: span.began,
            end_time: span.ended,
            attributes,
            dropped_attributes_count: dropped_attributes,
            events,
            links,
            status: span.status,
            instrumentation_scope: scope,
        });
    }

    /// The parent of a guest's call: the last span that it began and did not end, or the guest's own span.
    pub(super) fn innermost(&self) -> SpanId {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.last().copied().unwrap_or(self.guest)
    }
}

/// Sixteen hexadecimal digits, not all of them zero.
fn id_of(text: &str) -> Option<SpanId> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = SpanId::from_hex(text).ok().filter(|_| is_hex)?;
    (id != SpanId::INVALID).then_some(id)
}
