//! What a component asks of its own tenant, and who answers it: the room that starts components stands above this one.

use std::future::Future;
use std::pin::Pin;

use wasmtime_wasi_http::{Error, WasiBody};

use crate::ids::TenantId;
use crate::tenant::Budget;

/// A request to the tenant itself.
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    pub(crate) whom: Whom,
    pub(crate) request: http::Request<WasiBody>,
    /// What is left of it is all that the request may use.
    pub(crate) budget: Budget,
}

/// Who of the tenant is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Component(String),
    /// Whoever has the path.
    Path,
}

/// What came of it.
pub(crate) type Told = Result<http::Response<WasiBody>, Error>;

/// Who starts the tenant's other components; the room that does so stands above this one.
pub(crate) trait Neighbours: Send + Sync {
    fn send(&self, asked: Asked) -> Pin<Box<dyn Future<Output = Told> + Send>>;
}
