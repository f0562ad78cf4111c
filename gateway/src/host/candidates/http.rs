//! wasi:http of 2023: what both candidates share, and what only November has.

use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    self, ErrorCode, Fields, FutureIncomingResponse, FutureTrailers, Host, HostFields, HostFutureIncomingResponse,
    HostFutureTrailers, HostIncomingBody, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostRequestOptions, HostResponseOutparam, IncomingBody, IncomingRequest, IncomingResponse,
    OutgoingRequest, RequestOptions, ResponseOutparam,
};
use wasmtime_wasi_http::p2::{HeaderResult, HttpResult};

use super::{Candidate, http_october, http_of, nothing, plain, table};
use crate::host::Guest;
use crate::host::kept::{
    answer_kinds, finish_body, given_back, set_answer, set_authority, set_method, set_path_with_query, set_scheme,
    weighed, whole,
};
use crate::host::outgoing;
use crate::host::priced::{names::two as names, of_fields};
use crate::tenant::cost;

/// The state of an answer: not there yet, or its result, or an error if it was already taken.
type Arrived<T> = Option<Result<Result<T, ErrorCode>, ()>>;

pub(super) fn add(linker: &mut Linker<Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    let mut types = candidate.open(linker, "wasi:http/types")?;
    kinds(&mut types)?;
    incoming(&mut types)?;
    match candidate {
        Candidate::October => http_october::types(&mut types)?,
        Candidate::November => {
            fields(&mut types)?;
            outgoing(&mut types)?;
            answers(&mut types)?;
            weighed!(types, http_of;
                "[method]future-trailers.get" = HostFutureTrailers::get as taken_once, (trailers);
            );
            options(&mut types)?;
        }
    }
    let mut handler = candidate.open(linker, "wasi:http/outgoing-handler")?;
    match candidate {
        Candidate::October => http_october::handler(&mut handler)?,
        Candidate::November => {
            sends(&mut handler)?;
        }
    }
    Ok(())
}

fn kinds(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, http_of;
        "fields" = Fields, HostFields::drop;
        "incoming-request" = IncomingRequest, HostIncomingRequest::drop;
        "incoming-response" = IncomingResponse, HostIncomingResponse::drop;
        "incoming-body" = IncomingBody, HostIncomingBody::drop;
        "outgoing-request" = OutgoingRequest, HostOutgoingRequest::drop;
        "response-outparam" = ResponseOutparam, HostResponseOutparam::drop;
        "future-incoming-response" = FutureIncomingResponse, HostFutureIncomingResponse::drop;
        "future-trailers" = FutureTrailers, HostFutureTrailers::drop;
    );
    answer_kinds(to)
}

/// Incoming requests and responses, and the common functions of fields and bodies.
pub(in crate::host) fn incoming(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    weighed!(to, http_of;
        "[method]fields.get" = names::get as plain, (fields, name);
        "[method]fields.entries" = HostFields::entries as plain, (fields);
        "[method]fields.clone" = HostFields::clone as copied, (fields);
        "[method]incoming-request.method" = HostIncomingRequest::method as plain, (request);
        "[method]incoming-request.path-with-query" = HostIncomingRequest::path_with_query as plain, (request);
        "[method]incoming-request.scheme" = HostIncomingRequest::scheme as plain, (request);
        "[method]incoming-request.authority" = HostIncomingRequest::authority as plain, (request);
        "[method]incoming-request.headers" = HostIncomingRequest::headers as plain, (request);
        "[method]incoming-request.consume" = HostIncomingRequest::consume as plain, (request);
        "[method]incoming-response.status" = HostIncomingResponse::status as plain, (response);
        "[method]incoming-response.headers" = HostIncomingResponse::headers as plain, (response);
        "[method]incoming-response.consume" = HostIncomingResponse::consume as plain, (response);
        "[method]incoming-body.stream" = HostIncomingBody::stream as plain, (body);
        "[static]incoming-body.finish" = HostIncomingBody::finish as plain, (body);
        "[method]future-trailers.subscribe" = HostFutureTrailers::subscribe as plain, (trailers);
        "[method]future-incoming-response.subscribe" = HostFutureIncomingResponse::subscribe as plain, (response);
    );
    weighed!(to, whole;
        "[method]outgoing-body.write" = outgoing::write as plain, (body);
    );
    Ok(())
}

pub(in crate::host) fn fields(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    weighed!(to, http_of;
        "[constructor]fields" = HostFields::new as plain, ();
        "[static]fields.from-list" = names::from_list as header, (entries);
        "[method]fields.set" = names::set as header, (fields, name, values);
        "[method]fields.delete" = names::delete as header, (fields, name);
        "[method]fields.append" = names::append as header, (fields, name, value);
    );
    Ok(())
}

