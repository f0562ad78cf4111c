//! One request and its response, with everything that the gateway holds for them because of the client.
//!
//! A guest may wait for its client: for room in the response's buffer, or for more of the request's body. Meanwhile it
//! holds its tenant's place, an instance and memory. So an exchange marks when its guest waits ([`Exchange::wait_for_client`]), and a
//! request that finds no free place may cut one that waits ([`super::slow`]). A guest that has ended either leaves little
//! behind, or keeps its permits; then the exchange waits until the response is sent.
//!
//! Limit: without permits, at most [`BACKLOG_PER_CONNECTION`] bytes wait for a connection and [`BACKLOG_PER_ADDRESS`] bytes for an
//! address.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::ResponseBody;
use super::idle::Busy;
use super::slow::Slow;
use crate::deadline::Moment;
use crate::fault::Fault;
use crate::telemetry::Record;

/// Bytes that ended guests may leave for the clients of one connection, and of one address.
const BACKLOG_PER_CONNECTION: u64 = 1 << 20;
pub(super) const BACKLOG_PER_ADDRESS: u64 = 16 << 20;

/// What a request holds of its tenant and of the gateway while its guest runs.
pub(crate) trait Permits: Send + Sync {
    /// The tenant's serial number.
    fn serial(&self) -> u64;

    /// Releases the tenant's place before the rest.
    fn evict(&self);

    /// Called when the response is sent while its guest still runs.
    fn response_sent(&self);
}

/// A client's connection, with what may be left for it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) address: SocketAddr,
    pub(super) slow: Arc<Slow>,
    left: AtomicU64,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr, slow: Arc<Slow>) -> Arc<Self> {
        Arc::new(Self { address, slow, left: AtomicU64::new(0) })
    }
}

/// Bytes that wait only for the client. They count for its connection and its address.
#[derive(Debug)]
pub(crate) struct Backlog {
    connection: Arc<Connection>,
    bytes: u64,
}

impl Backlog {
    fn take(connection: &Arc<Connection>, bytes: u64) -> Option<Self> {
        let more = |left: u64| left.checked_add(bytes).filter(|sum| *sum <= BACKLOG_PER_CONNECTION);
        connection.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        if !connection.slow.leave(connection.address.ip(), bytes) {
            connection.left.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Self { connection: Arc::clone(connection), bytes })
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.connection.left.fetch_sub(self.bytes, Ordering::Relaxed);
        self.connection.slow.take_back(self.connection.address.ip(), self.bytes);
    }
}

/// See the top of this file.
pub(crate) struct Exchange {
    /// The client's connection. Nothing if a guest or the gateway itself sent the request.
    pub(super) client: Option<Arc<Connection>>,
    /// Cancels the guest.
    cancelled: CancellationToken,
    record: OnceLock<Weak<Record>>,
    permits: OnceLock<Weak<dyn Permits>>,
    /// Since when the guest has been waiting for its client, as a [`Moment`], or zero; and how long it waited before.
    since: AtomicU64,
    waited: AtomicU64,
    /// Since when the guest has ended and only the permits wait for the client; or zero.
    kept: AtomicU64,
    /// The tenant under which the exchange is listed among the waiting ones, or zero.
    listed: AtomicU64,
    is_client_gone: AtomicBool,
    held: Mutex<Held>,
}

/// The response, while hyper has the other half.
#[derive(Default)]
pub(super) struct Held {
    pub(super) body: Option<ResponseBody>,
    pub(super) busy: Option<Busy>,
    /// Since when hyper has the head or a frame without asking for the next one. HTTP/2 asks when the window has room.
    pub(super) handed: Option<Instant>,
    /// What an ended guest left with the response.
    kept: Option<Box<dyn Send>>,
    has_response: bool,
    is_out: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Marks that the guest waits for its client, until it is dropped.
pub(crate) struct Waiting<'a>(&'a Exchange);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.stop_waiting();
    }
}

impl Exchange {
    pub(crate) fn new(client: Option<Arc<Connection>>) -> Arc<Self> {
        let (since, waited, kept, listed, is_client_gone, held) = Default::default();
        let (cancelled, record, permits) = (CancellationToken::new(), OnceLock::new(), OnceLock::new());
        Arc::new(Self { client, cancelled, record, permits, since, waited, kept, listed, is_client_gone, held })
    }

    /// Cancelled when nobody wants the response any more.
    pub(crate) const fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Sets the record in which the outcome is noted.
    pub(crate) fn set_record(&self, record: &Arc<Record>) {
        let _first = self.record.set(Arc::downgrade(record));
    }

    /// Sets the permits that the exchange holds while its guest runs.
    pub(crate) fn admitted(&self, permits: Weak<dyn Permits>) {
        let _first = self.permits.set(permits);
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks that the guest waits for its client, until the returned value is dropped.
    pub(crate) fn wait_for_client(self: &Arc<Self>) -> Waiting<'_> {
        self.start_waiting();
        Waiting(self)
    }

