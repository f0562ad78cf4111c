//! One request and its response, as far as a client makes us hold something for it.
//!
//! A guest that waits for its client, for room in the response's buffer or for more of the request's body, holds its tenant's
//! place, an instance and memory all the while. So each exchange says while it waits so ([`Exchange::waits`]), and whoever finds no
//! place may have one cut that waits ([`super::slow`]). What a guest that has ended leaves behind is small, or keeps the permits:
//! then the exchange waits until it is out.
//!
//! Limit: [`LEFT_OF_CONNECTION`] bytes a connection and [`LEFT_OF_ADDRESS`] bytes an address without permits.

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

/// Bytes that guests which have ended left for the clients of one connection, and of one address.
const LEFT_OF_CONNECTION: u64 = 1 << 20;
pub(super) const LEFT_OF_ADDRESS: u64 = 16 << 20;

/// What a request has of its tenant and of the gateway while its guest runs.
pub(crate) trait Permits: Send + Sync {
    /// Whose they are.
    fn serial(&self) -> u64;

    /// Gives the tenant's place back before the rest.
    fn give_way(&self);

    /// The response is out, and its guest still works.
    fn response_is_out(&self);
}

/// A client's connection, as far as what is left for it is bounded.
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

/// Bytes that wait for a client and for nobody else, among those of its connection and address.
#[derive(Debug)]
pub(crate) struct Left {
    connection: Arc<Connection>,
    bytes: u64,
}

impl Left {
    fn take(connection: &Arc<Connection>, bytes: u64) -> Option<Self> {
        let more = |left: u64| left.checked_add(bytes).filter(|sum| *sum <= LEFT_OF_CONNECTION);
        connection.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        if !connection.slow.leave(connection.address.ip(), bytes) {
            connection.left.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Self { connection: Arc::clone(connection), bytes })
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.connection.left.fetch_sub(self.bytes, Ordering::Relaxed);
        self.connection.slow.take_back(self.connection.address.ip(), self.bytes);
    }
}

/// See the top of this file.
pub(crate) struct Exchange {
    /// Nothing where no client asked: a guest, or the gateway itself.
    pub(super) client: Option<Arc<Connection>>,
    /// Ends the guest.
    cancelled: CancellationToken,
    record: OnceLock<Weak<Record>>,
    permits: OnceLock<Weak<dyn Permits>>,
    /// Since when it waits for its client, as a [`Moment`], or nought; and for how long it did before.
    since: AtomicU64,
    waited: AtomicU64,
    /// Since when its guest has ended and nothing but permits waits for the client.
    kept: AtomicU64,
    /// Whose it is among those that wait, or nought where it is not among them.
    listed: AtomicU64,
    is_gone: AtomicBool,
    held: Mutex<Held>,
}

/// The response, while hyper has its other half.
#[derive(Default)]
pub(super) struct Held {
    pub(super) body: Option<ResponseBody>,
    pub(super) busy: Option<Busy>,
    /// Since when hyper has its head or a frame of it and has not asked for the next: HTTP/2 asks when there is room.
    pub(super) handed: Option<Instant>,
    /// What a guest that has ended left with it.
    kept: Option<Box<dyn Send>>,
    has_response: bool,
    is_out: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("client", &self.client).finish_non_exhaustive()
    }
}

/// As long as a guest waits for its client.
pub(crate) struct Waiting<'a>(&'a Exchange);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waits_no_more();
    }
}

impl Exchange {
    pub(crate) fn new(client: Option<Arc<Connection>>) -> Arc<Self> {
        let (since, waited, kept, listed, is_gone, held) = Default::default();
        let (cancelled, record, permits) = (CancellationToken::new(), OnceLock::new(), OnceLock::new());
        Arc::new(Self { client, cancelled, record, permits, since, waited, kept, listed, is_gone, held })
    }

    /// Cancelled where nobody wants the response any more.
    pub(crate) const fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Where it is noted what became of it.
    pub(crate) fn told_in(&self, record: &Arc<Record>) {
        let _first = self.record.set(Arc::downgrade(record));
    }

    /// What it has from now on, while its guest runs.
    pub(crate) fn admitted(&self, permits: Weak<dyn Permits>) {
        let _first = self.permits.set(permits);
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the guest waits for its client, until what this returns is dropped.
    pub(crate) fn waits(self: &Arc<Self>) -> Waiting<'_> {
        self.begins_to_wait();
        Waiting(self)
    }

