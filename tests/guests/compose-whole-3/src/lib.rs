//! The page of `async-hello` behind the middleware of `compose-gate`, compiled into one component, for comparison with the
//! composed pair.

#[path = "../../compose-gate/src/gate.rs"]
mod gate;
#[path = "../../async-hello/src/page.rs"]
mod page;

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_future;

wasip3::http::service::export!(Whole);

struct Whole;

impl wasip3::exports::http::handler::Guest for Whole {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        gate::gate(request).await
    }
}

/// The handler that the middleware wraps.
async fn inner(_request: Request) -> Result<Response, ErrorCode> {
    Ok(page::page("Hello from wasi:http 0.3"))
}