    /// Marks that the guest waits, until `stop_waiting`.
    pub(super) fn start_waiting(self: &Arc<Self>) {
        let Some(client) = &self.client else { return };
        let now = Moment::now().0.max(1);
        // The guest may wait in both directions at once.
        let _before = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.list_as_slow(client);
    }

    fn list_as_slow(self: &Arc<Self>, client: &Connection) {
        if self.listed.load(Ordering::Relaxed) > 0 {
            return;
        }
        let Some(serial) = self.permits().map(|permits| permits.serial()) else { return };
        if self.listed.swap(serial, Ordering::Relaxed) == 0 {
            client.slow.list(serial, self);
        }
    }

    pub(super) fn stop_waiting(&self) {
        let since = self.since.swap(0, Ordering::Relaxed);
        if since > 0 {
            self.waited.fetch_add(Moment::now().0.saturating_sub(since), Ordering::Relaxed);
        }
    }

    /// How long the guest has waited for its client in all. Nothing if it does not wait at this moment.
    pub(super) fn waited(&self, now: Moment) -> Option<Duration> {
        let (since, kept) = (self.since.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed));
        let since = if since == 0 { kept } else { since };
        let now = now.0.saturating_sub(since);
        (since > 0).then(|| Duration::from_nanos(self.waited.load(Ordering::Relaxed).saturating_add(now)))
    }

    pub(super) fn permits(&self) -> Option<Arc<dyn Permits>> {
        self.permits.get()?.upgrade()
    }

    /// Stores the response, of which hyper gets the other half. Drops it if the exchange was cut meanwhile.
    pub(super) fn holds(&self, body: ResponseBody, busy: Busy) {
        let mut held = self.held();
        if held.is_out {
            drop(held);
            return drop((body, busy));
        }
        held.has_response = true;
        (held.body, held.busy, held.handed) = (Some(body), Some(busy), Some(Instant::now()));
    }

    /// Reserves bytes that may wait for the client without permits. Nothing if its connection or address has too many.
    pub(crate) fn reserve_backlog(&self, bytes: u64) -> Option<Backlog> {
        Backlog::take(self.client.as_ref()?, bytes)
    }

    /// Whether a client sent the request.
    pub(crate) const fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Keeps a value until the response is sent.
    pub(crate) fn keep(&self, kept: Box<dyn Send>) {
        let mut held = self.held();
        if !held.is_out {
            held.kept = Some(kept);
        }
    }

    /// Keeps the permits of an ended guest until the response is sent. Until then the exchange may be cut.
    pub(crate) fn keep_permits(self: &Arc<Self>, permits: Box<dyn Send>) {
        let Some(client) = &self.client else { return };
        self.kept.store(Moment::now().0.max(1), Ordering::Relaxed);
        self.keep(permits);
        self.list_as_slow(client);
    }

    /// The response is sent, or nobody wants it any more: releases everything that was kept for it.
    pub(super) fn finish(&self) {
        let mut held = self.held();
        held.is_out = true;
        let gone = (held.body.take(), held.busy.take(), held.kept.take());
        drop(held);
        self.stop_waiting();
        self.kept.store(0, Ordering::Relaxed);
        drop(gone);
        if let Some(permits) = self.permits() {
            permits.response_sent();
        }
    }

    /// Notes that the client wants no more of the response, so that the guest is not blamed for what follows.
    pub(crate) fn note_client_left(&self) {
        self.is_client_gone.store(true, Ordering::Release);
    }

    /// Whether the client has left.
    pub(crate) fn is_client_gone(&self) -> bool {
        self.is_client_gone.load(Ordering::Acquire)
    }

    /// The client left before the response began.
    pub(super) fn abort_unanswered(&self) {
        self.note_client_left();
        self.note(Fault::ClientGone);
        self.cancelled.cancel();
        self.finish();
    }

    fn note(&self, fault: Fault) {
        if let Some(record) = self.record.get().and_then(Weak::upgrade) {
            record.fault(fault);
        }
    }

    /// Ends the exchange, because its place is needed and its client is slow.
    pub(super) fn evict(&self) {
        self.note_client_left();
        self.note(Fault::ClientSlow);
        if let Some(permits) = self.permits() {
            permits.evict();
        }
        self.cancelled.cancel();
        // If there is no response yet, the cancelled guest leads to one that says so.
        if self.held().has_response {
            self.finish();
        }
    }

    /// Takes the response away if the client has read nothing for this long.
    pub(super) fn abort_if_stalled(&self, limit: Duration) {
        if self.held().handed.is_some_and(|handed| handed.elapsed() >= limit) {
            self.finish();
        }
    }
}

/// An exchange without a response yet. If it is dropped, the client has left.
pub(super) struct Unanswered(Option<Arc<Exchange>>);

impl Unanswered {
    pub(super) fn new(exchange: &Arc<Exchange>) -> Self {
        Self(Some(Arc::clone(exchange)))
    }

    pub(super) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            if std::thread::panicking() {
                exchange.note(Fault::Internal);
            }
            exchange.abort_unanswered();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let serial = *self.listed.get_mut();
        if serial > 0
            && let Some(client) = &self.client
        {
            client.slow.forget(serial, self);
        }
    }
}