    /// The same without an end that is known beforehand.
    pub(super) fn begins_to_wait(self: &Arc<Self>) {
        let Some(client) = &self.client else { return };
        let now = Moment::now().0.max(1);
        // It may wait in both directions at once.
        let _before = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.is_among_the_slow(client);
    }

    fn is_among_the_slow(self: &Arc<Self>, client: &Connection) {
        if self.listed.load(Ordering::Relaxed) > 0 {
            return;
        }
        let Some(serial) = self.permits().map(|permits| permits.serial()) else { return };
        if self.listed.swap(serial, Ordering::Relaxed) == 0 {
            client.slow.list(serial, self);
        }
    }

    pub(super) fn waits_no_more(&self) {
        let since = self.since.swap(0, Ordering::Relaxed);
        if since > 0 {
            self.waited.fetch_add(Moment::now().0.saturating_sub(since), Ordering::Relaxed);
        }
    }

    /// How long it has waited for its client on the whole, where it does so now.
    pub(super) fn waited(&self) -> Option<Duration> {
        let (since, kept) = (self.since.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed));
        let since = if since == 0 { kept } else { since };
        let now = Moment::now().0.saturating_sub(since);
        (since > 0).then(|| Duration::from_nanos(self.waited.load(Ordering::Relaxed).saturating_add(now)))
    }

    pub(super) fn permits(&self) -> Option<Arc<dyn Permits>> {
        self.permits.get()?.upgrade()
    }

    /// Takes the response, of which hyper gets the other half; nothing where it was cut meanwhile.
    pub(super) fn holds(&self, body: ResponseBody, busy: Busy) {
        let mut held = self.held();
        if held.is_out {
            drop(held);
            return drop((body, busy));
        }
        held.has_response = true;
        (held.body, held.busy, held.handed) = (Some(body), Some(busy), Some(Instant::now()));
    }

    /// A part of what may be left for its client without permits; nothing where its connection or address has too much of that.
    pub(crate) fn leave(&self, bytes: u64) -> Option<Left> {
        Left::take(self.client.as_ref()?, bytes)
    }

    /// Whether a client asked for it.
    pub(crate) const fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Keeps this until the response is out.
    pub(crate) fn keep(&self, kept: Box<dyn Send>) {
        let mut held = self.held();
        if !held.is_out {
            held.kept = Some(kept);
        }
    }

    /// Keeps the permits of a guest that has ended until the response is out, and may be cut meanwhile.
    pub(crate) fn keep_permits(self: &Arc<Self>, permits: Box<dyn Send>) {
        let Some(client) = &self.client else { return };
        self.kept.store(Moment::now().0.max(1), Ordering::Relaxed);
        self.keep(permits);
        self.is_among_the_slow(client);
    }

    /// The response is out, or nobody wants it any more: what was kept for it goes back.
    pub(super) fn is_out(&self) {
        let mut held = self.held();
        held.is_out = true;
        let gone = (held.body.take(), held.busy.take(), held.kept.take());
        drop(held);
        self.waits_no_more();
        self.kept.store(0, Ordering::Relaxed);
        drop(gone);
        if let Some(permits) = self.permits() {
            permits.response_is_out();
        }
    }

    /// Notes that the client wants no more of it; what the guest makes of that is not its own failing.
    pub(crate) fn has_left(&self) {
        self.is_gone.store(true, Ordering::Release);
    }

    /// Whether its client has left it.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// The client left before there was a response.
    pub(super) fn is_left_unanswered(&self) {
        self.has_left();
        self.note(Fault::ClientGone);
        self.cancelled.cancel();
        self.is_out();
    }

    fn note(&self, fault: Fault) {
        if let Some(record) = self.record.get().and_then(Weak::upgrade) {
            record.fault(fault);
        }
    }

    /// Ends it, because its place is needed and its client keeps it waiting.
    pub(super) fn cut(&self) {
        self.has_left();
        self.note(Fault::ClientSlow);
        if let Some(permits) = self.permits() {
            permits.give_way();
        }
        self.cancelled.cancel();
        // Where there is no response yet, it is told so.
        if self.held().has_response {
            self.is_out();
        }
    }

    /// Takes the response away where the client has taken nothing of it for so long.
    pub(super) fn clear_if_stalled(&self, limit: Duration) {
        if self.held().handed.is_some_and(|handed| handed.elapsed() >= limit) {
            self.is_out();
        }
    }
}

/// An exchange without a response. Where this is dropped, its client left.
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
            exchange.is_left_unanswered();
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
