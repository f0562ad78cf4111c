//! wasi:http 0.2: the guest hands the response to the host and goes on.

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
};

use crate::{LONG, trap};

struct Two;
wasip2::http::proxy::export!(Two);

impl wasip2::exports::http::incoming_handler::Guest for Two {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match request.path_with_query().unwrap_or_default().as_str() {
            "/which" => finish(write(start(out, None), b"0.2")),
            "/nothing-trap" => trap(),
            "/nothing-exit" => std::process::exit(1),
            "/nothing-error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("on purpose".to_owned())))),
            "/nothing" => drop(out),
            "/open-trap" => {
                std::mem::forget(write(start(out, None), b"half"));
                wait();
                trap()
            }
            "/open-exit" => {
                std::mem::forget(write(start(out, None), b"half"));
                wait();
                std::process::exit(1)
            }
            "/whole-trap" => {
                finish(write(start(out, None), b"whole"));
                trap()
            }
            "/whole-exit" => {
                finish(write(start(out, None), b"whole"));
                std::process::exit(1)
            }
            "/open-request" => {
                leave_open();
                finish(write(start(out, None), b"whole"));
            }
            "/open-request-trap" => {
                leave_open();
                finish(write(start(out, None), b"whole"));
                trap()
            }
            "/open-request-open" => {
                leave_open();
                std::mem::forget(write(start(out, None), b"half"));
                wait();
            }
            "/open-long" => std::mem::forget(write(start(out, Some("5")), b"whole")),
            "/not-begun" => std::mem::forget(start(out, None)),
            "/not-begun-exit" => {
                std::mem::forget(start(out, None));
                std::process::exit(1)
            }
            "/not-begun-short" => std::mem::forget(start(out, Some("10"))),
            "/short" => finish(write(start(out, Some("10")), b"short")),
            "/short-late" => {
                let body = write(start(out, Some("10")), b"short");
                wait();
                finish(body);
            }
            "/no-body" => {
                let response = OutgoingResponse::new(fields(Some("10")));
                ResponseOutparam::set(out, Ok(response));
            }
            "/ahead" => ahead(out, 20_000),
            "/ahead-for-ever" => ahead(out, 3 << 20),
            _ => drop(out),
        }
    }
}

/// Writes its whole body before it answers.
fn ahead(out: ResponseOutparam, mut left: usize) {
    let response = OutgoingResponse::new(fields(None));
    let body = response.body().expect("a body");
    let stream = body.write().expect("a stream");
    while left > 0 {
        match stream.check_write().expect("a stream that is open") as usize {
            0 => stream.subscribe().block(),
            room => {
                let bytes = room.min(left);
                stream.write(&vec![b'a'; bytes]).expect("a write");
                left -= bytes;
            }
        }
    }
    stream.blocking_flush().expect("a flush");
    drop(stream);
    ResponseOutparam::set(out, Ok(response));
    finish(body);
}

/// Leaves two bodies open: that of a request that is never sent, and that of a response that is not the answer.
fn leave_open() {
    let request = OutgoingRequest::new(fields(None));
    std::mem::forget((request.body().expect("a body"), request));
    let response = OutgoingResponse::new(fields(None));
    std::mem::forget((response.body().expect("a body"), response));
}

fn wait() {
    monotonic_clock::subscribe_duration(LONG).block();
}

fn fields(length: Option<&str>) -> Fields {
    let fields = Fields::new();
    if let Some(length) = length {
        fields.append("content-length", length.as_bytes()).expect("room for a header");
    }
    fields
}

fn start(out: ResponseOutparam, length: Option<&str>) -> OutgoingBody {
    let response = OutgoingResponse::new(fields(length));
    let body = response.body().expect("a body");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: OutgoingBody, bytes: &[u8]) -> OutgoingBody {
    let stream = body.write().expect("a stream");
    stream.blocking_write_and_flush(bytes).expect("a write");
    drop(stream);
    body
}

fn finish(body: OutgoingBody) {
    // The host reports a wrong length here.
    let _refused = OutgoingBody::finish(body, None);
}
