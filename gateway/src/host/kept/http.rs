//! wasi:http 0.2: fields, requests, responses and bodies.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpCtxView;
use wasmtime_wasi_http::p2::bindings::http::types::{
    Fields, FutureTrailers, HostFields, HostFutureTrailers, HostIncomingBody, HostIncomingRequest,
    HostIncomingResponse, HostOutgoingRequest, IncomingBody, IncomingRequest, IncomingResponse, Method,
    OutgoingRequest, Scheme,
};

use super::{answer_kinds, given_back};
use crate::host::Guest;
use crate::host::candidates::http_of;
use crate::host::weight::Bytes;

/// The longest texts of an outbound request, in bytes. A host name has at most 253, and a port six. The path may be as long
/// as a client's.
pub(in crate::host) const AUTHORITY_BYTES_MAX: usize = 1 << 10;
pub(in crate::host) const PATH_BYTES_MAX: usize = 8 << 10;
pub(in crate::host) const METHOD_BYTES_MAX: usize = 64;
pub(in crate::host) const SCHEME_BYTES_MAX: usize = 64;

/// The name in Wasmtime's linker.
const TYPES: &str = "wasi:http/types@0.2.12";

/// How resources are dropped. The functions that create and change them are in the tables of the candidates
/// (`priced/two.rs`).
pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut to = linker.instance(TYPES)?;
    given_back!(to, http_of;
        "fields" = Fields, HostFields::drop;
        "incoming-request" = IncomingRequest, HostIncomingRequest::drop;
        "outgoing-request" = OutgoingRequest, HostOutgoingRequest::drop;
        "incoming-response" = IncomingResponse, HostIncomingResponse::drop;
        "incoming-body" = IncomingBody, HostIncomingBody::drop;
        "future-trailers" = FutureTrailers, HostFutureTrailers::drop;
    );
    answer_kinds(&mut to)
}

type Request = Resource<OutgoingRequest>;
type Set = wasmtime::Result<Result<(), ()>>;

fn is_over(text: Option<&impl Bytes>, max: usize) -> bool {
    text.is_some_and(|text| text.bytes() > max)
}

pub(in crate::host) fn set_method(http: &mut WasiHttpCtxView<'_>, request: Request, method: Method) -> Set {
    if is_over(Some(&method), METHOD_BYTES_MAX) {
        return Ok(Err(()));
    }
    HostOutgoingRequest::set_method(http, request, method)
}

pub(in crate::host) fn set_path_with_query(
    http: &mut WasiHttpCtxView<'_>,
    request: Request,
    path: Option<String>,
) -> Set {
    if is_over(path.as_ref(), PATH_BYTES_MAX) {
        return Ok(Err(()));
    }
    HostOutgoingRequest::set_path_with_query(http, request, path)
}

pub(in crate::host) fn set_scheme(http: &mut WasiHttpCtxView<'_>, request: Request, scheme: Option<Scheme>) -> Set {
    if is_over(scheme.as_ref(), SCHEME_BYTES_MAX) {
        return Ok(Err(()));
    }
    HostOutgoingRequest::set_scheme(http, request, scheme)
}

pub(in crate::host) fn set_authority(
    http: &mut WasiHttpCtxView<'_>,
    request: Request,
    authority: Option<String>,
) -> Set {
    if is_over(authority.as_ref(), AUTHORITY_BYTES_MAX) {
        return Ok(Err(()));
    }
    HostOutgoingRequest::set_authority(http, request, authority)
}
