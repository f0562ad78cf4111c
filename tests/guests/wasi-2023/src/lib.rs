//! The release candidate of November 2023, written against its WIT, because no SDK of that time is available:
//! `/echo/{status}`, `/stream/{pieces}`, `/fetch/{scheme}/{rest}` and `/fetch-many/{scheme}/{rest}` are those of
//! `spin-sdk-2`.
//!
//! `/rest-of/{month}/{file}` covers what no SDK of either month calls by itself: files, clocks, randomness, variables and
//! sockets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

mod november {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/wasi-2023-11-10",
        world: "proxy",
        generate_all,
        pub_export_macro: true,
    });
}
mod october {
    wit_bindgen::generate!({ path: "../../../gateway/wit/wasi-2023-10-18", world: "imports", generate_all });
}
use november::exports::wasi::http::incoming_handler::Guest;
use november::wasi::http::outgoing_handler;
use november::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};
use november::wasi::io::streams::{InputStream, OutputStream};

struct Site;
november::export!(Site with_types_in november);

impl Guest for Site {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let parts: Vec<&str> = path.splitn(4, '/').skip(1).collect();
        match parts.as_slice() {
            ["echo", status] => echo(&request, out, status.parse().unwrap_or(200)),
            ["stream", pieces] => {
                let (body, stream) = start(out, 200, Fields::new());
                for piece in 0..pieces.parse().unwrap_or(1) {
                    write(&stream, format!("piece {piece}\n").as_bytes());
                }
                drop(stream);
                let _finished = OutgoingBody::finish(body, None);
            }
            ["fetch", scheme, rest] => {
                let sent = fetch(scheme, rest, &contents(request.consume().expect("a body")).0);
                answer(out, &sent.and_then(|future| wait(&future)).unwrap_or_else(name));
            }
            ["fetch-many", scheme, rest] => {
                let futures: Vec<_> = (0..40).map(|_| fetch(scheme, rest, b"")).collect();
                let mut counts = BTreeMap::new();
                for sent in futures {
                    let told = sent.and_then(|future| wait(&future)).unwrap_or_else(name);
                    *counts.entry(told.split(' ').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
                }
                answer(out, &format!("{counts:?}"));
            }
            // A header that only the host may set; the WIT of November has an error that says so.
            ["refused-header"] => {
                let refused = Fields::from_list(&[("connection".to_owned(), b"close".to_vec())]);
                answer(out, &format!("{:?}", refused.err()));
            }
            ["rest-of", "november", file] => answer(out, &rest_of_november(file)),
            ["rest-of", "october", file] => answer(out, &rest_of_october(file)),
            _ => answer(out, "no such path"),
        }
    }
}

fn echo(request: &IncomingRequest, out: ResponseOutparam, status: u16) {
    let headers = Fields::new();
    let scheme = match request.scheme() {
        Some(Scheme::Https) => "https",
        _ => "http",
    };
    let uri = [scheme, "://", &request.authority().unwrap_or_default(), &request.path_with_query().unwrap_or_default()];
    let method = match request.method() {
        Method::Post => "POST",
        _ => "another",
    };
    headers.append("x-method", method.as_bytes()).expect("a header");
    headers.append("x-uri", uri.concat().as_bytes()).expect("a header");
    for (name, value) in request.headers().entries() {
        if name.starts_with("x-of-client") {
            headers.append(&name, &value).expect("a header");
        }
    }
    let (body, stream) = start(out, status, headers);
    let incoming = request.consume().expect("a body");
    let from = incoming.stream().expect("a stream");
    while let Ok(piece) = from.blocking_read(16 << 10) {
        write(&stream, &piece);
    }
    drop((from, stream));
    let _finished = OutgoingBody::finish(body, trailers(incoming));
}

/// The trailers after a body.
fn trailers(body: IncomingBody) -> Option<Fields> {
    let future = IncomingBody::finish(body);
    loop {
        match future.get() {
            Some(trailers) => return trailers.ok().flatten(),
            None => future.subscribe().block(),
        }
    }
}

fn contents(body: IncomingBody) -> (Vec<u8>, IncomingBody) {
    let stream = body.stream().expect("a stream");
    let mut bytes = Vec::new();
    while let Ok(piece) = stream.blocking_read(16 << 10) {
        bytes.extend(piece);
    }
    drop(stream);
    (bytes, body)
}

fn start(out: ResponseOutparam, status: u16, headers: Fields) -> (OutgoingBody, OutputStream) {
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("a body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a stream");
    (body, stream)
}

fn write(to: &OutputStream, bytes: &[u8]) {
    for part in bytes.chunks(4096) {
        to.blocking_write_and_flush(part).expect("somebody reads");
    }
}

fn answer(out: ResponseOutparam, text: &str) {
    let (body, stream) = start(out, 200, Fields::new());
    write(&stream, text.as_bytes());
    drop(stream);
    let _finished = OutgoingBody::finish(body, None);
}

