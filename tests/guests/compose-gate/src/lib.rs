//! Middleware of wasi:http 0.3: refuses requests with the header `x-refuse`, and adds a header to all other responses that
//! says what it sees of the environment.

mod gate;

wit_bindgen::generate!({ path: "wit", world: "middleware", generate_all });

use exports::wasi::http::handler::Guest;
use wasi::http::handler::handle as inner;
use wasi::http::types::{ErrorCode, Fields, Request, Response};

struct Gate;
export!(Gate);

impl Guest for Gate {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        gate::gate(request).await
    }
}
