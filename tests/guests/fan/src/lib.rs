//! Sends requests to its own tenant, and to others, recursively:
//!
//! - `/fan/WIDTH/DEPTH/BURN`: computes BURN rounds, requests `http://self.alt/fan/WIDTH/DEPTH-1/BURN` WIDTH times at once,
//!   and answers with the sum of all results;
//! - `/turn/WIDTH/DEPTH/BURN`: the same, one after the other;
//! - `/hold/BYTES/DEPTH`: keeps BYTES of memory while it requests itself with DEPTH - 1;
//! - `/give/BYTES`: answers with BYTES;
//! - `/ask/WIDTH/SCHEME/AUTHORITY/PATH`: requests that URL WIDTH times at once.

use std::collections::BTreeMap;
use std::hint::black_box;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};

struct Fan;
wasip2::http::proxy::export!(Fan);

/// How often each result occurred.
type Tally = BTreeMap<String, u64>;

impl wasip2::exports::http::incoming_handler::Guest for Fan {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u64>().ok()).unwrap_or(0);
        let mut tally = Tally::from([("ran".to_owned(), 1)]);
        match parts[0] {
            way @ ("fan" | "turn") => {
                let (width, depth, burn) = (number(1), number(2), number(3));
                for n in 0..burn {
                    black_box(n);
                }
                let deeper = format!("/{way}/{width}/{}/{burn}", depth.saturating_sub(1));
                let width = if depth == 0 { 0 } else { width };
                if way == "fan" {
                    let asked: Vec<_> = (0..width).map(|_| ask("http", "self.alt", &deeper)).collect();
                    asked.into_iter().for_each(|asked| add(&mut tally, asked));
                } else {
                    (0..width).for_each(|_| add(&mut tally, ask("http", "self.alt", &deeper)));
                }
            }
            "hold" => {
                let (bytes, depth) = (number(1), number(2));
                let held = black_box(vec![1u8; bytes as usize]);
                if depth > 0 {
                    add(&mut tally, ask("http", "self.alt", &format!("/hold/{bytes}/{}", depth - 1)));
                }
                black_box(&held);
            }
            "give" => return answer(out, &vec![b'x'; number(1) as usize]),
            "ask" => {
                let (scheme, authority, rest) = (parts[2], parts[3], parts[4..].join("/"));
                let asked: Vec<_> = (0..number(1)).map(|_| ask(scheme, authority, &format!("/{rest}"))).collect();
                asked.into_iter().for_each(|asked| add(&mut tally, asked));
            }
            _ => tally.clear(),
        }
        let text: String = tally.iter().map(|(kind, count)| format!("{kind} {count}\n")).collect();
        answer(out, text.as_bytes());
    }
}

/// Adds the result of a request: for a fan, its own tally; for anything else, its status or its error.
fn add(tally: &mut Tally, asked: Result<FutureIncomingResponse, ErrorCode>) {
    let (status, text) = match asked.and_then(|future| wait(&future)) {
        Ok(answer) => answer,
        Err(error) => return *tally.entry(name(&error)).or_default() += 1,
    };
    if status == 200 && text.starts_with(|first: char| first.is_ascii_uppercase() || first == 'r' || first.is_ascii_digit()) {
        for line in text.lines() {
            let (kind, count) = line.rsplit_once(' ').unwrap_or((line, "0"));
            *tally.entry(kind.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
        }
    } else {
        *tally.entry(status.to_string()).or_default() += 1;
    }
}

fn ask(scheme: &str, authority: &str, path: &str) -> Result<FutureIncomingResponse, ErrorCode> {
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

/// The name of an error, without its payload.
fn name(error: &ErrorCode) -> String {
    let text = format!("{error:?}");
    text.split(['(', ' ', '{']).next().unwrap_or_default().replace("ErrorCode::", "")
}

fn answer(out: ResponseOutparam, bytes: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a stream");
    for piece in bytes.chunks(4096) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("an end");
}
