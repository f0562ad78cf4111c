//! Everything a tenant might do wrong, one path each. The suites name every one of them.

use std::hint::black_box;

use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hostile;
wasip2::http::proxy::export!(Hostile);

impl wasip2::exports::http::incoming_handler::Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.as_str() {
            "/ok" => answer(out, &[b"ok"]),
            "/loop" => spin(),
            "/fill" => fill(),
            "/grow" => grow(),
            "/deep" => {
                black_box(deep(black_box(1)));
            }
            "/trap" => std::arch::wasm32::unreachable(),
            "/trap-in-body" => {
                let body = start(out, Fields::new());
                write(&body, b"the first half");
                // By then it has left, and nobody can take it back.
                monotonic_clock::subscribe_duration(100_000_000).block();
                std::arch::wasm32::unreachable()
            }
            "/endless" => {
                let body = start(out, Fields::new());
                let chunk = vec![b'x'; 4096];
                let stream = body.write().expect("a stream");
                while stream.blocking_write_and_flush(&chunk).is_ok() {}
            }
            "/huge-headers" => {
                let headers = Fields::new();
                for n in 0..25 {
                    let value = vec![b'h'; 1000];
                    headers.append(&format!("x-huge-{n}"), &value).expect("room for a header");
                }
                drop(start(out, headers));
            }
            "/headers-without-end" => {
                let headers = Fields::new();
                loop {
                    headers.append("x-more", &vec![b'h'; 1000]).expect("the host says stop");
                }
            }
            "/unfinished" => {
                let body = start(out, Fields::new());
                write(&body, b"and then");
                std::mem::forget(body);
            }
            "/silent" => drop(out),
            "/sleep" => {
                monotonic_clock::subscribe_duration(3_600_000_000_000).block();
                answer(out, &[b"awake"]);
            }
            "/drip" => {
                let body = start(out, Fields::new());
                let stream = body.write().expect("a stream");
                loop {
                    if stream.blocking_write_and_flush(b".").is_err() {
                        return;
                    }
                    monotonic_clock::subscribe_duration(50_000_000).block();
                }
            }
            "/exit" => std::process::exit(3),
            "/chatter" => {
                for n in 0..10_000 {
                    println!("line {n} \u{1b}[31m of far too many");
                }
                eprintln!("{}", "long ".repeat(10_000));
                answer(out, &[b"said it"]);
            }
            "/linger" => {
                answer(out, &[b"done, but not gone"]);
                spin();
            }
            "/short" => {
                let headers = Fields::new();
                headers.append("content-length", b"100").expect("a length");
                let body = start(out, headers);
                write(&body, b"only this");
                let _ = OutgoingBody::finish(body, None);
            }
            _ => answer(out, &[b"unknown path: ", path.as_bytes()]),
        }
    }
}

fn start(out: ResponseOutparam, headers: Fields) -> OutgoingBody {
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("a body");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: &OutgoingBody, bytes: &[u8]) {
    let stream = body.write().expect("a stream");
    stream.blocking_write_and_flush(bytes).expect("a write");
}

fn answer(out: ResponseOutparam, parts: &[&[u8]]) {
    let body = start(out, Fields::new());
    write(&body, &parts.concat());
    OutgoingBody::finish(body, None).expect("an end");
}

fn spin() {
    let mut n = 0u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

/// Burns time without burning fuel: one instruction that writes 32 MiB.
fn fill() {
    let mut room = vec![0u8; 32 << 20];
    let mut n = 0u8;
    loop {
        n = n.wrapping_add(1);
        room.fill(n);
        black_box(&mut room);
    }
}

fn grow() {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(black_box(vec![1u8; 1 << 20]));
    }
}

/// Nothing of it stands on the stack in linear memory, which would overflow first and be a plain trap.
fn deep(n: u64) -> u64 {
    if n == u64::MAX { n } else { deep(n + 1).rotate_left(1) ^ n }
}
