//! The Wasmtime engines: which wasm is accepted, the layout of the pool, and the clock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use super::reuse::idle_max;
use super::slots::Slots;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Fuel between two yields of a guest: an eighth of a millisecond of plain code on the machines where this was measured.
/// Yielding costs half a percent of that.
pub(crate) const FUEL_SLICE: u64 = 250_000;
/// The clock for guests that take long without burning fuel, by repeated host calls, and for turns that do not end. A
/// thousand wake-ups a second cost half a percent of one processor here.
const TICK: Duration = Duration::from_millis(1);
/// After this many ticks without a running guest, the clock sleeps for this long at a time until there is one.
const STILL_TICKS: u32 = 100;
const STILL: Duration = Duration::from_millis(100);

/// Bytes of a guest's stack. Host functions use the rest of the fiber's stack.
const WASM_STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 1 << 20;

/// Address space of one linear memory: everything that 32 bits can address, so that no access needs a bounds check.
const MEMORY_RESERVATION: u64 = 4 << 30;
const MEMORY_GUARD: u64 = 32 << 20;

/// Core instances, memories and tables of one component. A component from `wasm-component-ld` has 4, 1 and 2. A composed
/// component has those of each part, and a core instance for each pair of parts that call each other.
const CORES_PER_COMPONENT: u32 = 64;
const MEMORIES_PER_COMPONENT: u32 = 8;
const TABLES_PER_COMPONENT: u32 = 16;
/// Memories that are reserved for every instance. An instance with more of them, which only composed components have, waits
/// for [`shared_memories`].
pub(super) const MEMORIES_EACH: u32 = 2;
/// One for each instance, as far as the address space allows for any number of instances ([`address_space`]).
const SHARED_MEMORIES_MAX: u32 = 512;
const TABLE_ELEMENTS: usize = 20_000;

/// What stays resident in a slot between two instances. `pagemap_scan` then resets only the pages that were written.
const KEEP_MEMORY_BYTES: usize = 1 << 20;
const KEEP_TABLE_BYTES: usize = 40 << 10;
/// If slots are reset whole, the first bytes up to this number are overwritten each time, used or not, and the rest is
/// returned to the kernel. For memories it is zero: with most compilers a memory begins with the far end of its stack,
/// which hardly any guest uses. Other sizes were not measured.
const WHOLE_KEEP_MEMORY_BYTES: usize = 0;
const WHOLE_KEEP_TABLE_BYTES: usize = 4 << 10;

/// Each engine has slots for as many instances as may run at once, because all of them may be of one kind.
const ENGINES: u64 = 2;

/// The most that the slots of this many instances keep resident between two instances.
pub(super) fn kept_bytes_max(instances: u32) -> u64 {
    let memories = u64::from(MEMORIES_EACH) * KEEP_MEMORY_BYTES as u64;
    let tables = u64::from(TABLES_PER_COMPONENT) * KEEP_TABLE_BYTES as u64;
    let shared = u64::from(shared_memories(instances)) * KEEP_MEMORY_BYTES as u64;
    ENGINES * (u64::from(instances) * (memories + tables) + shared)
}

/// Memories beyond [`MEMORIES_EACH`] that all instances of composed components share.
pub(super) fn shared_memories(instances: u32) -> u32 {
    instances.clamp(MEMORIES_PER_COMPONENT, SHARED_MEMORIES_MAX)
}

/// Whether the calls of an instance may be concurrent. Wasmtime tracks concurrent calls, which costs each request of a
/// component without any a fifth of what an instance costs. So there is an engine of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Calls {
    /// One after the other: WASI 0.2.
    #[default]
    Single,
    /// Several at once: WASI 0.3, and everything that is `async` in the component model.
    Concurrent,
}

/// One value for each kind of engine.
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

/// The settings on which the gateway and the compiling child must agree; compiled code records them.
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
    // Off: 64-bit memories need bounds checks, and the others are young. Threads (shared memories escape the accounting),
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

/// The slots of an engine's pool. Resting instances have slots of their own, so that every admitted request finds one; so
/// does the check of whether slots are clean.
fn slots_of(calls: Calls, instances: u32) -> u32 {
    match calls {
        Calls::Single => instances.saturating_add(1),
        Calls::Concurrent => instances.saturating_add(idle_max(instances)).saturating_add(1),
    }
}

/// Bytes of address space that both pools reserve, of the 2^47 (128 TiB) that a process has on x86-64. A slot has two
/// memories of 4 GiB with a guard of 32 MiB after each: 8.06 GiB. With slots for n instances in one pool and 1.25 n in the
/// other, that is 18.1 GiB for each of n, and at most 2 TiB in either pool for composed components. So 1,000 instances take
/// 22 TiB and 5,000 take 92. In a test more than 5,500 were refused, because each pool is one piece and the addresses
/// between are not all free. None of it uses memory until it is touched.
fn address_space(instances: u32) -> u64 {
    let slots = u64::from(slots_of(Calls::Single, instances)) + u64::from(slots_of(Calls::Concurrent, instances));
    let memories = slots * u64::from(MEMORIES_EACH) + ENGINES * u64::from(shared_memories(instances));
    memories * (MEMORY_RESERVATION + MEMORY_GUARD)
}

/// One of the gateway's engines, with `instances` slots that are reset according to `slots`.
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
    // As many of each as all instances together may have, so that no tenant's components can use up what others need. What
    // is beyond that is counted before it is taken.
    let memories = instances.saturating_mul(MEMORIES_EACH).saturating_add(shared_memories(wanted));
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORES_PER_COMPONENT))
        .total_memories(memories)
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        // Each instance is one fiber. Concurrent calls of wasi:http 0.3 may need more.
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
    // The only thing that is compiled here is the check of slots, which needs no threads.
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

/// Counts running guests, and wakes the clock if it sleeps because there were none.
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

    /// One tick. `still` counts the ticks without a running guest.
    fn rest(&self, still: &mut u32) {
        let is_still = || self.0.running.load(Ordering::SeqCst) == 0;
        *still = if is_still() { still.saturating_add(1) } else { 0 };
        if *still < STILL_TICKS {
            std::thread::sleep(TICK);
            return;
        }
        self.0.sleeps.store(true, Ordering::SeqCst);
        // A guest that starts from here on sees that the clock sleeps, and its wake-up is not lost even if it comes
        // earlier.
        if is_still() {
            std::thread::park_timeout(STILL);
        }
        self.0.sleeps.store(false, Ordering::SeqCst);
    }
}

/// Advances the epoch of every engine at every tick, until it is dropped.
pub(crate) struct Clock {
    stop: Arc<AtomicBool>,
    pulse: Pulse,
}

impl Clock {
    /// Calls `also` at every tick, and a few times a second while nothing runs.
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

    /// Adds these engines. The earlier ones continue as long as one of their guests runs.
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
