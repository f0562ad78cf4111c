//! Plain HTTP: redirects every request to https with 308 (RFC 9110 §15.4.9), which keeps the method and the body.

use http::{HeaderValue, Request, Response, StatusCode, header};

use super::{HostPort, ResponseBody, empty, normalise};
use crate::domain::Domain;
use crate::fault::Fault;

/// The redirect to the same host and path on the https port, only for hosts that a tenant has. Browsers cache it
/// permanently; so no client is sent to a host that does not answer, or by a forged `Host` to another server.
///
/// # Errors
/// [`Fault::BadRequest`] if the request names no host, [`Fault::NoRoute`] if no tenant has it.
pub(crate) fn to_https<B>(
    request: &mut Request<B>,
    https_port: u16,
    fields_max: usize,
    is_somebodys: impl FnOnce(&Domain) -> bool,
) -> Result<Response<ResponseBody>, Fault> {
    let HostPort { host, .. } = normalise(request, fields_max)?;
    if !is_somebodys(&host) {
        return Err(Fault::NoRoute);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let port = if https_port == 443 { String::new() } else { format!(":{https_port}") };
    let location = HeaderValue::try_from(format!("https://{host}{port}{path}"));
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location.map_err(|_bad_byte| Fault::BadRequest)?);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_host_path_and_query() {
        let is_ours = |host: &Domain| host.as_str() == "hello.localhost";
        let to = |port| {
            let mut request = Request::get("/a?b=c").header("host", "Hello.localhost:8080").body(()).unwrap();
            to_https(&mut request, port, 1, is_ours).unwrap().headers()["location"].to_str().unwrap().to_owned()
        };
        assert_eq!(to(443), "https://hello.localhost/a?b=c");
        assert_eq!(to(8443), "https://hello.localhost:8443/a?b=c");
        let mut strange = Request::get("/").header("host", "elsewhere.example").body(()).unwrap();
        assert_eq!(to_https(&mut strange, 443, 1, is_ours).map(|_redirect| ()), Err(Fault::NoRoute));
    }
}
