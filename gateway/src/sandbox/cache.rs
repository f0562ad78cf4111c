//! Loaded components: mapped code that is already linked, by digest.
//!
//! The key is the digest alone: two tenants with the same bytes share the code. A linked component contains nothing of a
//! tenant; what a guest may reach comes with each instance. Limit: the configured bytes of code; components that are not
//! used are evicted after a time. Concurrent loads of one digest are merged.

use std::sync::Arc;

use moka::future::Cache;
use moka::policy::EvictionPolicy;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::Settings;
use super::artifacts::Artifacts;
use super::engine::{Calls, Each};
use super::engines::Ended;
use super::handler::Handler;
use super::message::MessageHandler;
use super::reaper::Reaper;
use super::schedule_handler::ScheduleHandler;
use super::turns::Turns;
use crate::deadline::Moment;
use crate::host::Linkers;
use crate::ids::Digest;
use crate::telemetry::Metrics;
use crate::tenant::{Handler as Asked, Ledger};

/// A component that is ready to be instantiated.
pub(super) struct Ready {
    pub(super) engine: Engine,
    /// Its request handlers: by wasi:http 0.2 or what is served as that, and by 0.3.
    http: [Option<Handler>; 2],
    /// Its handler for messages, if it has one.
    pub(super) listener: Option<MessageHandler>,
    /// Its handler for schedules, if it has one.
    pub(super) timed: Option<ScheduleHandler>,
    /// Number of linear memories of an instance.
    pub(super) memories: u32,
    /// Bytes of memory with which an instance starts.
    pub(super) initial: u64,
    /// Whether nothing may run in its engine any more.
    pub(super) ended: Ended,
    bytes: u32,
}

impl Ready {
    /// The requested handler; by default 0.2's, if it has both.
    pub(super) fn handler(&self, asked: Option<Asked>) -> Option<&Handler> {
        let [two, three] = &self.http;
        match asked {
            Some(Asked::V02) => two.as_ref(),
            Some(Asked::V03) => three.as_ref(),
            None => two.as_ref().or(three.as_ref()),
        }
    }
}

pub(super) struct Components {
    cache: Cache<Digest, Arc<Ready>>,
    loader: Arc<Loader>,
}

struct Loader {
    engines: Each<(Engine, Linkers)>,
    artifacts: Artifacts,
    metrics: Arc<Metrics>,
    ended: Ended,
}

impl Components {
    /// # Errors
    /// Two interfaces have the same name. This is a build error.
    pub(super) fn new(
        settings: &Settings,
        (engines, ended): (&Each<Engine>, Ended),
        artifacts: Artifacts,
        (reaper, metrics): (Reaper, Arc<Metrics>),
    ) -> anyhow::Result<Self> {
        let engines = Each::try_from(|calls| {
            let engine = engines.of(calls).clone();
            let linkers = Linkers::new(&engine, calls == Calls::Concurrent)?;
            anyhow::Ok((engine, linkers))
        })?;
        let cache = Cache::builder()
            .weigher(|_, ready: &Arc<Ready>| ready.bytes)
            .max_capacity(settings.cache_bytes)
            .time_to_idle(settings.cache_idle)
            // Evicts the least recently used. By frequency, components of an earlier burst kept out the one that was needed
            // now, which was loaded again several times a second.
            .eviction_policy(EvictionPolicy::lru())
            // The cache evicts during any caller's lookup, perhaps another tenant's, and unmapping takes time.
            .eviction_listener(move |_digest, ready, _cause| reaper.clear_away(None, 0, Box::new(ready)))
            .build();
        Ok(Self { cache, loader: Arc::new(Loader { engines, artifacts, metrics, ended }) })
    }

    /// The component, from memory or from disk.
    ///
    /// # Errors
    /// The file is missing, damaged or from another engine; the first two mean that somebody interfered. Mapping and
    /// linking take up to a millisecond. They run in a turn of the first tenant that needs the component, in the lane of
    /// long turns, so that even a thousand such tenants do not delay a tenant whose code is loaded.
    pub(super) async fn load(
        &self,
        digest: Digest,
        turns: Option<&Turns>,
        ledger: &Arc<Ledger>,
    ) -> Result<Arc<Ready>, Arc<anyhow::Error>> {
        if let Some(ready) = self.cache.get(&digest).await {
            return Ok(ready);
        }
        let loader = Arc::clone(&self.loader);
        let pause = ledger.load_pause(Moment::now());
        let load = async move {
            // Even a sleep of zero lasts until the timer's next millisecond.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let work = move || loader.load(digest);
            match turns {
                Some(turns) => {
                    let loaded = turns.run(Arc::clone(ledger), work).await;
                    loaded.unwrap_or_else(|| Err(anyhow::anyhow!("the gateway stops")))
                }
                None => tokio::task::spawn_blocking(work).await?,
            }
        };
        self.cache.try_get_with(digest, load).await
    }
}

impl Loader {
    fn load(&self, digest: Digest) -> anyhow::Result<Arc<Ready>> {
        self.metrics.component_loaded();
        let code = self.artifacts.open_code(digest)?;
        let bytes = u32::try_from(code.bytes).unwrap_or(u32::MAX);
        // Lets other threads run: each load takes up to a millisecond.
        std::thread::yield_now();
        let (engine, linkers) = self.engines.of(code.calls);
        let component = map(engine, &code.path())?;
        std::thread::yield_now();
        let pre = linkers.link(&component)?;
        std::thread::yield_now();
        let (listener, timed) = (MessageHandler::of(&pre), ScheduleHandler::of(&pre));
        let http = Handler::each(&pre);
        let is_any = http.iter().any(Option::is_some) || listener.is_some() || timed.is_some();
        anyhow::ensure!(is_any, "the component has no handler");
        let required = component.resources_required();
        let memories = required.as_ref().map_or(0, |resources| resources.num_memories);
        let initial = required.and_then(|resources| resources.max_initial_memory_size).unwrap_or(0);
        let ended = self.ended.clone();
        Ok(Arc::new(Ready { engine: engine.clone(), http, listener, timed, memories, initial, ended, bytes }))
    }
}

#[expect(unsafe_code, reason = "mapping compiled code is what the compiled folder is for")]
fn map(engine: &Engine, path: &std::path::Path) -> anyhow::Result<Component> {
    // SAFETY: `Artifacts` vouches for the folder and for this open file: both belong to this user, nobody else may write to
    // them, and the file has the digest that was noted when an engine with these settings wrote it. Wasmtime checks its
    // version and the settings once more.
    Ok(unsafe { Component::deserialize_file(engine, path)? })
}
