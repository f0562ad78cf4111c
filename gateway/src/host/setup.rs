//! What the state of an instance is made from.

use std::sync::Arc;

use super::egress::Egress;
use crate::http::Exchange;
use crate::store::Store;
use crate::telemetry::{GuestLogs, Record};
use crate::tenant::{Budget, Component, Count, Limits, Tenant};

/// The parameters of a new instance.
pub(crate) struct GuestSetup<'a> {
    pub(crate) tenant: &'a Arc<Tenant>,
    pub(crate) component: &'a Arc<Component>,
    pub(crate) limits: &'a Limits,
    pub(crate) store: &'a Arc<Store>,
    pub(crate) logs: &'a GuestLogs,
    pub(crate) record: &'a Arc<Record>,
    /// Bytes of all instances of the gateway together.
    pub(crate) memory: &'a Arc<Count>,
    pub(crate) egress: &'a Arc<Egress>,
    /// The tenants that the request came through (CDN-Loop), for requests that the guest sends.
    pub(crate) chain: http::HeaderValue,
    pub(crate) budget: &'a Budget,
    pub(crate) exchange: Option<&'a Arc<Exchange>>,
}