fn fetch(scheme: &str, rest: &str, bytes: &[u8]) -> Result<FutureIncomingResponse, ErrorCode> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(|()| ErrorCode::HttpProtocolError)?;
    request.set_authority(Some(authority)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    let options = RequestOptions::new();
    options.set_connect_timeout_ms(Some(5_000_000_000)).expect("a time");
    if bytes.is_empty() {
        return outgoing_handler::handle(request, Some(options));
    }
    request.set_method(&Method::Post).expect("a method");
    let body = request.body().expect("a body");
    let future = outgoing_handler::handle(request, Some(options))?;
    let stream = body.write().expect("a stream");
    write(&stream, bytes);
    drop(stream);
    OutgoingBody::finish(body, None)?;
    Ok(future)
}

fn wait(future: &FutureIncomingResponse) -> Result<String, ErrorCode> {
    future.subscribe().block();
    let response = future.get().expect("it is ready").expect("it is asked once")?;
    let (bytes, _body) = contents(response.consume().expect("a body"));
    Ok(format!("{} {}", response.status(), String::from_utf8_lossy(&bytes)))
}

fn name(error: ErrorCode) -> String {
    format!("{error:?}")
}

fn rest_of_november(file: &str) -> String {
    use november::wasi::cli::environment::get_environment;
    use november::wasi::clocks::{monotonic_clock, wall_clock};
    use november::wasi::filesystem::preopens::get_directories;
    use november::wasi::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
    use november::wasi::io::poll::poll;
    use november::wasi::random::random::{get_random_bytes, get_random_u64};
    use november::wasi::sockets::network::IpAddressFamily;
    use november::wasi::sockets::{instance_network, ip_name_lookup, tcp_create_socket, udp_create_socket};

    let mut said = format!("{:?}\n", get_environment());
    for (folder, _) in get_directories() {
        let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
        let opened = folder.open_at(PathFlags::empty(), file, OpenFlags::empty(), read);
        let stream = opened.map(|file| file.read_via_stream(0).expect("a stream"));
        let _infallible = writeln!(said, "{:?}", stream.map(|stream| all(&stream)));
        let made = folder.open_at(PathFlags::empty(), "new", OpenFlags::CREATE, write);
        let _infallible = writeln!(said, "{:?}", made.map(|_| ()));
    }
    let before = monotonic_clock::now();
    let ready =
        poll(&[&monotonic_clock::subscribe_duration(3_600_000_000_000), &monotonic_clock::subscribe_duration(1000)]);
    let is_later = monotonic_clock::now() > before && wall_clock::now().seconds > 1_700_000_000;
    let _infallible = writeln!(said, "{ready:?} {is_later} {}", get_random_bytes(5).len());
    let is_same = get_random_u64() == get_random_u64();
    let network = instance_network::instance_network();
    let _infallible = writeln!(
        said,
        "{is_same} {:?} {:?} {:?}",
        tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4).map(|_| ()),
        udp_create_socket::create_udp_socket(IpAddressFamily::Ipv4).map(|_| ()),
        ip_name_lookup::resolve_addresses(&network, "localhost").map(|_| ()),
    );
    said
}

fn all(stream: &InputStream) -> String {
    let mut bytes = Vec::new();
    while let Ok(piece) = stream.blocking_read(4096) {
        bytes.extend(piece);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn rest_of_october(file: &str) -> String {
    use october::wasi::cli::environment::get_environment;
    use october::wasi::clocks::{monotonic_clock, wall_clock};
    use october::wasi::filesystem::preopens::get_directories;
    use october::wasi::filesystem::types::{DescriptorFlags, Modes, OpenFlags, PathFlags};
    use october::wasi::io::poll::{poll_list, poll_one};
    use october::wasi::random::random::{get_random_bytes, get_random_u64};
    use october::wasi::sockets::network::IpAddressFamily;
    use october::wasi::sockets::{instance_network, ip_name_lookup, tcp_create_socket, udp_create_socket};

    let mut said = format!("{:?}\n", get_environment());
    for (folder, _) in get_directories() {
        let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
        let opened = folder.open_at(PathFlags::empty(), file, OpenFlags::empty(), read, Modes::empty());
        let read = opened.map(|file| {
            let bytes = file.read(1 << 20, 0).expect("it can be read").0;
            (String::from_utf8_lossy(&bytes).into_owned(), file.lock_shared())
        });
        let _infallible = writeln!(said, "{read:?}");
        let made = folder.open_at(PathFlags::empty(), "new", OpenFlags::CREATE, write, Modes::WRITABLE);
        let _infallible = writeln!(said, "{:?}", made.map(|_| ()));
    }
    let before = monotonic_clock::now();
    let ready =
        poll_list(&[&monotonic_clock::subscribe(3_600_000_000_000, false), &monotonic_clock::subscribe(1000, false)]);
    poll_one(&monotonic_clock::subscribe(before, true));
    let is_later = monotonic_clock::now() > before && wall_clock::now().seconds > 1_700_000_000;
    let _infallible = writeln!(said, "{ready:?} {is_later} {}", get_random_bytes(5).len());
    let is_same = get_random_u64() == get_random_u64();
    let network = instance_network::instance_network();
    let _infallible = writeln!(
        said,
        "{is_same} {:?} {:?} {:?}",
        tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4).map(|_| ()),
        udp_create_socket::create_udp_socket(IpAddressFamily::Ipv4).map(|_| ()),
        ip_name_lookup::resolve_addresses(&network, "localhost", None, false).map(|_| ()),
    );
    said
}
