//! For whom an instance runs: the permits, the record and the budget of what started it, and the tenants that it came
//! through.

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
    /// The tenants that it came through, for requests that the guest sends.
    pub(super) chain: HeaderValue,
    /// The request's exchange, if it answers a request.
    pub(super) exchange: Option<Arc<Exchange>>,
    /// Whether it waits for its tenant's memory. A request that a guest sent does not: that guest would wait for itself.
    pub(super) when_full: WhenFull,
}

impl Whose {
    /// For a request. If a component sent it to its own tenant, it is within that budget; every other request opens one.
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

    /// For a message or a run. No request caused it, so that its chain is empty.
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
        // Without a grant nothing leaves, so that no hash is needed.
        let chain = if admitted.routed.component().egress.is_empty() {
            HeaderValue::from_static("")
        } else {
            cdn_loop::onward(headers, &admitted.routed.tenant().id, budget.line())
        };
        Self { admitted, record, budget, chain, exchange: None, when_full: WhenFull::Wait }
    }
}
