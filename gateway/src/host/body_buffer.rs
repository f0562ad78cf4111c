//! The bytes of a body that a guest has written and nobody has read yet.
//!
//! A guest may keep writing while its client reads nothing, and may end before the client has anything. Each body's first
//! [`OUTGOING_BODY_BYTES`] are part of the price of its handles. Beyond that, waiting pieces count as the instance's
//! memory. If there is no room for more, the guest waits, and its exchange marks that it does.
//!
//! Limit: [`BYTES_MAX`] for one body, and at most a fraction of `limits.memory`. Each piece counts [`PIECE_BYTES`] in
//! addition to its own bytes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::WasiBody;

use super::meter::{Account, Held};
use super::sizes::{CHUNK_BYTES_MAX, OUTGOING_BODY_BYTES};
use crate::http::Exchange;
use crate::telemetry::Record;

/// As much as other wasi:http runtimes accept before anyone reads it.
const BYTES_MAX: u64 = 1 << 20;
/// The fraction of an instance's memory that one body may use.
const MEMORY_SHARE: u64 = 8;
/// The cost of a piece beside its bytes.
const PIECE_BYTES: u64 = 64;
/// The instance's memory is charged in steps of this size.
const STEP_BYTES: u64 = CHUNK_BYTES_MAX as u64;

tokio::task_local! {
    /// Whether a guest that waits for a stream waits for nothing else.
    pub(super) static WAITS_FOR_NOTHING_ELSE: bool;
}

/// The guest waits for something that can never happen: room in a body that it has not returned yet.
#[derive(Debug, thiserror::Error)]
#[error("the component waits for space in the body of a response that it has not returned yet (response-outparam.set)")]
pub(crate) struct Stuck;

/// The room of one body.
#[derive(Debug)]
pub(crate) struct BodyBuffer {
    max: u64,
    account: Arc<Account>,
    /// For a response: its exchange, and the record in which it is noted that the response was returned.
    response: Option<(Arc<Exchange>, Arc<Record>)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    held: Option<Held>,
    writer: Option<Waker>,
    /// Nobody reads any more.
    is_closed: bool,
    is_stuck: bool,
}

const fn weighs(bytes: usize) -> u64 {
    bytes as u64 + PIECE_BYTES
}

impl BodyBuffer {
    pub(super) fn new(account: &Arc<Account>, response: Option<(Arc<Exchange>, Arc<Record>)>) -> Arc<Self> {
        let max = BYTES_MAX.min(account.max() / MEMORY_SHARE).max(OUTGOING_BODY_BYTES);
        Arc::new(Self { max, account: Arc::clone(account), response, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for a piece now.
    fn has_room(&self, state: &mut State) -> bool {
        let with_one = state.bytes + weighs(CHUNK_BYTES_MAX);
        state.bytes < self.max && self.is_counted(state, with_one.saturating_sub(OUTGOING_BODY_BYTES))
    }

    /// Whether this many bytes could be counted as the instance's memory.
    fn is_counted(&self, state: &mut State, bytes: u64) -> bool {
        let counted = state.held.as_ref().map_or(0, Held::bytes);
        if counted >= bytes {
            return true;
        }
        let held = state.held.get_or_insert_with(|| Held::nothing(&self.account));
        held.try_grow(bytes.next_multiple_of(STEP_BYTES) - counted)
    }

    /// Adds a piece. Returns whether there was room.
    fn add(&self, bytes: usize) -> bool {
        let mut state = self.state();
        let fits = self.has_room(&mut state);
        if fits {
            state.bytes += weighs(bytes);
        }
        fits
    }

    /// Adds bytes that are already there, with their charge.
    pub(crate) fn fill(&self, bytes: u64, held: Held) {
        let mut state = self.state();
        (state.bytes, state.held) = (bytes, Some(held));
    }

    /// Removes a piece that was read.
    pub(crate) fn taken(&self, bytes: usize) {
        self.gives_back(weighs(bytes));
    }

    /// Removes bytes that were not a piece.
    pub(crate) fn gives_back(&self, bytes: u64) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
        let needed = state.bytes.saturating_sub(OUTGOING_BODY_BYTES).next_multiple_of(STEP_BYTES);
        if let Some(held) = state.held.as_mut().filter(|held| held.bytes() > needed + STEP_BYTES) {
            held.set(needed);
        }
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }

    /// Closes it: nobody reads any more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let gone = (state.held.take(), state.writer.take());
        drop(state);
        gone.1.into_iter().for_each(Waker::wake);
    }

    /// Bytes that nobody has read.
    pub(super) fn left(&self) -> u64 {
        let state = self.state();
        if state.is_closed { 0 } else { state.bytes }
    }

    /// After the guest has ended, counts everything that is left as its former memory. Returns whether there is room.
    pub(super) fn counts_all(&self) -> bool {
        let mut state = self.state();
        let bytes = state.bytes;
        state.is_closed || self.is_counted(&mut state, bytes)
    }

    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_closed || self.has_room(&mut state) {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for room for a piece.
    async fn has_space(&self) {
        if poll_fn(|cx| Poll::Ready(self.poll_room(cx).is_ready())).await {
            return;
        }
        let _waiting = self.response.as_ref().map(|(exchange, _)| exchange.wait_for_client());
        poll_fn(|cx| self.poll_room(cx)).await;
    }

    /// Waits for room for a piece and takes it. Nothing if nobody wants it any more.
    pub(crate) async fn take(&self, bytes: usize) -> Option<()> {
        loop {
            self.has_space().await;
            if self.state().is_closed {
                return None;
            }
            if self.add(bytes) {
                return Some(());
            }
        }
    }

    /// Whether a guest that waits for room here, and for nothing else, would wait for ever.
    fn is_never_taken(&self) -> bool {
        let is_alone = WAITS_FOR_NOTHING_ELSE.try_with(|is_alone| *is_alone).unwrap_or(true);
        is_alone && self.response.as_ref().is_some_and(|(_, record)| !record.has_answer())
    }
}

/// The guest's half.
pub(super) struct Writer {
    pub(super) inner: DynOutputStream,
    pub(super) room: Arc<BodyBuffer>,
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let length = bytes.len();
        if length == 0 {
            return Ok(());
        }
        if !self.room.add(length) {
            return Err(StreamError::trap("more was written to a body than there was room for"));
        }
        self.inner.write(bytes).inspect_err(|_closed| self.room.taken(length))
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let may = self.inner.check_write()?;
        let mut state = self.room.state();
        if state.is_stuck {
            return Err(StreamError::Trap(Stuck.into()));
        }
        Ok(if self.room.has_room(&mut state) { may } else { 0 })
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        let has_room = || matches!(self.room.poll_room(&Context::from_waker(Waker::noop())), Poll::Ready(()));
        if !has_room() && self.room.is_never_taken() {
            self.room.state().is_stuck = true;
            return;
        }
        self.room.has_space().await;
        // The room keeps the queue from filling up, so this only waits if nobody reads.
        self.inner.ready().await;
    }
}

/// The reader's half.
pub(super) struct Taken {
    pub(super) inner: WasiBody,
    pub(super) room: Arc<BodyBuffer>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl Body for Taken {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.room.taken(data.len());
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
