//! One run: creates an instance, calls it and ends it, within the request's limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use wasmtime::{AsContextMut as _, Engine, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p3::bindings::Service;

use super::Services;
use super::backlog::release_permits;
use super::cache::Ready;
use super::call::{Request, Work, call};
use super::fuel;
use super::memories::{More, memory};
use super::message::{Cause, Handled};
use super::reaper::Reaper;
use super::reply::{CancelOnDrop, GuestBody, Reply};
use super::reuse::IdleInstance;
use super::running::RunningInstance;
use super::traps::classify;
use super::turns::Turns;
use super::whose::Whose;
use super::without_turns::run_without_turns;
use crate::admission::Admitted;
use crate::fault::{Fault, QuotaKind};
use crate::host::{Guest, GuestSetup};
use crate::http::{BodyOutcome, Exchange, has_no_content};
use crate::telemetry::{self, Line, Record, Stream, cut_at};
use crate::tenant::{Budget, Ledger, WhenFull};

/// The longest line about a fault in the tenant's log, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// An instance with more bytes is dropped by the reaper.
const LARGE_BYTES: u64 = 4 << 20;

/// Handles to resources that a component may hold, including its own ones, and ends of streams and futures.
const HANDLES_MAX: usize = 20_000;

/// Starts the instance and waits for the head of its response.
pub(super) async fn run(
    around: &Arc<Services>,
    turns: Option<&Turns>,
    component: Arc<Ready>,
    admitted: Arc<Admitted>,
    (request, mut verdict, within): (Request, BodyOutcome, Option<Budget>),
    record: Arc<Record>,
) -> Result<Reply, Fault> {
    let exchange = Arc::clone(request.body().exchange());
    let whose = Whose::of_request(admitted, Arc::clone(&record), (request.headers(), &exchange), within)?;
    let (ledger, head_bytes_max) = whose.of_response();
    let inner = Some(whose.budget.clone()).filter(Budget::is_inner);
    let cancelled = exchange.cancelled().clone();
    let cancel = CancelOnDrop::new(cancelled.clone());
    let (head, mut answer) = oneshot::channel();
    let (over, mut ended) = oneshot::channel();
    let is_head = request.method() == http::Method::HEAD;
    let instance = Instance::of(&component.engine, around, whose, over);
    let started = Instant::now();
    // Boxed: the future is large, and each layer around it would move it.
    let driving =
        Box::pin(instance.drive(component, Work::Request(request, head), cancelled, turns.map(Turns::reaper)));
    start(around, turns, &ledger, &record, driving).await;
    let head = tokio::select! {
        biased;
        // The body broke its limits before there was a response: that fault is the answer.
        fault = verdict.broken() => Err(fault),
        head = &mut answer => match head {
            Ok(head) => head,
            Err(_no_head) => {
                // The channel closes a moment before the fault is noted.
                let _over = (&mut ended).await;
                Err(record.first_fault().unwrap_or(Fault::NoResponse))
            }
        },
    };
    let (parts, source) = head?.into_parts();
    if let Some(fault) = record.first_fault().filter(|_| !record.is_finished()) {
        // It failed so soon after its head that nothing was sent yet: an error is better than a broken body.
        return Err(fault);
    }
    record.guest_ran(started.elapsed());
    let mut body = GuestBody::new(source, &parts.headers, record, (cancel, ended), (ledger, head_bytes_max), inner);
    if is_head || has_no_content(parts.status) {
        body.is_never_sent();
    } else if let Err(fault) = body.look_ahead().await {
        return Err(body.refuse(fault));
    }
    Ok(http::Response::from_parts(parts, body))
}