pub(in crate::host) fn outgoing(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    weighed!(to, http_of;
        "[constructor]outgoing-request" = HostOutgoingRequest::new as plain, (headers);
        "[method]outgoing-request.method" = HostOutgoingRequest::method as plain, (request);
        "[method]outgoing-request.set-method" = set_method as plain, (request, method);
        "[method]outgoing-request.path-with-query" = HostOutgoingRequest::path_with_query as plain, (request);
        "[method]outgoing-request.set-path-with-query" =
            set_path_with_query as plain, (request, path);
        "[method]outgoing-request.scheme" = HostOutgoingRequest::scheme as plain, (request);
        "[method]outgoing-request.set-scheme" = set_scheme as plain, (request, scheme);
        "[method]outgoing-request.authority" = HostOutgoingRequest::authority as plain, (request);
        "[method]outgoing-request.set-authority" = set_authority as plain, (request, authority);
        "[method]outgoing-request.headers" = HostOutgoingRequest::headers as plain, (request);
        "[constructor]outgoing-response" = HostOutgoingResponse::new as plain, (headers);
        "[method]outgoing-response.status-code" = HostOutgoingResponse::status_code as plain, (response);
        "[method]outgoing-response.set-status-code" = HostOutgoingResponse::set_status_code as plain, (response, code);
        "[method]outgoing-response.headers" = HostOutgoingResponse::headers as plain, (response);
    );
    weighed!(to, whole;
        "[method]outgoing-request.body" = outgoing::request_body as plain, (request);
        "[method]outgoing-response.body" = outgoing::response_body as plain, (response);
        "[static]outgoing-body.finish" = finish_body as code, (body, trailers);
    );
    Ok(())
}

pub(in crate::host) fn answers(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    weighed!(to, http_of;
        "http-error-code" = Host::http_error_code as plain, (error);
        "[method]future-incoming-response.get" = HostFutureIncomingResponse::get as plain, (response);
    );
    weighed!(to, whole; "[static]response-outparam.set" = set_answer as nothing, (out, response););
    Ok(())
}

/// The names say milliseconds, but the type is `duration`, in nanoseconds. Like Spin, the gateway follows the type.
fn options(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, http_of; "request-options" = RequestOptions, HostRequestOptions::drop;);
    weighed!(to, http_of;
        "[constructor]request-options" = HostRequestOptions::new as plain, ();
        "[method]request-options.connect-timeout-ms" = HostRequestOptions::connect_timeout as plain, (options);
        "[method]request-options.set-connect-timeout-ms" =
            HostRequestOptions::set_connect_timeout as plain, (options, time);
        "[method]request-options.first-byte-timeout-ms" = HostRequestOptions::first_byte_timeout as plain, (options);
        "[method]request-options.set-first-byte-timeout-ms" =
            HostRequestOptions::set_first_byte_timeout as plain, (options, time);
        "[method]request-options.between-bytes-timeout-ms" =
            HostRequestOptions::between_bytes_timeout as plain, (options);
        "[method]request-options.set-between-bytes-timeout-ms" =
            HostRequestOptions::set_between_bytes_timeout as plain, (options, time);
    );
    Ok(())
}

pub(in crate::host) fn sends(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    weighed!(to, http_of; "handle" = outgoing_handler::Host::handle as sent, (request, options););
    Ok(())
}

/// A request costs its parsing and checking even if it is not sent.
fn sent<T>(guest: &mut Guest, answer: HttpResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    guest.charge(cost::REQUEST_LOOKED_AT);
    code(guest, answer)
}

/// A copy retains as much as the original.
fn copied(guest: &mut Guest, answer: wasmtime::Result<Resource<Fields>>) -> wasmtime::Result<(Resource<Fields>,)> {
    let copy = answer?;
    let weight = of_fields(table(guest).get(&copy)?);
    guest.charge(weight);
    Ok((copy,))
}

pub(super) fn header<T>(
    guest: &mut Guest,
    answer: HeaderResult<T>,
) -> wasmtime::Result<(Result<T, types::HeaderError>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            guest.charge(cost::REFUSAL);
            Err(http_of(guest).convert_header_error(error)?)
        }
    },))
}

pub(super) fn code<T>(guest: &mut Guest, answer: HttpResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            guest.charge(cost::REFUSAL);
            Err(http_of(guest).convert_error_code(error)?)
        }
    },))
}

/// In 2023 trailers could be taken once; 0.2 also has an answer for a second attempt.
pub(super) fn taken<T>(arrived: Arrived<T>) -> wasmtime::Result<Option<Result<T, ErrorCode>>> {
    let again = |()| wasmtime::Error::msg("the trailers of a body were taken before");
    arrived.transpose().map_err(again)
}

type Trailers = Option<Resource<Fields>>;

fn taken_once(
    _: &mut Guest,
    answer: wasmtime::Result<Arrived<Trailers>>,
) -> wasmtime::Result<(Option<Result<Trailers, ErrorCode>>,)> {
    Ok((taken(answer?)?,))
}
