//! Whose an instance is: the permits, the record and the budget of what it is started for, and whom that has been at.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::message::Cause;
use crate::admission::Admitted;
use crate::fault::Fault;
use crate::http::cdn_loop;
use crate::ids::Line;
use crate::telemetry::Record;
use crate::tenant::Budget;

pub(super) struct Whose {
    pub(super) admitted: Arc<Admitted>,
    pub(super) record: Arc<Record>,
    pub(super) budget: Budget,
    /// Whom it has been at, for requests that the guest sends.
    pub(super) chain: HeaderValue,
}

impl Whose {
    /// A request's: one that a component makes of its own tenant is within a budget, every other opens one.
    ///
    /// # Errors
    /// Too little of the budget is left for an instance.
    pub(super) fn of_request(
        admitted: Admitted,
        record: Arc<Record>,
        headers: &HeaderMap,
        within: Option<Budget>,
    ) -> Result<Self, Fault> {
        if let Some(budget) = &within {
            budget.check()?;
        }
        let opened = || {
            let line = cdn_loop::line(headers).unwrap_or_else(|| Line::none(record.id));
            Budget::open(admitted.routed.limits(), line)
        };
        let budget = within.unwrap_or_else(opened);
        Ok(Self::new(admitted, record, budget, headers))
    }

    /// A message's or a run's. It comes from nobody's request, so what it starts has been nowhere yet.
    pub(super) fn of_event(admitted: Admitted, record: Arc<Record>, cause: &Cause) -> Self {
        let budget = Budget::open(admitted.routed.limits(), cause.line(record.id));
        Self::new(admitted, record, budget, &HeaderMap::new())
    }

    fn new(admitted: Admitted, record: Arc<Record>, budget: Budget, headers: &HeaderMap) -> Self {
        // Without a grant nothing leaves, and nothing need be hashed.
        let chain = if admitted.routed.component().egress.is_empty() {
            HeaderValue::from_static("")
        } else {
            cdn_loop::onward(headers, &admitted.routed.tenant().id, budget.line())
        };
        Self { admitted: Arc::new(admitted), record, budget, chain }
    }
}
