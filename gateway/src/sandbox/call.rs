//! Calls a component's handler, of whichever kind.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{IncomingRequest, ResponseOutparam, Scheme};
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::Service;

use super::cache::Ready;
use super::handler::{Handler, call_candidate};
use super::message::{Cause, Handled};
use super::reply::Source;
use super::responder;
use super::turns::outbox;
use crate::fault::Fault;
use crate::host::{Guest, head_weighs};
use crate::http::RequestBody;
use crate::telemetry::Record;

pub(super) type Head = http::Response<Source>;
pub(super) type Request = http::Request<RequestBody>;

/// What an instance is started for.
#[expect(clippy::large_enum_variant, reason = "most are requests, which a box would cost an allocation each")]
pub(super) enum Work {
    Request(Request, oneshot::Sender<Result<Head, Fault>>),
    Event(Cause, oneshot::Sender<Handled>),
}

/// Calls the handler. Returns what answered, if it may answer again.
pub(super) async fn call(
    store: &mut Store<Guest>,
    component: &Ready,
    work: Work,
    service: Option<Service>,
    (record, started): (&Record, Instant),
) -> wasmtime::Result<Option<Service>> {
    match (work, component.handler(store.data().handler())) {
        (Work::Request(request, head), Some(Handler::Two(pre))) => {
            let proxy = pre.instantiate_async(&mut *store).await?;
            instantiated(record, started).await;
            let (request, out) = of_02(store, request, head)?;
            proxy.wasi_http_incoming_handler().call_handle(store, request, out).await?;
            Ok(None)
        }
        (Work::Request(request, head), Some(Handler::SpinOne(pre))) => {
            responder::call(store, pre, request, head, record, started).await?;
            Ok(None)
        }
        (Work::Request(request, head), Some(Handler::Candidate(pre, handle))) => {
            let instance = pre.instantiate_async(&mut *store).await?;
            instantiated(record, started).await;
            let arguments = of_02(store, request, head)?;
            call_candidate(store, &instance, *handle, arguments).await?;
            Ok(None)
        }
        (Work::Request(request, head), Some(Handler::Three(pre))) => {
            let service = match service {
                Some(service) => service,
                None => {
                    let service = pre.instantiate_async(&mut *store).await?;
                    instantiated(record, started).await;
                    service
                }
            };
            let is_whole = call_03(store, &service, request, head, record).await?;
            Ok(is_whole.then_some(service))
        }
        (Work::Event(cause, said), _) => {
            let handled = event(store, component, cause, (record, started)).await?;
            let _gone = said.send(handled);
            Ok(None)
        }
        (Work::Request(..), None) => no_handler(),
    }
}

async fn event(
    store: &mut Store<Guest>,
    component: &Ready,
    cause: Cause,
    (record, started): (&Record, Instant),
) -> wasmtime::Result<Handled> {
    match (cause, &component.listener, &component.timed) {
        (Cause::Message(message), Some(listener), _) => listener.call(store, message.payload, record, started).await,
        (Cause::Due(at), _, Some(timed)) => {
            let (handled, error) = timed.call(store, at, record, started).await?;
            if let Some(error) = error {
                store.data_mut().print_error(&error);
            }
            Ok(handled)
        }
        (Cause::Message(_), None, _) | (Cause::Due(_), _, None) => no_handler(),
    }
}

/// Cannot happen: the loader rejects such components.
fn no_handler<T>() -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg("it has no such handler"))
}

/// A turn up to here is long after this time: an instance of freshly mapped code faults its pages in one by one.
const INSTANCE_LONG: Duration = Duration::from_micros(300);

/// Notes how long instantiation took. If it was long, the call itself is a new turn.
pub(super) async fn instantiated(record: &Record, started: Instant) {
    let took = started.elapsed();
    record.instantiated(took);
    if took > INSTANCE_LONG {
        tokio::task::yield_now().await;
    }
}

/// The arguments of wasi:http/incoming-handler 0.2. The response arrives by a host call, its body through a channel.
fn of_02(
    store: &mut Store<Guest>,
    request: Request,
    head: oneshot::Sender<Result<Head, Fault>>,
) -> wasmtime::Result<(Resource<IncomingRequest>, Resource<ResponseOutparam>)> {
    let request = request.map(|body| body.map_err(to_wasi));
    let is_plain = request.uri().scheme() == Some(&http::uri::Scheme::HTTP);
    let scheme = if is_plain { Scheme::Http } else { Scheme::Https };
    let bytes = head_weighs(&request);
    let request = store.data_mut().http().new_incoming_request(scheme, request)?;
    store.data_mut().table.charge(request.rep(), bytes)?;
    let own = Arc::clone(&store.data().record);
    let out = store.data_mut().http().new_response_outparam_from_callback(move |answer| {
        own.answered();
        let answer = answer.map(|response| response.map(Source::Channel)).map_err(|_error_code| Fault::NoResponse);
        outbox::post(move || {
            // If the client has left, nobody waits for it.
            let _gone = head.send(answer);
        });
    })?;
    Ok((request, out))
}

/// Calls wasi:http/handler 0.3. The response is returned, and its body is produced only while the instance runs. Returns
/// whether the body was completed.
async fn call_03(
    store: &mut Store<Guest>,
    service: &Service,
    request: Request,
    head: oneshot::Sender<Result<Head, Fault>>,
    record: &Record,
) -> wasmtime::Result<bool> {
    let request = request.map(|body| body.map_err(to_wasi));
    let (request, transferred) = p3::Request::from_http(store.data_mut().http().hooks, request);
    let request = store.data_mut().http().table.push(request)?;
    store.data_mut().table.settle(request.rep())?;
    store
        .run_concurrent(async |accessor| {
            let answer = service.wasi_http_handler().call_handle(accessor, request).await?;
            let response = match answer {
                Ok(response) => response,
                Err(code) => {
                    accessor.with(|mut store| store.get().answered_with(&code));
                    let _gone = head.send(Err(Fault::NoResponse));
                    return Ok(false);
                }
            };
            let (response, room) = accessor.with(|mut store| {
                let place = response.rep();
                let response = store.get().http().table.delete(response)?;
                store.get().table.settle(place)?;
                let room = store.get().room_for_response();
                response.into_http(&mut store, transferred).map(|response| (response, room))
            })?;
            let (parts, mut body) = response.into_parts();
            let (pieces, source) = Source::driven(room);
            let answer = http::Response::from_parts(parts, source);
            record.answered();
            outbox::post(move || {
                let _gone = head.send(Ok(answer));
            });
            while let Some(frame) = body.frame().await {
                // An error of the guest closes the queue without an end.
                let Ok(frame) = frame else { return Ok(false) };
                if pieces.send(frame).await.is_err() {
                    return Ok(false);
                }
            }
            record.finished();
            pieces.end();
            // The guest may continue after its response, under the same limits.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(true)
        })
        .await?
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a body's faults are three of many")]
const fn to_wasi(fault: Fault) -> wasmtime_wasi_http::Error {
    match fault {
        Fault::BodyTooLarge => wasmtime_wasi_http::Error::HttpRequestBodySize(None),
        Fault::BodyTimeout => wasmtime_wasi_http::Error::ConnectionReadTimeout,
        // There are only those two errors and this one.
        _ => wasmtime_wasi_http::Error::ConnectionTerminated,
    }
}
