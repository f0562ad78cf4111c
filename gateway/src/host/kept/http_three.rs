//! wasi:http 0.3: fields, requests and responses. Streams and futures are Wasmtime's own, and counted as such.

use std::future::poll_fn;

use wasmtime::component::{
    Access, Accessor, FutureReader, Linker, LinkerInstance, Resource, ResourceType, StreamReader,
};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi_http::p3::bindings::http::client::HostWithStore;
use wasmtime_wasi_http::p3::bindings::http::types::{
    ErrorCode, Fields, HeaderError, Host, HostFields, HostRequest, HostRequestWithStore, HostResponse,
    HostResponseWithStore, Method, RequestOptions, Scheme,
};
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView, WasiHttpView as _};

use super::{AUTHORITY_BYTES_MAX, METHOD_BYTES_MAX, PATH_BYTES_MAX, SCHEME_BYTES_MAX, given_back, weighed};
use crate::host::Guest;
use crate::host::candidates::{http_of, plain, table};
use crate::host::priced::names::three as names;
use crate::host::priced::{Weight as _, of_fields};
use crate::host::sizes::NAME_BYTES_MAX;
use crate::host::weight::{Bytes as _, Touched};
use crate::tenant::cost;

/// The name in Wasmtime's linker.
const TYPES: &str = "wasi:http/types@0.3.0";
const CLIENT: &str = "wasi:http/client@0.3.0";

type Contents = Option<StreamReader<u8>>;
type Trailers = FutureReader<Result<Option<Resource<Fields>>, ErrorCode>>;
type Transferred = FutureReader<Result<(), ErrorCode>>;

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut to = linker.instance(TYPES)?;
    fields(&mut to)?;
    requests(&mut to)?;
    responses(&mut to)?;
    client(&mut linker.instance(CLIENT)?)
}

fn fields(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    given_back!(to, http_of; "fields" = Fields, HostFields::drop;);
    weighed!(to, http_of;
        "[constructor]fields" = HostFields::new as plain, ();
        "[static]fields.from-list" = names::from_list as told, (entries);
        "[method]fields.set" = names::set as told, (fields, name, values);
        "[method]fields.delete" = names::delete as told, (fields, name);
        "[method]fields.get-and-delete" = get_and_delete as told, (fields, name);
        "[method]fields.append" = names::append as told, (fields, name, value);
        "[method]fields.clone" = HostFields::clone as copied, (fields);
    );
    Ok(())
}

fn told<T>(
    guest: &mut Guest,
    answer: Result<T, wasmtime_wasi::TrappableError<HeaderError>>,
) -> wasmtime::Result<(Result<T, HeaderError>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            guest.charge(cost::REFUSAL);
            Err(Host::convert_header_error(&mut guest.http(), error)?)
        }
    },))
}

fn get_and_delete(
    http: &mut WasiHttpCtxView<'_>,
    fields: Resource<Fields>,
    name: String,
) -> Result<Vec<Vec<u8>>, wasmtime_wasi::TrappableError<HeaderError>> {
    if name.len() > NAME_BYTES_MAX {
        return Err(HeaderError::InvalidSyntax.into());
    }
    HostFields::get_and_delete(http, fields, name)
}

/// A copy retains as much as the original.
fn copied(guest: &mut Guest, answer: wasmtime::Result<Resource<Fields>>) -> wasmtime::Result<(Resource<Fields>,)> {
    let copy = answer?;
    let weight = of_fields(table(guest).get(&copy)?);
    guest.charge(weight);
    Ok((copy,))
}

/// The state for functions with access to the store.
fn access<'a>(store: &'a mut StoreContextMut<'_, Guest>) -> Access<'a, Guest, WasiHttp> {
    Access::<Guest, WasiHttp>::new(store.as_context_mut(), Guest::http)
}

fn requests(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    to.resource("request", ResourceType::host::<Request>(), |mut store, place| {
        <WasiHttp as HostRequestWithStore<Guest>>::drop(access(&mut store), Resource::new_own(place))?;
        store.data_mut().table.settle(place)
    })?;
    type New = (Resource<Fields>, Contents, Trailers, Option<Resource<RequestOptions>>);
    to.func_wrap("[static]request.new", |mut store: StoreContextMut<'_, Guest>, given: New| {
        let (headers, contents, trailers, options) = given;
        let mut touched = Touched::default();
        touched.add(&headers);
        store.data_mut().charge(headers.weight());
        let at = access(&mut store);
        let made = <WasiHttp as HostRequestWithStore<Guest>>::new(at, headers, contents, trailers, options)?;
        touched.add(&made);
        store.data_mut().settle(&touched)?;
        Ok((made,))
    })?;
    type Consume = (Resource<Request>, Transferred);
    to.func_wrap("[static]request.consume-body", |mut store: StoreContextMut<'_, Guest>, (of, told): Consume| {
        let place = of.rep();
        let body = <WasiHttp as HostRequestWithStore<Guest>>::consume_body(access(&mut store), of, told)?;
        store.data_mut().table.settle(place)?;
        Ok((body,))
    })?;
    weighed!(to, http_of;
        "[method]request.set-method" = set_method as plain, (request, method);
        "[method]request.set-path-with-query" = set_path_with_query as plain, (request, path);
        "[method]request.set-scheme" = set_scheme as plain, (request, scheme);
        "[method]request.set-authority" = set_authority as plain, (request, authority);
        "[method]request.get-headers" = HostRequest::get_headers as plain, (request);
    );
    Ok(())
}

