//! Middleware of wasi:http 0.2: refuses requests with the header `x-refuse`, and passes all others on.

wit_bindgen::generate!({ path: "wit", world: "middleware", generate_all });

use exports::wasi::http::incoming_handler::{Guest, IncomingRequest, ResponseOutparam};
use wasi::http::types::{Fields, OutgoingResponse};

struct Gate;
export!(Gate);

impl Guest for Gate {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if request.headers().has("x-refuse") {
            let response = OutgoingResponse::new(Fields::new());
            response.set_status_code(403).expect("a status");
            return ResponseOutparam::set(out, Ok(response));
        }
        wasi::http::incoming_handler::handle(request, out)
    }
}
