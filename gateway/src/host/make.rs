//! What the state of an instance is made from.

use std::sync::Arc;

use super::egress::Egress;
use crate::http::Exchange;
use crate::store::Store;
use crate::telemetry::{GuestLogs, Record};
use crate::tenant::{Budget, Component, Count, Limits, Tenant};

/// What an instance is made for.
pub(crate) struct Make<'a> {
    pub(crate) tenant: &'a Arc<Tenant>,
    pub(crate) component: &'a Arc<Component>,
    pub(crate) limits: &'a Limits,
    pub(crate) store: &'a Arc<Store>,
    pub(crate) logs: &'a GuestLogs,
    pub(crate) record: &'a Arc<Record>,
    /// Bytes of all instances of the gateway together.
    pub(crate) memory: &'a Arc<Count>,
    pub(crate) egress: &'a Arc<Egress>,
    /// Whom the request has been at (CDN-Loop), for those that the guest sends.
    pub(crate) chain: http::HeaderValue,
    pub(crate) budget: &'a Budget,
    pub(crate) exchange: Option<&'a Arc<Exchange>>,
}
