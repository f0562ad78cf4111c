//! Sends one request to the origin that its path names, in the way that its path says, and reports the result:
//! `/get/https/127.0.0.1:8443/any/path`.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};

struct Outbound;
wasip2::http::proxy::export!(Outbound);

impl wasip2::exports::http::incoming_handler::Guest for Outbound {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let mut parts = path.splitn(5, '/').skip(1);
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (way, scheme, authority, rest) = (part(), part(), part(), format!("/{}", part()));
        let to = To { scheme, authority, path: rest };
        let said = match way.as_str() {
            "get" => to.get(None),
            // Four requests, one after the other.
            "get-4" => (0..4).map(|_| to.get(None)).collect::<Result<Vec<_>, _>>().map(|texts| texts.join("\n")),
            // At most 100 ms to connect.
            "get-soon" => {
                let options = RequestOptions::new();
                options.set_connect_timeout(Some(100_000_000)).expect("a time");
                to.get(Some(options))
            }
            "fields" => to.fields(),
            "post" => to.post(),
            "grpc" => to.grpc(),
            "half" => to.half(),
            "late" => to.late(),
            _ => Ok(format!("unknown way: {way}")),
        };
        let text = said.unwrap_or_else(|error| {
            let text = format!("{error:?}");
            text.split(['(', ' ', '{']).next().unwrap_or_default().replace("ErrorCode::", "")
        });
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a body");
        ResponseOutparam::set(out, Ok(response));
        write(&body, text.as_bytes());
        OutgoingBody::finish(body, None).expect("an end");
    }
}

struct To {
    scheme: String,
    authority: String,
    path: String,
}

impl To {
    fn request(&self, method: &Method, fields: Fields) -> OutgoingRequest {
        let request = OutgoingRequest::new(fields);
        let scheme = if self.scheme == "https" { Scheme::Https } else { Scheme::Http };
        request.set_method(method).expect("a method");
        request.set_scheme(Some(&scheme)).expect("a scheme");
        request.set_authority(Some(&self.authority)).expect("an authority");
        request.set_path_with_query(Some(&self.path)).expect("a path");
        request
    }

    fn get(&self, options: Option<RequestOptions>) -> Result<String, ErrorCode> {
        let response = head(&outgoing_handler::handle(self.request(&Method::Get, Fields::new()), options)?)?;
        let (text, _) = whole(&response);
        Ok(format!("{} {text}", response.status()))
    }

    /// The names of the response's fields.
    fn fields(&self) -> Result<String, ErrorCode> {
        let response = head(&outgoing_handler::handle(self.request(&Method::Get, Fields::new()), None)?)?;
        let names: Vec<_> = response.headers().entries().into_iter().map(|(name, _)| name).collect();
        whole(&response);
        Ok(names.join(" "))
    }

    fn post(&self) -> Result<String, ErrorCode> {
        let request = self.request(&Method::Post, Fields::new());
        let body = request.body().expect("a body");
        let future = outgoing_handler::handle(request, None)?;
        write(&body, b"ping");
        OutgoingBody::finish(body, None)?;
        let response = head(&future)?;
        Ok(format!("{} {}", response.status(), whole(&response).0))
    }

    /// As gRPC does: asks for trailers, sends them and reads them.
    fn grpc(&self) -> Result<String, ErrorCode> {
        let fields = Fields::new();
        fields.append("te", b"trailers").expect("a field");
        fields.append("content-type", b"application/grpc").expect("a field");
        let request = self.request(&Method::Post, fields);
        let body = request.body().expect("a body");
        let future = outgoing_handler::handle(request, None)?;
        write(&body, b"\0\0\0\0\x04ping");
        let trailers = Fields::new();
        trailers.append("x-checksum", b"42").expect("a field");
        OutgoingBody::finish(body, Some(trailers))?;
        let response = head(&future)?;
        let (text, trailers) = whole(&response);
        let status = trailers.map(|trailers| trailers.get("grpc-status").concat()).unwrap_or_default();
        Ok(format!("{} {text} grpc-status={}", response.status(), String::from_utf8_lossy(&status)))
    }

    /// Reads one byte of the response and drops the rest.
    fn half(&self) -> Result<String, ErrorCode> {
        let response = head(&outgoing_handler::handle(self.request(&Method::Get, Fields::new()), None)?)?;
        let body = response.consume().expect("a body");
        let stream = body.stream().expect("a stream");
        let byte = stream.blocking_read(1).map(|bytes| bytes.len()).unwrap_or_default();
        Ok(format!("{} {byte}", response.status()))
    }

    /// Ends its request body only after it has read the response.
    fn late(&self) -> Result<String, ErrorCode> {
        let request = self.request(&Method::Post, Fields::new());
        let body = request.body().expect("a body");
        let future = outgoing_handler::handle(request, None)?;
        write(&body, b"pi");
        let response = head(&future)?;
        let (text, _) = whole(&response);
        drop(body);
        Ok(format!("{} {text}", response.status()))
    }
}

fn head(future: &FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    future.subscribe().block();
    future.get().expect("it is ready").expect("it is asked once")
}

fn whole(response: &IncomingResponse) -> (String, Option<Fields>) {
    let body = response.consume().expect("a body");
    let stream = body.stream().expect("a stream");
    let mut bytes = Vec::new();
    while let Ok(piece) = stream.blocking_read(65_536) {
        bytes.extend(piece);
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let trailers = trailers.get().and_then(Result::ok).and_then(Result::ok).flatten();
    (String::from_utf8_lossy(&bytes).into_owned(), trailers)
}

fn write(body: &OutgoingBody, bytes: &[u8]) {
    let stream = body.write().expect("a stream");
    // An origin that does not want the body closes the stream.
    let _unwanted = stream.blocking_write_and_flush(bytes);
}
