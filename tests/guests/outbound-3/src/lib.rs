//! Forwards a request to the origin that its path names, `/https/127.0.0.1:8443/any/path`, and streams the answer back,
//! both with their trailers: wasi:http 0.3.

use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::wit_future;

wasip3::http::service::export!(Outbound);

struct Outbound;

impl wasip3::exports::http::handler::Guest for Outbound {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let mut parts = path.splitn(4, '/').skip(1);
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (scheme, authority, rest) = (part(), part(), format!("/{}", part()));
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        let method = request.get_method();
        let fields = Fields::new();
        fields.append("te", b"trailers").expect("a field");
        let (_, read) = wit_future::new(|| Ok(()));
        let (body, trailers) = Request::consume_body(request, read);
        let (onward, _sent) = Request::new(fields, Some(body), trailers, None);
        onward.set_method(&method).expect("a method");
        onward.set_scheme(Some(&scheme)).expect("a scheme");
        onward.set_authority(Some(&authority)).expect("an authority");
        onward.set_path_with_query(Some(&rest)).expect("a path");
        let answer = client::send(onward).await?;
        let status = answer.get_status_code();
        let (_, read) = wit_future::new(|| Ok(()));
        let (body, trailers) = Response::consume_body(answer, read);
        let (response, _) = Response::new(Fields::new(), Some(body), trailers);
        response.set_status_code(status).expect("a status");
        Ok(response)
    }
}
