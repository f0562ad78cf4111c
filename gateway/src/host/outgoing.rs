//! Puts a [`BodyBuffer`] behind each body that a guest writes, of a response and of a request.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::poll::{Host as HostPoll, HostPollable};
use wasmtime_wasi::p2::{DynOutputStream, DynPollable};
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::p2::bindings::http::types::{
    HostOutgoingBody as _, HostOutgoingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
};

use super::Guest;
use super::body_buffer::{BodyBuffer, Taken, WAITS_FOR_NOTHING_ELSE, Writer};
use super::candidates::http_of;
use super::kept::body_of_answer;

impl Guest {
    /// The room for the body of its response.
    pub(crate) fn room_for_response(&mut self) -> Arc<BodyBuffer> {
        let room = self.answers();
        self.rooms.push((None, Arc::clone(&room)));
        room
    }

    fn answers(&self) -> Arc<BodyBuffer> {
        self.meter.account().answers();
        let response = self.exchange.clone().map(|exchange| (exchange, Arc::clone(&self.record)));
        BodyBuffer::new(self.meter.account(), response)
    }

    /// Bytes of its response that nobody has read, and whether all of them are counted as its former memory.
    pub(crate) fn left(&self) -> (u64, bool) {
        let left = self.rooms.iter().map(|(_, room)| room.left()).sum();
        (left, left == 0 || self.rooms.iter().all(|(_, room)| room.counts_all()))
    }

    fn has_body(&mut self, body: &Resource<OutgoingBody>, room: Arc<BodyBuffer>) {
        // Dropped rooms need no entry.
        self.rooms.retain(|(_, room)| Arc::strong_count(room) > 1);
        self.rooms.push((Some(body.rep()), room));
    }
}

type Made = wasmtime::Result<Result<Resource<OutgoingBody>, ()>>;

/// `outgoing-response.body`.
pub(super) fn response_body(guest: &mut &mut Guest, response: Resource<OutgoingResponse>) -> Made {
    let place = response.rep();
    let made = body_of_answer(guest, response)?;
    if let Ok(body) = &made {
        let room = guest.answers();
        let response = guest.table.of_wasi().get_mut(&Resource::<OutgoingResponse>::new_borrow(place))?;
        response.body = response.body.take().map(|body| taken(body, &room));
        guest.has_body(body, room);
    }
    Ok(made)
}

/// `outgoing-request.body`.
pub(super) fn request_body(guest: &mut &mut Guest, request: Resource<OutgoingRequest>) -> Made {
    let place = request.rep();
    let made = HostOutgoingRequest::body(&mut http_of(guest), request)?;
    if let Ok(body) = &made {
        let room = BodyBuffer::new(guest.meter.account(), None);
        let request = guest.table.of_wasi().get_mut(&Resource::<OutgoingRequest>::new_borrow(place))?;
        request.body = request.body.take().map(|body| taken(body, &room));
        guest.has_body(body, room);
    }
    Ok(made)
}

fn taken(inner: WasiBody, room: &Arc<BodyBuffer>) -> WasiBody {
    Taken { inner, room: Arc::clone(room) }.boxed_unsync()
}

/// `outgoing-body.write`.
pub(super) fn write(
    guest: &mut &mut Guest,
    body: Resource<OutgoingBody>,
) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
    let place = body.rep();
    let made = http_of(guest).write(body)?;
    let room = guest.rooms.iter().rev().find(|(body, _)| *body == Some(place)).map(|(_, room)| Arc::clone(room));
    if let (Ok(stream), Some(room)) = (&made, room) {
        let stream = guest.table.of_wasi().get_mut(stream)?;
        let inner = std::mem::replace(stream, Box::new(wasmtime_wasi::p2::pipe::ClosedOutputStream));
        *stream = Box::new(Writer { inner, room });
    }
    Ok(made)
}

/// `poll`; notes whether the guest waits for only one thing.
pub(super) async fn poll(
    table: &mut &mut ResourceTable,
    pollables: Vec<Resource<DynPollable>>,
) -> wasmtime::Result<Vec<u32>> {
    WAITS_FOR_NOTHING_ELSE.scope(pollables.len() == 1, HostPoll::poll(*table, pollables)).await
}

/// `pollable.ready`, which does not wait.
pub(super) async fn is_ready(
    table: &mut &mut ResourceTable,
    pollable: Resource<DynPollable>,
) -> wasmtime::Result<bool> {
    WAITS_FOR_NOTHING_ELSE.scope(false, HostPollable::ready(*table, pollable)).await
}
