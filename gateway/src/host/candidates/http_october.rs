//! What only wasi:http of October 2023 has: requests and responses that are created complete, fields that cannot be
//! refused, and an error with four kinds.
//!
//! If 0.2 refuses a call that has no error here, the component is ended, as in Spin.

use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, HostFields, HostFutureIncomingResponse, HostFutureTrailers,
    HostOutgoingRequest, HostOutgoingResponse, IncomingResponse, Method, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasmtime_wasi_http::p2::{HeaderError, HeaderResult, HttpResult};
use wasmtime_wasi_http::{RequestOptions, WasiHttpCtxView};

use super::http::taken;
use super::{http_of, plain, table};
use crate::host::Guest;
use crate::host::kept::{
    finish_body, set_answer, set_authority, set_method, set_path_with_query, set_scheme, weighed, whole,
};
use crate::host::outgoing;
use crate::host::priced::{Weight as _, names::two as names};
use crate::host::weight::Touched;
use crate::tenant::cost;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "invalid-url")]
    Url(String),
    #[component(name = "timeout-error")]
    Timeout(String),
    #[component(name = "protocol-error")]
    Protocol(String),
    #[component(name = "unexpected-error")]
    Unexpected(String),
}

impl Error {
    fn weight(&self) -> u64 {
        let (Self::Url(text) | Self::Timeout(text) | Self::Protocol(text) | Self::Unexpected(text)) = self;
        text.weight()
    }
}

impl From<ErrorCode> for Error {
    /// All of 0.2's error codes map to one kind, as in Spin 4.
    fn from(code: ErrorCode) -> Self {
        Self::Unexpected(code.to_string())
    }
}

impl From<Error> for ErrorCode {
    fn from(error: Error) -> Self {
        let text = match error {
            Error::Url(text) => format!("invalid URL: {text}"),
            Error::Timeout(text) => format!("timeout: {text}"),
            Error::Protocol(text) => format!("protocol error: {text}"),
            Error::Unexpected(text) => text,
        };
        Self::InternalError(Some(text))
    }
}

/// Times in milliseconds.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Options {
    #[component(name = "connect-timeout-ms")]
    connect: Option<u32>,
    #[component(name = "first-byte-timeout-ms")]
    first_byte: Option<u32>,
    #[component(name = "between-bytes-timeout-ms")]
    between_bytes: Option<u32>,
}

pub(super) fn types(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    weighed!(to, http_of;
        "[constructor]fields" = names::from_list as made, (entries);
        "[method]fields.set" = names::set as done, (fields, name, values);
        "[method]fields.delete" = names::delete as done, (fields, name);
        "[method]fields.append" = names::append as done, (fields, name, value);
        "[constructor]outgoing-response" = response as plain, (status, headers);
    );
    weighed!(to, whole;
        "[method]outgoing-response.write" = outgoing::response_body as plain, (response);
        "[method]outgoing-request.write" = outgoing::request_body as plain, (request);
        "[static]outgoing-body.finish" = finish_body as finished, (body, trailers);
    );
    type Parts = (Method, Option<String>, Option<Scheme>, Option<String>, Resource<Fields>);
    to.func_wrap("[constructor]outgoing-request", |mut store: StoreContextMut<'_, Guest>, parts: Parts| {
        let weight = parts.0.weight() + parts.1.weight() + parts.2.weight() + parts.3.weight();
        store.data_mut().charge(weight + cost::REFUSAL);
        let (method, path, scheme, authority, headers) = parts;
        let guest = store.data_mut();
        let made = request(&mut http_of(guest), (method, path, scheme, authority), &headers)?;
        guest.table.settle(made.rep())?;
        Ok((made,))
    })?;
    type Answer = (Resource<ResponseOutparam>, Result<Resource<OutgoingResponse>, Error>);
    to.func_wrap("[static]response-outparam.set", |mut store: StoreContextMut<'_, Guest>, (out, answer): Answer| {
        store.data_mut().charge(answer.as_ref().err().map_or(0, Error::weight));
        let mut touched = Touched::default();
        touched.add(&answer);
        set_answer(&mut store.data_mut(), out, answer.map_err(ErrorCode::from))?;
        store.data_mut().settle(&touched)
    })?;
    arrivals(to)
}

