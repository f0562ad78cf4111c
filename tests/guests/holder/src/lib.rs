//! Holds as many resources of one kind as the host allows, for the given time: `/{what}/{count}/{bytes}/{milliseconds}`.
//! The answer says how many it got, and the error that ended it.

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};

mod keyvalue {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/wasi-keyvalue-0.2.0-draft2",
        world: "imports",
        generate_all,
    });
}
use keyvalue::wasi::keyvalue::{atomics, store};

struct Holder;
wasip2::http::proxy::export!(Holder);

/// What it got, and why it got no more.
type Got<T> = (Vec<T>, String);

impl wasip2::exports::http::incoming_handler::Guest for Holder {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let mut parts = path.split('/').skip(1);
        let what = parts.next().unwrap_or_default();
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        let (count, bytes, wait) = (number(), number(), number() as u64);
        let said = match what {
            "authority" | "method" | "path" | "scheme" => held(texts(what, count, bytes), wait),
            "fields" => held(fields(count, bytes), wait),
            "fields-dropped" => {
                (0..count).for_each(|_| drop(fields(1, bytes)));
                "0".to_owned()
            }
            "bodies" => held(bodies(count), wait),
            "pollables" => held(many(count, || monotonic_clock::subscribe_duration(3_600_000_000_000)), wait),
            "put" => put(bytes),
            "cas" => held(cas(count), wait),
            _ => "no such thing".to_owned(),
        };
        answer(out, said.as_bytes());
    }
}

fn many<T>(count: usize, make: impl FnMut() -> T) -> Got<T> {
    (std::iter::repeat_with(make).take(count).collect(), String::new())
}

fn held<T>((all, told): Got<T>, wait: u64) -> String {
    monotonic_clock::subscribe_duration(wait * 1_000_000).block();
    format!("{} {told}", all.len()).trim_end().to_owned()
}

/// Builds requests that are never sent, each with a text.
fn texts(what: &str, count: usize, bytes: usize) -> Got<OutgoingRequest> {
    let text = "a".repeat(bytes);
    let mut all = Vec::new();
    for _ in 0..count {
        let request = OutgoingRequest::new(Fields::new());
        let set = match what {
            "authority" => request.set_authority(Some(&text)),
            "method" => request.set_method(&Method::Other(text.clone())),
            "path" => request.set_path_with_query(Some(&format!("/{}", text.split_at(1).1))),
            _ => request.set_scheme(Some(&Scheme::Other(text.clone()))),
        };
        if set.is_err() {
            return (all, "refused".to_owned());
        }
        all.push(request);
    }
    (all, String::new())
}

fn fields(count: usize, bytes: usize) -> Got<Fields> {
    many(count, || {
        let fields = Fields::new();
        fields.append("x-held", &vec![b'f'; bytes]).expect("room for it");
        fields
    })
}

/// Builds requests that are never sent, each with a finished piece of a body.
fn bodies(count: usize) -> Got<OutgoingRequest> {
    many(count, || {
        let request = OutgoingRequest::new(Fields::new());
        let body = request.body().expect("a body");
        let stream = body.write().expect("a stream");
        stream.write(&[b'b'; 1000]).expect("a write");
        drop(stream);
        OutgoingBody::finish(body, None).expect("an end");
        request
    })
}

fn put(bytes: usize) -> String {
    let bucket = store::open("default").expect("a store");
    format!("{:?}", bucket.set("large", &vec![b'v'; bytes]))
}

fn cas(count: usize) -> Got<atomics::Cas> {
    let bucket = store::open("default").expect("a store");
    let mut all = Vec::new();
    for _ in 0..count {
        match atomics::Cas::new(&bucket, "large") {
            Ok(cas) => all.push(cas),
            Err(error) => return (all, format!("{error:?}")),
        }
    }
    (all, String::new())
}

fn answer(out: ResponseOutparam, text: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a stream");
    stream.blocking_write_and_flush(text).expect("a write");
    drop(stream);
    OutgoingBody::finish(body, None).expect("an end");
}
