//! What a component of wasi:http 0.2 hands over as its answer: notes which response and which body that is.

use wasmtime::component::{LinkerInstance, Resource};
use wasmtime_wasi_http::p2::HttpResult;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, Fields, HostOutgoingBody, HostOutgoingResponse, HostResponseOutparam, OutgoingBody, OutgoingResponse,
    ResponseOutparam,
};

use super::given_back;
use crate::host::Guest;
use crate::host::candidates::http_of;

/// The state for the macros that define functions.
pub(in crate::host) const fn whole(guest: &mut Guest) -> &mut Guest {
    guest
}

/// How responses and bodies are dropped.
pub(in crate::host) fn kinds(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, whole;
        "outgoing-response" = OutgoingResponse, drop_response;
        "outgoing-body" = OutgoingBody, drop_body;
    );
    Ok(())
}

pub(in crate::host) fn body(
    guest: &mut &mut Guest,
    response: Resource<OutgoingResponse>,
) -> wasmtime::Result<Result<Resource<OutgoingBody>, ()>> {
    let place = response.rep();
    let made = HostOutgoingResponse::body(&mut http_of(guest), response)?;
    if let Ok(body) = &made {
        guest.answers.made(place, body.rep());
    }
    Ok(made)
}

pub(in crate::host) fn finish(
    guest: &mut &mut Guest,
    body: Resource<OutgoingBody>,
    trailers: Option<Resource<Fields>>,
) -> HttpResult<()> {
    // If its length is wrong, the body breaks off, and its reader sees that.
    guest.answers.gone(body.rep());
    HostOutgoingBody::finish(&mut http_of(guest), body, trailers)
}

pub(in crate::host) fn set(
    guest: &mut &mut Guest,
    out: Resource<ResponseOutparam>,
    answer: Result<Resource<OutgoingResponse>, ErrorCode>,
) -> wasmtime::Result<()> {
    match &answer {
        Ok(response) => guest.answers.handed_over(response.rep()),
        Err(code) => guest.answered_with(code),
    }
    HostResponseOutparam::set(&mut http_of(guest), out, answer)
}

fn drop_response(guest: &mut &mut Guest, response: Resource<OutgoingResponse>) -> wasmtime::Result<()> {
    guest.answers.gone(response.rep());
    HostOutgoingResponse::drop(&mut http_of(guest), response)
}

fn drop_body(guest: &mut &mut Guest, body: Resource<OutgoingBody>) -> wasmtime::Result<()> {
    guest.answers.gone(body.rep());
    HostOutgoingBody::drop(&mut http_of(guest), body)
}
