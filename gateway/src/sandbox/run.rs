//! One run: an instance is made, called and ended, within the request's limits.

use std::any::Any;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use wasmtime::{AsContextMut as _, Engine, Store, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::body::HostOutgoingBody;

use super::Surroundings;
use super::cache::Ready;
use super::call::{Request, Work, call};
use super::fuel;
use super::message::Handled;
use super::reaper::Reaper;
use super::reply::{CancelOnDrop, GuestBody, Reply};
use super::turns::Turns;
use crate::admission::Admitted;
use crate::fault::{Fault, Quotum};
use crate::host::{Denied, Guest, Make};
use crate::http::{Verdict, cdn_loop};
use crate::telemetry::{self, Line, Record, Stream};
use crate::tenant::Ledger;

/// Bytes that a guest may have lifted by host calls at once, of strings and lists.
const HOSTCALL_BYTES_MAX: usize = 16 << 20;

/// From so many bytes on an instance is cleared away by the reaper.
const LARGE_BYTES: u64 = 4 << 20;

/// Handles to resources that a component may hold, its own ones included.
const HANDLES_MAX: usize = 10_000;

/// Starts the instance and waits for the head of its response.
pub(super) async fn run(
    engine: &Engine,
    around: &Surroundings,
    turns: Option<&Turns>,
    component: Arc<Ready>,
    admitted: Admitted,
    request: Request,
    mut verdict: Verdict,
    record: Arc<Record>,
) -> Result<Reply, Fault> {
    let admitted = Arc::new(admitted);
    let cancelled = CancellationToken::new();
    let cancel = CancelOnDrop::new(cancelled.clone());
    let (head, mut answer) = oneshot::channel();
    let (over, mut ended) = oneshot::channel();
    let chain = chain(&admitted, request.headers());
    let instance = Instance::new(engine, around, Arc::clone(&admitted), Arc::clone(&record), chain, over);
    let started = Instant::now();
    let driving = instance.drive(component, Work::Request(request, head), cancelled, turns.map(Turns::reaper));
    start(around, turns, &admitted, &record, driving).await;
    let head = tokio::select! {
        biased;
        // The body broke its limits before there was a response: that is the answer then.
        fault = verdict.broken() => Err(fault),
        head = &mut answer => match head {
            Ok(head) => head,
            Err(_no_head) => {
                // The channel goes a moment before the fault is noted.
                let _over = (&mut ended).await;
                Err(record.first_fault().unwrap_or(Fault::NoResponse))
            }
        },
    };
    let (parts, source) = head?.into_parts();
    if let Some(fault) = record.first_fault() {
        // It failed so soon after its head that nothing has left yet: that is better told than shown as a torn body.
        return Err(fault);
    }
    record.guest_ran(started.elapsed());
    let body = GuestBody::new(source, &parts.headers, record, cancel, ended, admitted);
    Ok(http::Response::from_parts(parts, body))
}

/// Starts the instance and waits for what it says of the message.
pub(super) async fn handle(
    engine: &Engine,
    around: &Surroundings,
    turns: Option<&Turns>,
    component: Arc<Ready>,
    admitted: Admitted,
    payload: Vec<u8>,
    record: &Arc<Record>,
) -> Result<Handled, Fault> {
    let admitted = Arc::new(admitted);
    let cancelled = CancellationToken::new();
    let mut cancel = CancelOnDrop::new(cancelled.clone());
    let (said, answer) = oneshot::channel();
    let (over, ended) = oneshot::channel();
    // A message comes from nobody's request, so what it starts has been nowhere yet.
    let chain = chain(&admitted, &http::HeaderMap::new());
    let instance = Instance::new(engine, around, Arc::clone(&admitted), Arc::clone(record), chain, over);
    let driving = instance.drive(component, Work::Message(payload, said), cancelled, turns.map(Turns::reaper));
    start(around, turns, &admitted, record, driving).await;
    let _over = ended.await;
    cancel.disarm();
    match record.first_fault() {
        Some(fault) => Err(fault),
        None => answer.await.map_err(|_never_said| Fault::NoResponse),
    }
}

/// Whom it has been at, for requests that the guest sends. Without a grant nothing leaves, and nothing need be hashed.
fn chain(admitted: &Admitted, headers: &http::HeaderMap) -> http::HeaderValue {
    if admitted.routed.component().egress.is_empty() {
        return http::HeaderValue::from_static("");
    }
    cdn_loop::onward(headers, &admitted.routed.tenant().id)
}

async fn start(
    around: &Surroundings,
    turns: Option<&Turns>,
    admitted: &Admitted,
    record: &Arc<Record>,
    driving: impl Future<Output = ()> + Send + 'static,
) {
    let ledger = Arc::clone(&admitted.routed.tenant().ledger);
    let driving = telemetry::within(record.trace(), driving);
    match turns {
        Some(turns) => turns.spawn(ledger, Arc::clone(record), &around.tasks, driving),
        None => run_unfairly(around, ledger, Arc::clone(record), driving).await,
    }
}

/// By tokio's order alone (`sandbox.fair_turns = false`), to compare with. The first turn is taken here: a guest that
/// answers at once costs neither a task nor a thread's hop.
async fn run_unfairly(
    around: &Surroundings,
    ledger: Arc<Ledger>,
    record: Arc<Record>,
    driving: impl Future<Output = ()> + Send + 'static,
) {
    let mut driving = Box::pin(async move {
        driving.await;
        ledger.burn(record.fuel_of_guest());
    });
    let is_over = poll_fn(|cx| Poll::Ready(driving.as_mut().poll(cx).is_ready())).await;
    if !is_over {
        around.tasks.spawn(driving);
    }
}

/// An instance and what bounds it.
struct Instance {
    store: Store<Guest>,
    record: Arc<Record>,
    around: Surroundings,
    admitted: Arc<Admitted>,
    fuel: u64,
    time: Duration,
    /// Whether it was driven to its end, and not dropped on the way.
    was_driven: bool,
    /// Dropped when everything is noted: whoever has the other half may look at the record then.
    over: Option<oneshot::Sender<()>>,
}

impl Instance {
    fn new(
        engine: &Engine,
        around: &Surroundings,
        admitted: Arc<Admitted>,
        record: Arc<Record>,
        chain: http::HeaderValue,
        over: oneshot::Sender<()>,
    ) -> Self {
        let limits = admitted.routed.limits();
        let guest = Guest::new(&Make {
            tenant: admitted.routed.tenant(),
            component: admitted.routed.component(),
            limits,
            store: &around.store,
            logs: &around.logs,
            record: &record,
            memory: &around.memory,
            egress: &around.egress,
            chain,
        });
        around.metrics.instances.inc();
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.meter);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        store.set_epoch_deadline(1);
        let (fuel, time) = (limits.fuel, limits.time);
        if around.is_metered {
            fuel::meter(&mut store, &record, fuel);
        } else {
            store.epoch_deadline_async_yield_and_update(1);
        }
        Self { store, record, around: around.clone(), admitted, fuel, time, was_driven: false, over: Some(over) }
    }

    /// Runs the guest to its end, whatever that is, and notes what it took. The store goes last: when it drops, the
    /// response's body ends, and by then the fault is there to be seen.
    async fn drive(mut self, component: Arc<Ready>, work: Work, cancelled: CancellationToken, reaper: Option<Reaper>) {
        let started = Instant::now();
        let ended = {
            let work = call(&mut self.store, &component, work, &self.record, started);
            let work = tokio::time::timeout(self.time, work);
            let stop = self.admitted.routed.tenant().ledger.stop();
            tokio::select! {
                ended = work => Some(ended),
                () = cancelled.cancelled() => None,
                () = stop.cancelled() => {
                    self.record.fault(Fault::Suspended);
                    None
                }
            }
        };
        match ended {
            None => {}
            Some(Ok(Ok(()))) => self.look_for_unfinished(),
            Some(Err(_elapsed)) => self.record.fault(Fault::Deadline),
            Some(Ok(Err(error))) if error.downcast_ref::<I32Exit>().is_some_and(|exit| exit.0 == 0) => {
                self.look_for_unfinished();
            }
            Some(Ok(Err(error))) => {
                let fault = classify(&error, self.store.data().meter.denied());
                if fault == Fault::Quota(Quotum::Memory) {
                    self.record.limited(self.admitted.routed.tenant().ledger.out_of_memory().fields());
                }
                self.record.fault(fault);
                self.tell_tenant(fault, &error);
            }
        }
        if self.around.is_metered {
            // It fails only where the engine counts no fuel.
            let _burned = fuel::burned(&mut self.store.as_context_mut(), self.fuel);
        }
        self.record.memory_peak(self.store.data().meter.peak());
        self.record.guest_ended(started.elapsed());
        self.was_driven = true;
        if let Some(reaper) = reaper.filter(|_| self.store.data().meter.peak() > LARGE_BYTES) {
            // Everything is noted, and whoever waits to be told so need not wait for this.
            drop(self.over.take());
            reaper.clear_away(Box::new(self));
        }
    }

    /// A guest that returned while its body is still open has not finished it; dropping the store would look as if.
    fn look_for_unfinished(&mut self) {
        let left_open = |entry: &(dyn Any + Send)| entry.is::<HostOutgoingBody>();
        if self.store.data_mut().http().table.iter_mut().any(|entry| left_open(entry)) {
            self.record.fault(Fault::BadResponse);
        }
    }

    /// The tenant's log gets what a stranger must not see: the trap and its backtrace.
    fn tell_tenant(&self, fault: Fault, error: &wasmtime::Error) {
        let text = format!("{error:#}");
        for line in std::iter::once(format!("tollgate: {fault}").as_str()).chain(text.lines()).take(40) {
            self.around.logs.write(Line {
                at: std::time::SystemTime::now(),
                tenant: self.admitted.routed.tenant().id.clone(),
                component: self.admitted.routed.component().name.clone(),
                request: self.record.id,
                stream: Stream::Stderr,
                text: line.to_owned(),
            });
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.was_driven {
            // A drain ran out of time, or a host call panicked: before the store goes, and the body with it.
            self.record.fault(Fault::Internal);
        }
        self.around.metrics.instances.dec();
    }
}

/// What a run's error means. `denied`: a trap after that is an allocator giving up.
fn classify(error: &wasmtime::Error, denied: Option<Denied>) -> Fault {
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return Fault::Overload;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Fault::Fuel,
        Some(Trap::StackOverflow) => return Fault::Stack,
        _ => {}
    }
    match denied {
        Some(Denied::Request) => return Fault::Memory,
        Some(Denied::Tenant) => return Fault::Quota(Quotum::Memory),
        Some(Denied::Gateway) => return Fault::Overload,
        None => {}
    }
    if error.downcast_ref::<I32Exit>().is_some() {
        return Fault::NoResponse;
    }
    Fault::Trap
}
