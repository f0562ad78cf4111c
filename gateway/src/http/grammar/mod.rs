//! One grammar for requests of HTTP/1.1, 2 and 3: here a request of any version is made ours, before anything counts, routes,
//! caches or forwards it.
//!
//! The readers of each version ([`super::front`], [`super::frames`], [`super::quic`]) see to what only they can see: where a
//! message ends, and in which order its fields came. What a request means is decided here, so it cannot differ between
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

/// What a request is for, once it is ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) host: Domain,
    /// Nothing where the scheme says it already.
    pub(crate) port: Option<u16>,
}

/// Gives a request its one spelling, and says whom it is for.
///
/// # Errors
/// [`Fault::Framing`] and [`Fault::BadRequest`] for what is not well formed or could be read in two ways,
/// [`Fault::HeadTooLarge`] for more than `fields_max` fields, and whatever the version's own reader found.
pub(crate) fn ours<B>(request: &mut Request<B>, fields_max: usize) -> Result<Ours, Fault> {
    if let Some(Malformed(fault)) = request.extensions().get() {
        return Err(*fault);
    }
    // A client of HTTP/2 and 3 may send each cookie in a field of its own: they count as the one that they are.
    fields::join_cookies(request.headers_mut());
    if request.headers().len() > fields_max {
        return Err(Fault::HeadTooLarge);
    }
    spell(request)?;
    authority::of(request)
}

/// Whom a request is for, as it came: nobody, where HTTP/1.0 says nothing of that, as it may.
///
/// # Errors
/// As of [`ours`].
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

/// Gives the target its one spelling.
///
/// # Errors
/// [`Fault::Framing`] for a path that could be read in two ways.
pub(crate) fn spell<B>(request: &mut Request<B>) -> Result<(), Fault> {
    let uri = request.uri();
    let Some(target) = uri.path_and_query() else { return Ok(()) };
    if target.as_str() == "*" {
        // Of the server as a whole (RFC 9110 §7.1).
        let is_options = request.method() == http::Method::OPTIONS;
        return if is_options { Ok(()) } else { Err(Fault::Framing("only OPTIONS has the target *")) };
    }
    let Some(spelled) = target::spelled(target)? else { return Ok(()) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(spelled.parse().map_err(|_no_path| Fault::BadRequest)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_no_uri| Fault::BadRequest)?;
    Ok(())
}

/// Takes off each field whose name has an underscore, which CGI and its heirs take for a hyphen: a client could so say what
/// only the gateway says. How many there were.
pub(crate) fn drop_underscores(headers: &mut HeaderMap) -> u64 {
    fields::drop_underscores(headers)
}
