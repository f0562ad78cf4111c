//! A page at `/lib/WHAT`, which has the library try WHAT, and at `/own/WHAT`, which tries it itself.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct App;
wasip2::http::proxy::export!(App);

impl wasip2::exports::http::incoming_handler::Guest for App {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let text = match path.strip_prefix("/lib/") {
            Some(what) => crate::of_library(what),
            None => crate::tries::tries(path.strip_prefix("/own/").unwrap_or_default()),
        };
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a stream");
        stream.blocking_write_and_flush(text.as_bytes()).expect("a write");
        drop(stream);
        OutgoingBody::finish(body, None).expect("an end");
    }
}