fn arrivals(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Response = Resource<FutureIncomingResponse>;
    to.func_wrap(
        "[method]future-incoming-response.get",
        |mut store: StoreContextMut<'_, Guest>, (response,): (Response,)| {
            let arrived = HostFutureIncomingResponse::get(&mut http_of(store.data_mut()), response)?;
            let mut touched = Touched::default();
            touched.add(&arrived);
            store.data_mut().settle(&touched)?;
            let in_october = |arrived: Result<Resource<IncomingResponse>, ErrorCode>| arrived.map_err(Error::from);
            Ok((arrived.map(|arrived| arrived.map(in_october)),))
        },
    )?;
    to.func_wrap("[method]future-trailers.get", |mut store: StoreContextMut<'_, Guest>, (trailers,)| {
        let mut touched = Touched::default();
        touched.add(&trailers);
        let http = &mut http_of(store.data_mut());
        let Some(arrived) = taken(HostFutureTrailers::get(http, trailers)?)? else { return Ok((None,)) };
        // Without trailers, October returns empty ones.
        let fields = match arrived {
            Ok(Some(fields)) => Ok(fields),
            Ok(None) => Ok(HostFields::new(http)?),
            Err(code) => Err(Error::from(code)),
        };
        touched.add(&fields);
        store.data_mut().settle(&touched)?;
        Ok((Some(fields),))
    })
}

pub(super) fn handler(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Asked = (Resource<OutgoingRequest>, Option<Options>);
    to.func_wrap("handle", |mut store: StoreContextMut<'_, Guest>, (request, options): Asked| {
        let guest = store.data_mut();
        let options = options.map(|options| table(guest).push(times(&options))).transpose()?;
        // 0.2 leaves the options in the table, and here the guest keeps no handle to them.
        let given = options.as_ref().map(|options| Resource::new_own(options.rep()));
        guest.charge(cost::REQUEST_LOOKED_AT);
        let place = request.rep();
        let asked = outgoing_handler::Host::handle(&mut http_of(guest), request, given);
        guest.table.settle(place)?;
        if let Some(options) = options {
            table(guest).delete(options)?;
        }
        Ok((match asked {
            Ok(response) => Ok(response),
            Err(error) => Err(Error::from(error.downcast()?)),
        },))
    })
}

fn times(options: &Options) -> RequestOptions {
    let time = |milliseconds: Option<u32>| milliseconds.map(|time| Duration::from_millis(time.into()));
    RequestOptions {
        connect_timeout: time(options.connect),
        first_byte_timeout: time(options.first_byte),
        between_bytes_timeout: time(options.between_bytes),
    }
}

fn refused(what: &str) -> impl Fn(()) -> wasmtime::Error {
    move |()| wasmtime::Error::msg(format!("wasi:http of 2023-10-18: {what} that no request or response may have"))
}

fn request(
    http: &mut WasiHttpCtxView<'_>,
    (method, path, scheme, authority): (Method, Option<String>, Option<Scheme>, Option<String>),
    headers: &Resource<Fields>,
) -> wasmtime::Result<Resource<OutgoingRequest>> {
    let headers = HostFields::clone(http, Resource::new_borrow(headers.rep()))?;
    let request = HostOutgoingRequest::new(http, headers)?;
    let this = || Resource::new_borrow(request.rep());
    // A request to the component's own application has no authority; 0.2 requires one, and accepts this one for the same
    // meaning.
    let authority = authority.unwrap_or_else(|| match &scheme {
        Some(Scheme::Http | Scheme::Other(_)) => ":80".to_owned(),
        Some(Scheme::Https) | None => ":443".to_owned(),
    });
    set_method(http, this(), method)?.map_err(refused("a method"))?;
    set_path_with_query(http, this(), path)?.map_err(refused("a path"))?;
    set_scheme(http, this(), scheme)?.map_err(refused("a scheme"))?;
    set_authority(http, this(), Some(authority))?.map_err(refused("an authority"))?;
    Ok(request)
}

fn response(
    http: &mut WasiHttpCtxView<'_>,
    status: u16,
    headers: Resource<Fields>,
) -> wasmtime::Result<Resource<OutgoingResponse>> {
    let headers = HostFields::clone(http, headers)?;
    let response = HostOutgoingResponse::new(http, headers)?;
    let set = HostOutgoingResponse::set_status_code(http, Resource::new_borrow(response.rep()), status)?;
    set.map_err(refused("a status"))?;
    Ok(response)
}

fn made<T>(_: &mut Guest, answer: HeaderResult<T>) -> wasmtime::Result<(T,)> {
    Ok((answer.map_err(refused_header)?,))
}

fn done(_: &mut Guest, answer: HeaderResult<()>) -> wasmtime::Result<()> {
    answer.map_err(refused_header)
}

fn refused_header(error: HeaderError) -> wasmtime::Error {
    match error.downcast() {
        Ok(error) => wasmtime::Error::msg(format!("wasi:http of 2023-10-18: a header that may not be set: {error}")),
        Err(trap) => trap,
    }
}

fn finished(_: &mut Guest, answer: HttpResult<()>) -> wasmtime::Result<()> {
    Ok(answer?)
}
