//! Whose an instance is: the permits, the record and the budget of what it is started for, and whom that has been at.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::message::Cause;
use crate::admission::Admitted;
use crate::fault::Fault;
use crate::http::{Exchange, cdn_loop};
use crate::ids::Line;
use crate::telemetry::Record;
use crate::tenant::{Budget, Ledger, WhenFull};

pub(super) struct Whose {
    pub(super) admitted: Arc<Admitted>,
    pub(super) record: Arc<Record>,
    pub(super) budget: Budget,
    /// Whom it has been at, for requests that the guest sends.
    pub(super) chain: HeaderValue,
    /// What it answers, where that is a request.
    pub(super) exchange: Option<Arc<Exchange>>,
    /// Whether it waits for memory of its tenant's. One that a guest asks for does not: that guest would wait for itself.
    pub(super) when_full: WhenFull,
}

impl Whose {
    /// A request's: one that a component makes of its own tenant is within a budget, every other opens one.
    ///
    /// # Errors
    /// Too little of the budget is left for an instance.
    pub(super) fn of_request(
        admitted: Arc<Admitted>,
        record: Arc<Record>,
        (headers, exchange): (&HeaderMap, &Arc<Exchange>),
        within: Option<Budget>,
    ) -> Result<Self, Fault> {
        if let Some(budget) = &within {
            budget.check()?;
        }
        let is_of_a_guest = within.is_some() || cdn_loop::is_of_a_guest(headers);
        let when_full = if is_of_a_guest { WhenFull::Refuse } else { WhenFull::Wait };
        let opened = || {
            let line = cdn_loop::line(headers).unwrap_or_else(|| Line::none(record.id));
            Budget::open(admitted.routed.limits(), line)
        };
        let budget = within.unwrap_or_else(opened);
        Ok(Self { exchange: Some(Arc::clone(exchange)), when_full, ..Self::new(admitted, record, budget, headers) })
    }

    /// A message's or a run's. It comes from nobody's request, so what it starts has been nowhere yet.
    pub(super) fn of_event(admitted: Arc<Admitted>, record: Arc<Record>, cause: &Cause) -> Self {
        let budget = Budget::open(admitted.routed.limits(), cause.line(record.id));
        Self::new(admitted, record, budget, &HeaderMap::new())
    }

    /// Who pays for the response, and how many bytes its head may have.
    pub(super) fn of_response(&self) -> (Arc<Ledger>, u64) {
        let routed = &self.admitted.routed;
        (Arc::clone(&routed.tenant().ledger), routed.limits().response_head)
    }

    fn new(admitted: Arc<Admitted>, record: Arc<Record>, budget: Budget, headers: &HeaderMap) -> Self {
        // Without a grant nothing leaves, and nothing need be hashed.
        let chain = if admitted.routed.component().egress.is_empty() {
            HeaderValue::from_static("")
        } else {
            cdn_loop::onward(headers, &admitted.routed.tenant().id, budget.line())
        };
        Self { admitted, record, budget, chain, exchange: None, when_full: WhenFull::Wait }
    }
}