fn responses(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    to.resource("response", ResourceType::host::<Response>(), |mut store, place| {
        <WasiHttp as HostResponseWithStore<Guest>>::drop(access(&mut store), Resource::new_own(place))?;
        store.data_mut().table.settle(place)
    })?;
    type New = (Resource<Fields>, Contents, Trailers);
    to.func_wrap("[static]response.new", |mut store: StoreContextMut<'_, Guest>, given: New| {
        let (headers, contents, trailers) = given;
        let mut touched = Touched::default();
        touched.add(&headers);
        store.data_mut().charge(headers.weight());
        let made = <WasiHttp as HostResponseWithStore<Guest>>::new(access(&mut store), headers, contents, trailers)?;
        touched.add(&made);
        store.data_mut().settle(&touched)?;
        Ok((made,))
    })?;
    type Consume = (Resource<Response>, Transferred);
    to.func_wrap("[static]response.consume-body", |mut store: StoreContextMut<'_, Guest>, (of, told): Consume| {
        let place = of.rep();
        let body = <WasiHttp as HostResponseWithStore<Guest>>::consume_body(access(&mut store), of, told)?;
        store.data_mut().table.settle(place)?;
        Ok((body,))
    })?;
    weighed!(to, http_of; "[method]response.get-headers" = HostResponse::get_headers as plain, (response););
    Ok(())
}

/// The request is taken at the first poll. From then on `OutboundHttp` counts what it retains.
fn client(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    to.func_wrap_concurrent("send", |at: &Accessor<Guest>, (request,): (Resource<Request>,)| {
        Box::pin(async move {
            let place = request.rep();
            at.with(|mut access| access.get().charge(cost::REQUEST_LOOKED_AT + request.weight()));
            let of_http = at.with_getter::<WasiHttp>(Guest::http);
            let mut sending = Box::pin(<WasiHttp as HostWithStore<Guest>>::send(&of_http, request));
            let mut was_taken = false;
            let settle = |place| at.with(|mut access| access.get().table.settle(place));
            let answer = poll_fn(|cx| {
                let answer = sending.as_mut().poll(cx);
                if !std::mem::replace(&mut was_taken, true)
                    && let Err(no_room) = settle(place)
                {
                    return std::task::Poll::Ready(Err(no_room));
                }
                answer.map(Ok)
            });
            Ok((match answer.await? {
                Ok(response) => {
                    settle(response.rep())?;
                    Ok(response)
                }
                Err(error) => Err(error.downcast()?),
            },))
        })
    })
}

type Set = wasmtime::Result<Result<(), ()>>;

fn set_method(http: &mut WasiHttpCtxView<'_>, request: Resource<Request>, method: Method) -> Set {
    if method.bytes() > METHOD_BYTES_MAX {
        return Ok(Err(()));
    }
    HostRequest::set_method(http, request, method)
}

fn set_path_with_query(http: &mut WasiHttpCtxView<'_>, request: Resource<Request>, path: Option<String>) -> Set {
    if path.as_ref().is_some_and(|path| path.len() > PATH_BYTES_MAX) {
        return Ok(Err(()));
    }
    HostRequest::set_path_with_query(http, request, path)
}

fn set_scheme(http: &mut WasiHttpCtxView<'_>, request: Resource<Request>, scheme: Option<Scheme>) -> Set {
    if scheme.as_ref().is_some_and(|scheme| scheme.bytes() > SCHEME_BYTES_MAX) {
        return Ok(Err(()));
    }
    HostRequest::set_scheme(http, request, scheme)
}

fn set_authority(http: &mut WasiHttpCtxView<'_>, request: Resource<Request>, authority: Option<String>) -> Set {
    if authority.as_ref().is_some_and(|authority| authority.len() > AUTHORITY_BYTES_MAX) {
        return Ok(Err(()));
    }
    HostRequest::set_authority(http, request, authority)
}
