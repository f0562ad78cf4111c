//! One grammar for HTTP/1.1, 2 and 3. It normalises requests of all versions before the gateway counts, routes, caches or
//! forwards them.
//!
//! The reader of each version ([`super::front`], [`super::frames`], [`super::quic`]) checks what only it can see: the end
//! of a message, and the order of its fields. The meaning of a request is decided here, so that it cannot differ between
//! versions. `tests/suites/grammar.rs` sends each case over all three.

mod authority;
mod fields;
mod target;

use http::header::{HOST, HeaderMap};
use http::{Request, Uri, Version};

use super::front::Malformed;
use crate::domain::Domain;
use crate::fault::Fault;

pub(super) use authority::agree;
pub(crate) use authority::default_port;
pub(super) use fields::{is_token, is_value};
pub(crate) use target::one_spelling;
pub(super) use target::{Form, form, percent_encoded};

/// What a normalised request is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: Domain,
    /// Nothing if it is the scheme's default port.
    pub(crate) port: Option<u16>,
}

/// Normalises a request, and returns which host it is for.
///
/// # Errors
/// [`Fault::Framing`] and [`Fault::BadRequest`] for requests that are malformed or ambiguous, [`Fault::HeadTooLarge`] for
/// more than `fields_max` fields, and any fault that the version's own reader found.
pub(crate) fn normalise<B>(request: &mut Request<B>, fields_max: usize) -> Result<HostPort, Fault> {
    if let Some(Malformed(fault)) = request.extensions().get() {
        return Err(*fault);
    }
    // A client of HTTP/2 or 3 may send each cookie in its own field. Together they count as one field.
    fields::join_cookies(request.headers_mut());
    if request.headers().len() > fields_max {
        return Err(Fault::HeadTooLarge);
    }
    spell(request)?;
    authority::of(request)
}

/// The host that an unchanged request is for. Nothing for HTTP/1.0 without `Host`, which it may omit.
///
/// # Errors
/// As for [`normalise`].
pub(crate) fn whom<B>(request: &Request<B>) -> Result<Option<Domain>, Fault> {
    if let Some(Malformed(fault)) = request.extensions().get() {
        return Err(*fault);
    }
    let is_silent = !request.headers().contains_key(HOST) && request.uri().authority().is_none();
    if is_silent && request.version() == Version::HTTP_10 {
        return Ok(None);
    }
    Ok(Some(authority::of(request)?.host))
}

/// Normalises the target.
///
/// # Errors
/// [`Fault::Framing`] for an ambiguous path.
pub(crate) fn spell<B>(request: &mut Request<B>) -> Result<(), Fault> {
    let uri = request.uri();
    let Some(target) = uri.path_and_query() else { return Ok(()) };
    if target.as_str() == "*" {
        // The request is for the server as a whole (RFC 9110 §7.1).
        let is_options = request.method() == http::Method::OPTIONS;
        return if is_options { Ok(()) } else { Err(Fault::Framing("only OPTIONS has the target *")) };
    }
    let Some(spelled) = target::spelled(target)? else { return Ok(()) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(spelled.parse().map_err(|_no_path| Fault::BadRequest)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_no_uri| Fault::BadRequest)?;
    Ok(())
}

/// Removes each field whose name has an underscore. CGI and its successors take an underscore for a hyphen, so that a
/// client could set a field that only the gateway may set. Returns the number of fields removed.
pub(crate) fn drop_underscores(headers: &mut HeaderMap) -> u64 {
    fields::drop_underscores(headers)
}
