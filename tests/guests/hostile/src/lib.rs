//! Everything that a tenant might do wrong, one path each. The suites name every path.

use std::hint::black_box;

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingRequest, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
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
                let headers = Fields::new();
                headers.append("content-type", b"text/plain").expect("room for a header");
                let body = start(out, headers);
                write(&body, b"the first half");
                // By then the first half has left, and nobody can take it back.
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
            "/long" => {
                let headers = Fields::new();
                headers.append("content-length", b"4").expect("a length");
                let body = start(out, headers);
                let stream = body.write().expect("a stream");
                let _ = stream.blocking_write_and_flush(b"four, and then what nobody asked for");
                drop(stream);
                let _ = OutgoingBody::finish(body, None);
            }
            "/status-101" => status(out, 101),
            "/status-999" => status(out, 999),
            "/many-headers" => {
                let headers = Fields::new();
                for n in 0..100_000 {
                    headers.append("x-n", format!("{n}").as_bytes()).expect("the host says stop");
                }
                drop(start(out, headers));
            }
            "/handles" => loop {
                std::mem::forget(Fields::new());
            },
            "/pollables" => loop {
                std::mem::forget(monotonic_clock::subscribe_duration(3_600_000_000_000));
            },
            "/bodies" => {
                // These are kept and never read: how much memory does the host hold for them?
                let mut kept = Vec::new();
                for _ in 0..60 {
                    let response = OutgoingResponse::new(Fields::new());
                    let body = response.body().expect("a body");
                    let stream = body.write().expect("a stream");
                    while let Ok(room @ 1..) = stream.check_write() {
                        stream.write(&vec![b'x'; room.min(1 << 20) as usize]).expect("a write");
                    }
                    kept.push((response, body, stream));
                }
                answer(out, &[b"kept them"]);
                std::mem::forget(kept);
            }
            "/clock" => loop {
                black_box(monotonic_clock::now());
            },
            "/random" => loop {
                black_box(wasip2::random::random::get_random_bytes(4096));
            },
            "/random-much" => {
                black_box(wasip2::random::random::get_random_bytes(1 << 30));
            }
            "/logs" => loop {
                println!("{}", "far too much ".repeat(100));
            },
            "/small-grows" => loop {
                // Grows by one page at a time, each of which the host must check and clear.
                if std::arch::wasm32::memory_grow::<0>(1) == usize::MAX {
                    std::arch::wasm32::unreachable()
                }
            },
            "/read-all" => {
                let body = request.consume().expect("a body");
                let stream = body.stream().expect("a stream");
                let mut bytes = 0;
                while let Ok(piece) = stream.blocking_read(65_536) {
                    bytes += piece.len();
                }
                answer(out, &[bytes.to_string().as_bytes()]);
            }
            "/outbound-flood" => {
                let mut kinds = std::collections::BTreeMap::new();
                for _ in 0..100 {
                    let sent = fetch("http", "127.0.0.1:9", "/").and_then(|future| wait(&future));
                    *kinds.entry(format!("{:?}", sent.map_err(name))).or_insert(0) += 1;
                }
                answer(out, &[format!("{kinds:?}").as_bytes()]);
            }
            _ if path.starts_with("/burn/") => {
                for n in 0..number(&path, 2) {
                    black_box(n);
                }
                answer(out, &[b"burned"]);
            }
            _ if path.starts_with("/hold/") => {
                let room = black_box(vec![1u8; number(&path, 2) as usize]);
                monotonic_clock::subscribe_duration(number(&path, 3) * 1_000_000).block();
                answer(out, &[room.len().to_string().as_bytes()]);
            }
            // `/fetch/http/127.0.0.1:80/any/path` once; `/fetch-many/` as often as the guest may, at once.
            _ if path.starts_with("/fetch/") => {
                let mut parts = path.splitn(5, '/').skip(2);
                let mut part = || parts.next().unwrap_or_default().to_owned();
                // A path has no brackets, so an IPv6 address comes percent-encoded.
                let (scheme, authority, rest) = (part(), part().replace("%5B", "[").replace("%5D", "]"), format!("/{}", part()));
                let text = match fetch(&scheme, &authority, &rest).and_then(|future| wait(&future)) {
                    Ok((status, body)) => format!("{status} {body}"),
                    Err(error) => name(error),
                };
                answer(out, &[text.as_bytes()]);
            }
            _ if path.starts_with("/fetch-many/") => {
                let mut parts = path.splitn(4, '/').skip(2);
                let (scheme, authority) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                let futures: Vec<_> = (0..40).map(|_| fetch(scheme, authority, "/")).collect();
                let mut kinds = std::collections::BTreeMap::new();
                for sent in futures {
                    let kind = match sent.and_then(|future| wait(&future)) {
                        Ok((status, _)) => status.to_string(),
                        Err(error) => name(error),
                    };
                    *kinds.entry(kind).or_insert(0) += 1;
                }
                answer(out, &[format!("{kinds:?}").as_bytes()]);
            }
            _ => answer(out, &[b"unknown path: ", path.as_bytes()]),
        }
    }
}

/// The number at this place of a path.
fn number(path: &str, place: usize) -> u64 {
    path.split('/').nth(place).and_then(|part| part.parse().ok()).unwrap_or(0)
}

fn status(out: ResponseOutparam, status: u16) {
    let response = OutgoingResponse::new(Fields::new());
    if response.set_status_code(status).is_err() {
        std::arch::wasm32::unreachable()
    }
    let body = response.body().expect("a body");
    ResponseOutparam::set(out, Ok(response));
    OutgoingBody::finish(body, None).expect("an end");
}

fn fetch(scheme: &str, authority: &str, path: &str) -> Result<FutureIncomingResponse, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(|()| ErrorCode::HttpProtocolError)?;
    request.set_authority(Some(authority)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_path_with_query(Some(path)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    outgoing_handler::handle(request, None)
}

fn wait(future: &FutureIncomingResponse) -> Result<(u16, String), ErrorCode> {
    future.subscribe().block();
    let response = future.get().expect("it is ready").expect("it is asked once")?;
    let body = response.consume().expect("a body");
    let stream = body.stream().expect("a stream");
    let mut bytes = Vec::new();
    while let Ok(piece) = stream.blocking_read(65_536) {
        bytes.extend(piece);
    }
    Ok((response.status(), String::from_utf8_lossy(&bytes).into_owned()))
}

/// The name of an error, without its payload, which differs from machine to machine.
fn name(error: ErrorCode) -> String {
    let text = format!("{error:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().replace("ErrorCode::", "")
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

/// Burns time but little fuel: one instruction writes 32 MiB.
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

/// Keeps nothing on the stack in linear memory: that one would overflow first, as a plain trap.
fn deep(n: u64) -> u64 {
    if n == u64::MAX { n } else { deep(n + 1).rotate_left(1) ^ n }
}