/// Starts the instance and waits for the result of the message or the run.
pub(super) async fn handle(
    around: &Arc<Services>,
    turns: Option<&Turns>,
    component: Arc<Ready>,
    admitted: Arc<Admitted>,
    cause: Cause,
    record: &Arc<Record>,
) -> Result<Handled, Fault> {
    let whose = Whose::of_event(admitted, Arc::clone(record), &cause);
    let (ledger, _) = whose.of_response();
    let cancelled = CancellationToken::new();
    let mut cancel = CancelOnDrop::new(cancelled.clone());
    let (said, answer) = oneshot::channel();
    let (over, ended) = oneshot::channel();
    let instance = Instance::new(&component.engine, around, whose, over);
    let driving = Box::pin(instance.drive(component, Work::Event(cause, said), cancelled, turns.map(Turns::reaper)));
    start(around, turns, &ledger, record, driving).await;
    let _over = ended.await;
    cancel.disarm();
    match record.first_fault() {
        Some(fault) => Err(fault),
        None => answer.await.map_err(|_never_said| Fault::NoResponse),
    }
}

async fn start(
    around: &Arc<Services>,
    turns: Option<&Turns>,
    ledger: &Arc<Ledger>,
    record: &Arc<Record>,
    driving: impl Future<Output = ()> + Send + 'static,
) {
    let ledger = Arc::clone(ledger);
    let driving = telemetry::within(record.trace(), driving);
    match turns {
        Some(turns) => turns.spawn(ledger, Arc::clone(record), &around.tasks, driving),
        None => run_without_turns(around, ledger, Arc::clone(record), driving).await,
    }
}

/// An instance and its limits.
struct Instance {
    // Declared first, so that the end of an instance is noted before its store is dropped, and the response's body with it.
    running: RunningInstance,
    store: Store<Guest>,
    /// For memories beyond those of any instance. Declared after the store, because the memories belong to it.
    more_memories: More,
    /// If the instance has answered before: the handler, and how often.
    service: Option<(Service, u32)>,
    admitted: Arc<Admitted>,
    /// The request's exchange, if it answers a request.
    exchange: Option<Arc<Exchange>>,
    when_full: WhenFull,
    fuel: u64,
    time: Duration,
    /// Dropped when everything is noted: the holder of the other half may then read the record.
    over: Option<oneshot::Sender<()>>,
}

impl Instance {
    /// Takes an idle instance if the tenant wants that and there is one; otherwise creates one.
    fn of(engine: &Engine, around: &Arc<Services>, whose: Whose, over: oneshot::Sender<()>) -> Self {
        let (tenant, component) = (whose.admitted.routed.tenant(), whose.admitted.routed.component());
        let limits = whose.admitted.routed.limits();
        let idle = around.instances.idle_instances.take(tenant.ledger.serial, component);
        // A route may allow less memory than the one before, and the engine may be another.
        let may_answer = |idle: &IdleInstance| {
            idle.store.data().meter.peak() <= limits.memory && Engine::same(idle.store.engine(), engine)
        };
        let Some(mut idle) = idle.filter(may_answer) else {
            return Self::new(engine, around, whose, over);
        };
        let Whose { record, budget, chain, exchange, .. } = &whose;
        if !idle.store.data_mut().begin_again(limits, record, (chain.clone(), exchange.clone()), budget) {
            return Self::new(engine, around, whose, over);
        }
        let service = Some((idle.service, idle.answered));
        Self::armed((idle.store, idle.more_memories), service, around, whose, over)
    }

