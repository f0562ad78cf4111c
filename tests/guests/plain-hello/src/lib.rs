//! The demo tenant's page, with the bindings of wasi:http 0.2 only: the cost of a request without a framework.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;
wasip2::http::proxy::export!(Hello);

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let environment = wasip2::cli::environment::get_environment();
        let greeting = environment.iter().find(|(name, _)| name == "GREETING");
        let greeting = greeting.map_or("Hello", |(_, value)| value.as_str());
        let host = request.authority().unwrap_or_default();
        let page = format!(
            "<!doctype html><meta charset=utf-8><title>{greeting}</title>\n\
             <h1>{greeting}</h1>\n\
             <p>This page was made by the component <code>site</code> of the tenant <code>hello</code>, \
             for <code>{host}</code>, in a sandbox that was made for this one request.</p>\n"
        );
        let headers = Fields::new();
        headers.append("content-type", b"text/html; charset=utf-8").expect("a field");
        headers.append("content-length", page.len().to_string().as_bytes()).expect("a field");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("a body");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("a stream");
        stream.blocking_write_and_flush(page.as_bytes()).expect("a write");
        drop(stream);
        OutgoingBody::finish(body, None).expect("an end");
    }
}
