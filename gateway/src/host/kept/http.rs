//! wasi:http 0.2: fields, requests, responses and bodies.

use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi_http::WasiHttpCtxView;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    Fields, FutureTrailers, HostFields, HostFutureIncomingResponse, HostFutureTrailers, HostIncomingBody,
    HostIncomingRequest, HostIncomingResponse, HostOutgoingBody, HostOutgoingRequest, HostOutgoingResponse,
    HostResponseOutparam, IncomingBody, IncomingRequest, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, Scheme,
};

use super::{given_back, weighed};
use crate::host::Guest;
use crate::host::candidates::{code, copied, header, http_of, nothing, plain, sent};
use crate::host::priced::names::two as names;
use crate::host::weight::Bytes;

/// Of the texts of a request that leaves, in bytes. A host name has 253, and a port six; the path is as long as a client's
/// may be.
pub(in crate::host) const AUTHORITY_BYTES_MAX: usize = 1 << 10;
pub(in crate::host) const PATH_BYTES_MAX: usize = 8 << 10;
pub(in crate::host) const METHOD_BYTES_MAX: usize = 64;
pub(in crate::host) const SCHEME_BYTES_MAX: usize = 64;

/// As Wasmtime's linker calls them.
const TYPES: &str = "wasi:http/types@0.2.12";
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut to = linker.instance(TYPES)?;
    fields(&mut to)?;
    requests(&mut to)?;
    responses(&mut to)?;
    bodies(&mut to)?;
    let mut to = linker.instance(HANDLER)?;
    weighed!(to, http_of; "handle" = outgoing_handler::Host::handle as sent, (request, options););
    Ok(())
}

fn fields(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, http_of; "fields" = Fields, HostFields::drop;);
    weighed!(to, http_of;
        "[constructor]fields" = HostFields::new as plain, ();
        "[static]fields.from-list" = names::from_list as header, (entries);
        "[method]fields.set" = names::set as header, (fields, name, values);
        "[method]fields.delete" = names::delete as header, (fields, name);
        "[method]fields.append" = names::append as header, (fields, name, value);
        "[method]fields.clone" = HostFields::clone as copied, (fields);
    );
    Ok(())
}

fn requests(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, http_of;
        "incoming-request" = IncomingRequest, HostIncomingRequest::drop;
        "outgoing-request" = OutgoingRequest, HostOutgoingRequest::drop;
    );
    weighed!(to, http_of;
        "[method]incoming-request.headers" = HostIncomingRequest::headers as plain, (request);
        "[method]incoming-request.consume" = HostIncomingRequest::consume as plain, (request);
        "[constructor]outgoing-request" = HostOutgoingRequest::new as plain, (headers);
        "[method]outgoing-request.body" = HostOutgoingRequest::body as plain, (request);
        "[method]outgoing-request.set-method" = set_method as plain, (request, method);
        "[method]outgoing-request.set-path-with-query" = set_path_with_query as plain, (request, path);
        "[method]outgoing-request.set-scheme" = set_scheme as plain, (request, scheme);
        "[method]outgoing-request.set-authority" = set_authority as plain, (request, authority);
        "[method]outgoing-request.headers" = HostOutgoingRequest::headers as plain, (request);
    );
    Ok(())
}

fn responses(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, http_of;
        "incoming-response" = IncomingResponse, HostIncomingResponse::drop;
        "outgoing-response" = OutgoingResponse, HostOutgoingResponse::drop;
    );
    weighed!(to, http_of;
        "[constructor]outgoing-response" = HostOutgoingResponse::new as plain, (headers);
        "[method]outgoing-response.headers" = HostOutgoingResponse::headers as plain, (response);
        "[method]outgoing-response.body" = HostOutgoingResponse::body as plain, (response);
        "[static]response-outparam.set" = HostResponseOutparam::set as nothing, (out, response);
        "[method]future-incoming-response.get" = HostFutureIncomingResponse::get as plain, (response);
        "[method]incoming-response.headers" = HostIncomingResponse::headers as plain, (response);
        "[method]incoming-response.consume" = HostIncomingResponse::consume as plain, (response);
    );
    Ok(())
}

fn bodies(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, http_of;
        "incoming-body" = IncomingBody, HostIncomingBody::drop;
        "outgoing-body" = OutgoingBody, HostOutgoingBody::drop;
        "future-trailers" = FutureTrailers, HostFutureTrailers::drop;
    );
    weighed!(to, http_of;
        "[method]incoming-body.stream" = HostIncomingBody::stream as plain, (body);
        "[static]incoming-body.finish" = HostIncomingBody::finish as plain, (body);
        "[method]outgoing-body.write" = HostOutgoingBody::write as plain, (body);
        "[static]outgoing-body.finish" = HostOutgoingBody::finish as code, (body, trailers);
        "[method]future-trailers.get" = HostFutureTrailers::get as plain, (trailers);
    );
    Ok(())
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
