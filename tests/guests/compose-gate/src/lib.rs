//! Middleware of wasi:http 0.3: refuses whoever has the header `x-refuse`, and adds a header to everybody else's response that
//! says what it has of the environment.

wit_bindgen::generate!({ path: "wit", world: "middleware", generate_all });

use exports::wasi::http::handler::Guest;
use wasi::http::handler::handle;
use wasi::http::types::{ErrorCode, Fields, Request, Response};

struct Gate;
export!(Gate);

impl Guest for Gate {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        if request.get_headers().has("x-refuse") {
            let (_, trailers) = wit_future::new(|| Ok(None));
            let (response, _) = Response::new(Fields::new(), None, trailers);
            response.set_status_code(403).expect("a status");
            return Ok(response);
        }
        let response = handle(request).await?;
        let (status, headers) = (response.get_status_code(), response.get_headers().clone());
        let variables = std::env::vars().count();
        headers.append("x-gate", format!("{variables} variables").as_bytes()).expect("a field");
        let (_, done) = wit_future::new(|| Ok(()));
        let (body, trailers) = Response::consume_body(response, done);
        let (response, _) = Response::new(headers, Some(body), trailers);
        response.set_status_code(status).expect("a status");
        Ok(response)
    }
}