    fn new(engine: &Engine, around: &Arc<Services>, whose: Whose, over: oneshot::Sender<()>) -> Self {
        let routed = &whose.admitted.routed;
        let guest = Guest::new(&GuestSetup {
            tenant: routed.tenant(),
            component: routed.component(),
            limits: routed.limits(),
            store: &around.store,
            logs: &around.logs,
            record: &whose.record,
            memory: &around.memory,
            egress: &around.egress,
            chain: whose.chain.clone(),
            budget: &whose.budget,
            exchange: whose.exchange.as_ref(),
        });
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.meter);
        store.set_max_component_handles(HANDLES_MAX);
        Self::armed((store, None), None, around, whose, over)
    }

    /// Sets the request's limits.
    fn armed(
        (mut store, more_memories): (Store<Guest>, More),
        service: Option<(Service, u32)>,
        around: &Arc<Services>,
        Whose { admitted, record, budget, exchange, when_full, .. }: Whose,
        over: oneshot::Sender<()>,
    ) -> Self {
        let limits = admitted.routed.limits();
        let (fuel, time) = (limits.fuel.min(budget.fuel()), limits.time.min(budget.time()));
        store.set_hostcall_fuel(fuel::HOSTCALL_BYTES_MAX);
        store.set_epoch_deadline(1);
        if around.is_metered {
            fuel::meter(&mut store, &record, fuel);
            if budget.is_inner() {
                // Charged before it is created, because other instances of the same budget may be created at this moment.
                let _paid = fuel::burned(&mut store.as_context_mut(), fuel);
            }
        } else {
            store.epoch_deadline_async_yield_and_update(1);
        }
        let running = RunningInstance::begin(record, Arc::clone(around));
        Self { running, store, more_memories, service, admitted, exchange, when_full, fuel, time, over: Some(over) }
    }

    /// Runs the guest to its end, and notes what it used. The store is dropped last: with it the response's body ends, and
    /// by then the fault must be visible.
    async fn drive(mut self, component: Arc<Ready>, work: Work, cancelled: CancellationToken, reaper: Option<Reaper>) {
        let before = self.service.as_ref().map_or(0, |(_, answered)| *answered);
        let ledger = Arc::clone(&self.admitted.routed.tenant().ledger);
        // The order matters: the end of an engine is noticed by one or the other.
        let stop = ledger.stop();
        if let Err(fault) = self.may_begin(&component, &cancelled).await {
            fault.into_iter().for_each(|fault| self.running.record.fault(fault));
            self.running.was_driven = true;
            return;
        }
        let started = Instant::now();
        let ended = {
            let service = self.service.take();
            let work = call(
                &mut self.store,
                &component,
                work,
                service.map(|(service, _)| service),
                (&self.running.record, started),
            );
            let work = tokio::time::timeout(self.time, work);
            // The order matters: a guest that ends in its first turn never waits for any of these.
            tokio::select! {
                biased;
                ended = work => Some(ended),
                () = cancelled.cancelled() => None,
                () = stop.cancelled() => {
                    self.running.record.fault(Fault::stopped(ledger.is_stopped()));
                    None
                }
            }
        };
        let mut answered = None;
        match ended {
            None => {}
            Some(Ok(Ok(service))) => {
                self.look_for_unfinished();
                answered = service;
            }
            Some(Err(_elapsed)) => self.running.record.fault(Fault::Deadline),
            Some(Ok(Err(error))) if self.has_left(&error) => self.look_for_unfinished(),
            Some(Ok(Err(error))) => {
                if self.running.record.has_answer() && !self.store.data().has_open_answer() {
                    // The response was complete: the client gets it, whatever the guest did afterwards.
                    self.running.record.finished();
                }
                let fault = self.fault_of(&error);
                if fault == Fault::Quota(QuotaKind::Memory) {
                    self.running.record.limited(self.admitted.routed.tenant().ledger.out_of_memory().fields());
                }
                self.running.record.fault(fault);
                self.tell_tenant(fault, &error);
            }
        }
        if self.running.around.is_metered {
            // It fails only if the engine counts no fuel.
            let _burned = fuel::burned(&mut self.store.as_context_mut(), self.fuel);
        }
        let peak = self.store.data().meter.peak();
        self.running.record.memory_peak(peak);
        self.admitted.routed.component().needs.note(peak);
        self.running.record.guest_ended(started.elapsed());
        self.running.was_driven = true;
        release_permits(self.store.data(), &self.admitted, self.exchange.as_ref());
        let may_rest = self.running.record.first_fault().is_none() && !component.ended.is_set();
        if let Some(service) = answered.filter(|_| may_rest) {
            return self.rest(service, before + 1);
        }
        if let Some(reaper) = reaper.filter(|_| peak > LARGE_BYTES) {
            // Everything is noted: a waiting task can continue now.
            drop(self.over.take());
            // The instance has ended, however long its drop takes.
            self.store.data_mut().meter.is_over();
            reaper.clear_away(Some(ledger), peak, Box::new(self));
        }
    }

    /// Waits for space for its memories. Nothing starts in an engine that has ended.
    async fn may_begin(&mut self, component: &Ready, cancelled: &CancellationToken) -> Result<(), Option<Fault>> {
        if self.more_memories.is_none() {
            let memories = &self.running.around.instances.memories;
            self.more_memories = memories.room(component.memories, self.time, cancelled).await?;
        }
        if self.when_full == WhenFull::Wait && self.service.is_none() {
            let routed = &self.admitted.routed;
            let of = (&*routed.tenant().ledger, &**routed.component());
            let bytes = (routed.limits().memory, component.initial);
            let granted = memory(of, bytes, cancelled, &self.running.record).await?;
            granted.into_iter().for_each(|grant| self.store.data().meter.uses(grant));
        }
        if component.ended.is_set() { Err(Some(Fault::Renewed)) } else { Ok(()) }
    }

    /// Maps an error to a fault, and charges a call that was lifted but never made.
    fn fault_of(&mut self, error: &wasmtime::Error) -> Fault {
        let fault = classify(error, self.store.data().meter.denied());
        if fault == Fault::Trap && fuel::unpaid(&mut self.store, error) { Fault::Fuel } else { self.unless_left(fault) }
    }

    /// If the client has left, the guest is not to blame for a fault.
    fn unless_left(&self, fault: Fault) -> Fault {
        let is_own = matches!(fault, Fault::Trap | Fault::NoResponse | Fault::BadResponse);
        let has_left = self.exchange.as_ref().is_some_and(|exchange| exchange.is_client_gone());
        if is_own && has_left { Fault::ClientGone } else { fault }
    }

    /// Waits for another request, if its tenant wants that.
    fn rest(self, service: Service, answered: u32) {
        let Self { running, mut store, more_memories, admitted, over, .. } = self;
        let idle_instances = &running.around.instances.idle_instances;
        // Removes everything that belongs to the request, including its record.
        store.data_mut().belong_to(idle_instances.nobody());
        store.data_mut().meter.leave();
        let (tenant, component) = (admitted.routed.tenant(), admitted.routed.component());
        let given_back = idle_instances.put(tenant.ledger.serial, component, (store, more_memories, service, answered));
        drop((running, given_back, over));
    }

    /// Notes a guest that returned while its body was still open. Such a body is not finished, although dropping the store
    /// makes it look so. The reader of the body decides what that means.
    fn look_for_unfinished(&self) {
        if self.store.data().has_open_answer() {
            self.running.record.note_body_left_open();
        }
    }

    /// Whether the guest exited by itself: with 0, or with any code after its response. A code other than 0 is noted for
    /// the tenant.
    fn has_left(&self, error: &wasmtime::Error) -> bool {
        match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => true,
            Some(exit) if self.running.record.has_answer() => {
                self.write_line(format!("tollgate: the component ended with exit code {} after its response", exit.0));
                true
            }
            Some(_) | None => false,
        }
    }

    /// Writes to the tenant's log what a stranger must not see: the trap and its backtrace.
    fn tell_tenant(&self, fault: Fault, error: &wasmtime::Error) {
        let text = format!("{error:#}");
        for line in std::iter::once(format!("tollgate: {fault}").as_str()).chain(text.lines()).take(40) {
            self.write_line(line.to_owned());
        }
    }

    fn write_line(&self, text: String) {
        // A trap's text may come from the guest.
        let text = if text.len() > LINE_BYTES_MAX { cut_at(&text, LINE_BYTES_MAX, text.len()) } else { text };
        self.running.around.logs.write(Line {
            at: std::time::SystemTime::now(),
            tenant: self.admitted.routed.tenant().id.clone(),
            component: self.admitted.routed.component().name.clone(),
            request: self.running.record.id,
            stream: Stream::Stderr,
            text,
        });
    }
}
