//! Spin 1's HTTP handlers: `fermyon:spin/inbound-http`, a function from a complete request to a complete response.
//!
//! Limit: both messages count as the instance's memory while the host holds them; the response's body counts until it is
//! sent.

use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use wasmtime::Store;

use super::call::{Head, Request, instantiated};
use super::reply::Source;
use super::turns::outbox;
use crate::fault::Fault;
use crate::host::inbound::responder::exports::fermyon::spin::inbound_http as wit;
use crate::host::inbound::responder::fermyon::spin::http_types as types;
use crate::host::inbound::{one_headers, one_texts, responder, texts_weigh};
use crate::host::{Guest, Held};
use crate::telemetry::Record;

/// Answers one request. The response is complete before its head is sent, and needs no instance any more.
pub(super) async fn call(
    store: &mut Store<Guest>,
    pre: &responder::ResponderPre<Guest>,
    request: Request,
    head: oneshot::Sender<Result<Head, Fault>>,
    record: &Record,
    started: Instant,
) -> wasmtime::Result<()> {
    let Some(method) = method(request.method()) else {
        let room = store.data_mut().room_for_response();
        let mut answer = http::Response::new(Source::Whole(Bytes::new(), room));
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        record.answered();
        record.finished();
        post(head, Ok(answer));
        return Ok(());
    };
    let is_head = *request.method() == Method::HEAD;
    let responder = pre.instantiate_async(&mut *store).await?;
    instantiated(record, started).await;
    let (parts, body) = request.into_parts();
    // The body's verdict reports its error to whoever waits for the head.
    let Some((body, mut held)) = whole(store, body).await? else { return Ok(()) };
    let given = types::Request {
        method,
        uri: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        headers: one_texts(&parts.headers),
        params: Vec::new(),
        body: Some(body),
    };
    if !held.grow(given.uri.len() as u64 + texts_weigh(&given.headers)) {
        return Err(wasmtime::Error::msg("the memory of this request has no room for its head"));
    }
    let answered = responder.fermyon_spin_inbound_http().call_handle_request(&mut *store, &given).await?;
    drop((given, held));
    send(store, answered, (head, is_head), record).await
}

/// Reads the request's body, which counts as the instance's memory. Nothing if it broke its limits.
async fn whole(
    store: &mut Store<Guest>,
    mut body: crate::http::RequestBody,
) -> wasmtime::Result<Option<(Vec<u8>, Held)>> {
    let no_room = || wasmtime::Error::msg("the memory of this request has no room for its body");
    let (mut bytes, mut held) = (Vec::new(), store.data().meter.hold(0).ok_or_else(no_room)?);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(None) };
        let Some(data) = frame.data_ref() else { continue };
        if !held.grow(data.len() as u64) {
            return Err(no_room());
        }
        bytes.extend_from_slice(data);
    }
    Ok(Some((bytes, held)))
}

async fn send(
    store: &mut Store<Guest>,
    answered: wit::Response,
    (head, is_head): (oneshot::Sender<Result<Head, Fault>>, bool),
    record: &Record,
) -> wasmtime::Result<()> {
    let body = Bytes::from(answered.body.unwrap_or_default());
    store.data_mut().handed_over(answered.headers.as_ref(), body.len());
    let texts = answered.headers.as_ref().map_or(0, |headers| texts_weigh(headers));
    let Some(held) = store.data().meter.hold(body.len() as u64 + texts) else {
        return Err(wasmtime::Error::msg("the memory of this request has no room for its response"));
    };
    let status = StatusCode::from_u16(answered.status).ok().filter(|status| (200..600).contains(&status.as_u16()));
    let (Some(status), Some(headers)) = (status, one_headers(answered.headers.unwrap_or_default())) else {
        post(head, Err(Fault::BadResponse));
        return Ok(());
    };
    let room = store.data_mut().room_for_response();
    room.fill(body.len() as u64, held);
    let length = body.len();
    let mut answer = http::Response::new(Source::Whole(body, room));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    if !is_head && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        answer.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    record.answered();
    record.finished();
    post(head, Ok(answer));
    Ok(())
}

fn post(head: oneshot::Sender<Result<Head, Fault>>, answer: Result<Head, Fault>) {
    outbox::post(move || {
        // If the client has left, nobody waits for it.
        let _gone = head.send(answer);
    });
}

fn method(method: &Method) -> Option<types::Method> {
    Some(match *method {
        Method::GET => types::Method::Get,
        Method::POST => types::Method::Post,
        Method::PUT => types::Method::Put,
        Method::DELETE => types::Method::Delete,
        Method::PATCH => types::Method::Patch,
        Method::HEAD => types::Method::Head,
        Method::OPTIONS => types::Method::Options,
        _ => return None,
    })
}
