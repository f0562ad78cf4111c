//! Requests of a component to its own tenant. The room that starts components implements this trait, because it is above
//! this one.

use std::future::Future;
use std::pin::Pin;

use wasmtime_wasi_http::{Error, WasiBody};

use crate::ids::TenantId;
use crate::tenant::Budget;

/// A request to the own tenant.
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    pub(crate) whom: Callee,
    pub(crate) request: http::Request<WasiBody>,
    /// The request may use only what is left of this budget.
    pub(crate) budget: Budget,
}

/// Which component of the tenant is called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    Component(String),
    /// The one that has the path.
    Path,
}

/// The response, or an error.
pub(crate) type Told = Result<http::Response<WasiBody>, Error>;

/// Starts the tenant's other components. A room above this one implements it.
pub(crate) trait Neighbours: Send + Sync {
    fn send(&self, asked: Asked) -> Pin<Box<dyn Future<Output = Told> + Send>>;
}
