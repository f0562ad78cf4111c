//! The target of a request, in the one form that guests see.

use http::uri::Scheme;
use http::{Request, Uri};

use crate::domain::Domain;
use crate::fault::Fault;
use crate::http::default_port;

/// Makes the target absolute, with the host that was routed by. The guest sees one form, however the client wrote it.
pub(super) fn make_absolute<B>(
    mut request: Request<B>,
    scheme: &Scheme,
    host: &Domain,
    port: Option<u16>,
) -> Result<Request<B>, Fault> {
    let port = port.filter(|port| *port != default_port(Some(scheme)));
    let authority = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path).build();
    *request.uri_mut() = uri.map_err(|_not_a_uri| Fault::BadRequest)?;
    Ok(request)
}
