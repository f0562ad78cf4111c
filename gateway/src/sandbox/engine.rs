//! The Wasmtime engines: which wasm is accepted, how the pool is laid out, and the clock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use super::reuse::rested_max;
use super::slots::Slots;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Fuel between two yields of a guest: an eighth of a millisecond of plain code on the machines this was measured on, of
/// which giving way is half a percent.
pub(crate) const FUEL_SLICE: u64 = 250_000;
/// The clock for guests that take long without burning fuel, by calling the host again and again, and for turns that do not
/// end. A thousand wake-ups a second cost half a percent of one processor here.
const TICK: Duration = Duration::from_millis(1);
/// After so many ticks without a guest the clock sleeps, for so long at a time, until one comes.
const STILL_TICKS: u32 = 100;
const STILL: Duration = Duration::from_millis(100);

/// Of a guest's stack, in bytes. Host functions run on the rest of the fiber's.
const WASM_STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 1 << 20;

/// Address space of one linear memory: all that 32 bits can name, so that no access needs a bounds check.
const MEMORY_RESERVATION: u64 = 4 << 30;
const MEMORY_GUARD: u64 = 32 << 20;

/// Core instances, memories and tables of one component. A component of `wasm-component-ld` has 4, 1 and 2; one that is
/// composed has those of each part, and a core instance for each two that call each other.
const CORES_PER_COMPONENT: u32 = 64;
const MEMORIES_PER_COMPONENT: u32 = 8;
const TABLES_PER_COMPONENT: u32 = 16;
/// Memories that any instance finds. Whoever has more, which only composed components do, waits for [`shared_memories`].
pub(super) const MEMORIES_EACH: u32 = 2;
/// One for each instance, as far as the address space allows that with any number of instances ([`address_space`]).
const SHARED_MEMORIES_MAX: u32 = 512;
const TABLE_ELEMENTS: usize = 20_000;

/// What stays resident in a slot between two instances; `pagemap_scan` then resets only what was touched.
const KEEP_MEMORY_BYTES: usize = 1 << 20;
const KEEP_TABLE_BYTES: usize = 40 << 10;
/// Where slots are put back whole, the first so many bytes are written over each time, whether they were used or not, and the rest
/// is given back to the kernel. None of a memory's: it begins with the far end of its stack with most compilers, which next to nobody
/// uses. Other sizes were not measured.
const WHOLE_KEEP_MEMORY_BYTES: usize = 0;
const WHOLE_KEEP_TABLE_BYTES: usize = 4 << 10;

/// Each has slots for as many instances as may run at once, because all of those may be of one kind.
const ENGINES: u64 = 2;

/// What the slots of so many instances keep resident between two instances, at the most.
pub(super) fn kept_bytes_max(instances: u32) -> u64 {
    let memories = u64::from(MEMORIES_EACH) * KEEP_MEMORY_BYTES as u64;
    let tables = u64::from(TABLES_PER_COMPONENT) * KEEP_TABLE_BYTES as u64;
    let shared = u64::from(shared_memories(instances)) * KEEP_MEMORY_BYTES as u64;
    ENGINES * (u64::from(instances) * (memories + tables) + shared)
}

/// Memories beyond [`MEMORIES_EACH`] that all instances of composed components have together.
pub(super) fn shared_memories(instances: u32) -> u32 {
    instances.clamp(MEMORIES_PER_COMPONENT, SHARED_MEMORIES_MAX)
}

/// What an instance's calls may do beside each other. Wasmtime keeps account of concurrent calls, which costs each request
/// of a component that makes none a fifth of what an instance costs; so there is an engine of either kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Calls {
    /// One after the other: WASI 0.2.
    #[default]
    Single,
    /// Several under way at once: WASI 0.3, and whatever is `async` in the component model.
    Concurrent,
}

/// One of something for each kind of engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Each<T> {
    pub(super) single: T,
    pub(super) concurrent: T,
}

impl<T> Each<T> {
    pub(super) fn try_from<E>(mut make: impl FnMut(Calls) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { single: make(Calls::Single)?, concurrent: make(Calls::Concurrent)? })
    }

    pub(super) const fn of(&self, calls: Calls) -> &T {
        match calls {
            Calls::Single => &self.single,
            Calls::Concurrent => &self.concurrent,
        }
    }
}

/// What both the gateway and the compiling child agree on; it goes into the compiled code.
fn common(calls: Calls, metering: bool) -> Config {
    let mut config = Config::new();
    let is_concurrent = calls == Calls::Concurrent;
    // On: what compilers emit today.
    config
        .wasm_component_model(true)
        .wasm_component_model_async(is_concurrent)
        .concurrency_support(is_concurrent)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_multi_memory(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        .wasm_extended_const(true)
        .wasm_tail_call(true);
    // Off: 64-bit memories need bounds checks, the rest is young. Threads (shared memories outlive the accounting),
    // garbage collection and exceptions are not even built in.
    config.wasm_memory64(false).wasm_custom_page_sizes(false).wasm_wide_arithmetic(false);
    config
        .consume_fuel(metering)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_may_move(false)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    config
}

/// Slots of an engine's pool. Those that rest have slots of their own, so that whoever is let in finds one, and so has the look at
/// whether slots are clean.
fn slots_of(calls: Calls, instances: u32) -> u32 {
    match calls {
        Calls::Single => instances.saturating_add(1),
        Calls::Concurrent => instances.saturating_add(rested_max(instances)).saturating_add(1),
    }
}

/// Bytes of address space that both pools reserve, of the 2^47 (128 TiB) that a process has on x86-64: a slot has two
/// memories of 4 GiB and a guard of 32 MiB behind each, 8.06 GiB; with slots for n instances in one pool and 1.25 n in the
/// other, 18.1 GiB for each of n, and 2 TiB at the most in either for composed components. So 1,000 take 22 TiB, and 5,000
/// take 92; more than 5,500 were refused where it was tried, because each pool is one piece and the addresses between are not
/// all free. None of it is memory until it is touched.
fn address_space(instances: u32) -> u64 {
    let slots = u64::from(slots_of(Calls::Single, instances)) + u64::from(slots_of(Calls::Concurrent, instances));
    let memories = slots * u64::from(MEMORIES_EACH) + ENGINES * u64::from(shared_memories(instances));
    memories * (MEMORY_RESERVATION + MEMORY_GUARD)
}

/// One of the gateway's engines, with `instances` slots that are put back as `slots` says.
///
/// # Errors
/// The pools do not fit ([`address_space`]).
pub(super) fn pooling(calls: Calls, instances: u32, metering: bool, slots: Slots) -> anyhow::Result<Engine> {
    let (scan, keep_memory, keep_table) = match slots {
        Slots::Scanned => (Enabled::Auto, KEEP_MEMORY_BYTES, KEEP_TABLE_BYTES),
        Slots::Whole => (Enabled::No, WHOLE_KEEP_MEMORY_BYTES, WHOLE_KEEP_TABLE_BYTES),
    };
    let wanted = instances;
    let instances = slots_of(calls, instances);
    // As many of each as all instances together may have, so that no tenant's components can use up what others need; what is
    // beyond that is counted before it is taken.
    let memories = instances.saturating_mul(MEMORIES_EACH).saturating_add(shared_memories(wanted));
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORES_PER_COMPONENT))
        .total_memories(memories)
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        // Each instance is one fiber; concurrent calls of wasi:http 0.3 may take more.
        .total_stacks(instances.saturating_mul(2))
        .max_core_instances_per_component(CORES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(MEMORY_RESERVATION)?)
        .linear_memory_keep_resident(keep_memory)
        .table_keep_resident(keep_table)
        .pagemap_scan(scan);
    let mut config = common(calls, metering);
    // What is compiled here is the look at slots: no threads for that.
    config.parallel_compilation(false);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(anyhow::Error::from).with_context(|| {
        format!(
            "cannot make the instance pools: sandbox.instances = {wanted} needs about {} GiB of address space in two \
                parts, and a process has 128 TiB (131072 GiB); choose a lower number (5000 fit), or raise the limit on \
                virtual memory (ulimit -v)",
            address_space(wanted) >> 30
        )
    })
}

/// The engine of a child that compiles one component and runs nothing.
///
/// # Errors
/// The processor lacks what Wasmtime needs.
pub(crate) fn compiling(calls: Calls, metering: bool) -> anyhow::Result<Engine> {
    Ok(Engine::new(&common(calls, metering))?)
}

/// Counts what runs, and wakes the clock where it sleeps because nothing did.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<Inner>);

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulse").field("running", &self.0.running).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    running: AtomicUsize,
    sleeps: AtomicBool,
    clock: OnceLock<Thread>,
    engines: ArcSwap<Vec<EngineWeak>>,
}

impl Pulse {
    pub(super) fn one_more(&self) {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        if self.0.sleeps.load(Ordering::SeqCst)
            && let Some(clock) = self.0.clock.get()
        {
            clock.unpark();
        }
    }

    pub(super) fn one_less(&self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// One tick. `still` counts those at which nothing ran.
    fn rest(&self, still: &mut u32) {
        let is_still = || self.0.running.load(Ordering::SeqCst) == 0;
        *still = if is_still() { still.saturating_add(1) } else { 0 };
        if *still < STILL_TICKS {
            std::thread::sleep(TICK);
            return;
        }
        self.0.sleeps.store(true, Ordering::SeqCst);
        // Whoever comes from here on sees that it sleeps, and a wake-up before it does is not lost.
        if is_still() {
            std::thread::park_timeout(STILL);
        }
        self.0.sleeps.store(false, Ordering::SeqCst);
    }
}

/// Moves the epoch of every engine on at every tick, until it is dropped.
pub(crate) struct Clock {
    stop: Arc<AtomicBool>,
    pulse: Pulse,
}

impl Clock {
    /// `also` is called at every tick, and a few times a second while nothing runs.
    pub(super) fn start(pulse: Pulse, mut also: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, own) = (Arc::clone(&stop), pulse.clone());
        std::thread::Builder::new().name("epoch-clock".to_owned()).spawn(move || {
            let _first = pulse.0.clock.set(std::thread::current());
            let mut still = 0;
            while !stopped.load(Ordering::Relaxed) {
                pulse.rest(&mut still);
                for engine in pulse.0.engines.load().iter().filter_map(EngineWeak::upgrade) {
                    engine.increment_epoch();
                }
                also();
            }
        })?;
        Ok(Self { stop, pulse: own })
    }

    /// Has these too from now on. Those before go on for as long as a guest of theirs runs.
    pub(super) fn also(&self, engines: &Each<Engine>) {
        self.pulse.0.engines.rcu(|before| {
            let mut all: Vec<EngineWeak> = before.iter().filter(|engine| engine.upgrade().is_some()).cloned().collect();
            all.extend([engines.single.weak(), engines.concurrent.weak()]);
            all
        });
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
