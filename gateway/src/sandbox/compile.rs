//! Compiling, in a child process: parsing hostile wasm may exhaust a stack or take minutes, and must not take us along.
//!
//! The child is this binary (`tollgate compile-component`). It gets the bytes on its standard input and nothing of our
//! environment, opens no file, no socket and no process from then on (`confine`), is the last to get a processor, bounds its
//! own memory and processor time, and works on a thread with less stack than ours have and under the pool's own bounds, so
//! that what passes there passes here.
//!
//! Limit: [`CHILDREN_MAX`] children, each on half of the processors; [`CODE_BYTES_MAX`] of code. What failed is remembered,
//! on disk, and not tried again within the same bounds.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use wasmtime::component::Component;

use super::artifacts::{Artifacts, Report};
use super::engine::{Calls, Each};
use super::handler::Handler;
use super::message::Listener;
use super::modules::{self, Unfit};
use super::recipe::{Misfit, Recipe};
use super::spawn::{Child, Starter, Work};
use super::timed::Timed;
use super::{Settings, compose, engine, signature, versions};
use crate::deadline::Deadline;
use crate::host;
use crate::ids::Digest;
use crate::telemetry::Metrics;

/// Children at once.
pub(super) const CHILDREN_MAX: usize = 2;
/// The most code that one component may compile to.
const CODE_BYTES_MAX: usize = 256 << 20;
/// What is kept of a child's words.
const WORDS_BYTES_MAX: u64 = 64 << 10;
/// Less than the 2 MiB that the gateway's own threads have.
const CHILD_STACK_BYTES: usize = 1 << 20;

/// Why a component cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum CompileError {
    #[error("it is not a valid component: {0}")]
    Invalid(String),
    #[error("{0}")]
    NoHandler(String),
    #[error("compiling took longer than {0:?}")]
    TimedOut(Duration),
    #[error("compiling ended the compiler: {0}")]
    Crashed(String),
    /// Its parts cannot be joined.
    #[error("{0}")]
    Misfit(Misfit),
    #[error("the compiler could not be run: {0}")]
    Failed(String),
}

/// Runs children, a few at a time.
#[derive(Debug)]
pub(crate) struct Compiler {
    artifacts: Artifacts,
    starter: Starter,
    work: Work,
    memory: u64,
    time: Duration,
    places: Semaphore,
    /// Digests that somebody compiles now: whoever else wants one waits for it.
    under_way: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    metrics: Arc<Metrics>,
}

impl Compiler {
    /// # Errors
    /// In words for the operator: the folder of compiled components cannot be used.
    pub(crate) fn open(settings: &Settings, starter: Starter, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        Ok(Self {
            artifacts: Artifacts::open(
                &settings.compiled,
                &Each::try_from(|calls| engine::compiling(calls, settings.metering))?,
            )?,
            starter,
            work: Work::of(settings),
            memory: settings.compile_memory,
            time: settings.compile_time,
            places: Semaphore::new(CHILDREN_MAX),
            under_way: Mutex::default(),
            metrics,
        })
    }

    /// The folder that it compiles into.
    pub(super) fn artifacts(&self) -> Artifacts {
        self.artifacts.clone()
    }

    /// What came of a component that was compiled before.
    pub(crate) fn known(&self, digest: Digest) -> Option<Result<Report, CompileError>> {
        let report = self.artifacts.report(digest).map(Ok);
        report.or_else(|| self.artifacts.refusal(digest, self.memory, self.time).map(Err))
    }

    /// The report of a component, compiling it first where nobody has.
    ///
    /// # Errors
    /// [`CompileError`]: what is wrong with the component, or with compiling it.
    pub(crate) async fn prepare(&self, digest: Digest, wasm: Arc<[u8]>) -> Result<Report, CompileError> {
        let under_way = || self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(under_way().entry(digest).or_default());
        let done = async {
            let _turn = turn.lock().await;
            self.compile_once(digest, &wasm).await
        };
        let done = done.await;
        under_way().remove(&digest);
        done
    }

    async fn compile_once(&self, digest: Digest, wasm: &[u8]) -> Result<Report, CompileError> {
        let _place = self.places.acquire().await.map_err(|_closed| failed("shutting down"))?;
        if let Some(known) = self.known(digest) {
            return known;
        }
        let code = self.artifacts.scratch().map_err(failed)?;
        let report = Deadline::after(self.time).run(self.run_child(&code, wasm)).await;
        let report = report.unwrap_or(Err(CompileError::TimedOut(self.time)));
        self.metrics.compiled();
        match report {
            Ok(report) => self.artifacts.keep(digest, code, report).map_err(failed),
            Err(error) => {
                // A failure of the machine's may pass; one of the component's does not.
                if !matches!(error, CompileError::Failed(_))
                    && let Err(cause) = self.artifacts.keep_refusal(digest, &error, self.memory, self.time)
                {
                    tracing::warn!(target: "sandbox", %digest, %cause, "a failed compilation cannot be remembered");
                }
                Err(error)
            }
        }
    }

    /// Cancel safety: a child whose wait is dropped is killed.
    async fn run_child(&self, code: &Path, wasm: &[u8]) -> Result<Report, CompileError> {
        let child = self.starter.start(&self.work, code).map_err(failed)?;
        let Child { mut stdin, stdout, stderr, mut end } = child;
        let send = async move {
            // A child that died has closed its end; its exit tells why.
            let _broken_pipe = stdin.write_all(wasm).await;
        };
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (stdout.take(WORDS_BYTES_MAX), stderr.take(WORDS_BYTES_MAX));
        let words = async { tokio::join!(stdout.read_to_end(&mut said), stderr.read_to_end(&mut complained)) };
        let ((), _words) = tokio::join!(send, words);
        let status = end.wait().await.map_err(failed)?;
        let complaint = String::from_utf8_lossy(&complained).trim().to_owned();
        match status.code() {
            Some(0) => serde_json::from_slice(&said).map_err(failed),
            Some(INVALID) => Err(CompileError::Invalid(printable(&complaint))),
            Some(NO_HANDLER) => Err(CompileError::NoHandler(printable(&complaint))),
            // What the composer gave up with stands before it.
            Some(MISFIT) => {
                let said = complaint.lines().last().unwrap_or_default();
                Err(serde_json::from_str(said).map_or_else(failed, CompileError::Misfit))
            }
            Some(code) => Err(failed(format!("exit code {code}: {complaint}"))),
            // Killed: out of stack, memory or processor time.
            None => Err(CompileError::Crashed(status.to_string())),
        }
    }
}

/// A complaint quotes names that the component chose, and ends in operators' terminals.
fn printable(complaint: &str) -> String {
    complaint.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn failed(error: impl std::fmt::Display) -> CompileError {
    CompileError::Failed(error.to_string())
}

/// A page of linear memory (WebAssembly core specification, §4.2.8).
const WASM_PAGE_BYTES: u64 = 64 << 10;
/// How a child says that the component is at fault, and not the machine.
const INVALID: i32 = 3;
/// That it is a core module which nothing here starts.
const NO_HANDLER: i32 = 4;
/// The same of a part, and what it says is a [`Misfit`].
const MISFIT: i32 = 5;

/// The child's work: wasm from standard input, code to `out`, the report to standard output. Returns its exit code.
///
/// What is hostile comes in by standard input, and before a byte of it is read this process has confined itself.
///
/// # Errors
/// Everything that is not the component's fault.
pub(crate) fn compile_in_child(out: &Path, work: &Work) -> anyhow::Result<i32> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let bound = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // Whoever serves goes first. A machine that does not let us be nice lets us compile.
    let _nicest = rustix::process::nice(19);
    let engines = Each::try_from(|calls| {
        let (compiling, pooling) =
            (engine::compiling(calls, work.metering)?, engine::pooling(calls, 1, work.metering)?);
        anyhow::Ok(Engines { calls, compiling, pooling })
    })?;
    // The pools' reservation is address space and no memory.
    setrlimit(Resource::As, bound(work.memory.saturating_add(address_space()?))).context("cannot bound memory")?;
    // Several threads share this time; the parent's deadline is the one on the clock.
    setrlimit(Resource::Cpu, bound(work.seconds.saturating_mul(4))).context("cannot bound processor time")?;
    setrlimit(Resource::Core, bound(0)).context("cannot switch off core dumps")?;
    let out = open(out).with_context(|| format!("cannot write {}", out.display()))?;
    if work.confine {
        // What the kernel lacks is told by the gateway, once.
        let _outcome = crate::confine::child();
    }
    let mut wasm = Vec::new();
    std::io::stdin().lock().read_to_end(&mut wasm)?;
    let work = std::thread::Builder::new()
        .stack_size(CHILD_STACK_BYTES)
        .spawn(move || match component_of(&wasm)? {
            Ok(component) => {
                let compiled = compile(&engines, &component, &out)?;
                Ok(compiled.map_err(|complaint| (INVALID, complaint.into_bytes())))
            }
            Err(refused) => Ok(Err(refused)),
        })
        .context("cannot start a thread")?;
    let done: anyhow::Result<Result<Report, Refused>> =
        work.join().map_err(|_panicked| anyhow::anyhow!("the compiler panicked"))?;
    match done? {
        Ok(report) => {
            std::io::stdout().lock().write_all(&serde_json::to_vec(&report)?)?;
            Ok(0)
        }
        Err((code, complaint)) => {
            std::io::stderr().lock().write_all(&complaint)?;
            Ok(code)
        }
    }
}

/// The file that code goes to, which the gateway made.
fn open(out: &Path) -> std::io::Result<File> {
    let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    File::options().write(true).custom_flags(no_links).open(out)
}

/// What code is made with, and what will run it.
struct Engines {
    calls: Calls,
    compiling: wasmtime::Engine,
    pooling: wasmtime::Engine,
}

/// Bytes of address space that this process has taken by now (proc_pid_statm(5)).
fn address_space() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages: u64 = statm.split(' ').next().unwrap_or_default().parse().context("/proc/self/statm has no number")?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// A child's exit code, and what it says.
type Refused = (i32, Vec<u8>);

/// The component that a child's input is or comes to.
fn component_of(input: &[u8]) -> anyhow::Result<Result<Cow<'_, [u8]>, Refused>> {
    if Recipe::is_one(input) {
        let part = |bytes| {
            part_of(bytes).map_err(|unfit| match unfit {
                Unfit::Invalid(why) | Unfit::NoHandler(why) => why,
            })
        };
        return Ok(match compose::composed(input, part) {
            Ok(component) => Ok(component),
            Err(misfit) => Err((MISFIT, serde_json::to_vec(&misfit)?)),
        });
    }
    Ok(part_of(input).map_err(|unfit| match unfit {
        Unfit::Invalid(why) => (INVALID, why.into_bytes()),
        Unfit::NoHandler(why) => (NO_HANDLER, why.into_bytes()),
    }))
}

/// A component of one file: made of a core module where it is one, under the versions that are linked here.
fn part_of(wasm: &[u8]) -> Result<Cow<'_, [u8]>, Unfit> {
    match modules::component_of(wasm)? {
        Cow::Borrowed(component) => versions::respelt(component).map_err(Unfit::Invalid),
        Cow::Owned(component) => {
            let respelt = versions::respelt(&component).map_err(Unfit::Invalid)?.into_owned();
            Ok(Cow::Owned(respelt))
        }
    }
}

/// Compiles for the engine that does less, where the component is content with that. The inner error is its fault.
fn compile(engines: &Each<Engines>, wasm: &[u8], out: &File) -> anyhow::Result<Result<Report, String>> {
    // What is `async` is refused while it is read, before anything is compiled.
    if let Ok(code) = engines.single.compiling.precompile_component(wasm) {
        match look_at(&engines.single, &code, out)? {
            Ok(report) if report.imports.iter().any(|import| is_of_03(import)) => {}
            looked_at => return Ok(looked_at),
        }
    }
    match engines.concurrent.compiling.precompile_component(wasm) {
        Ok(code) => look_at(&engines.concurrent, &code, out),
        Err(error) => Ok(Err(format!("{error:#}"))),
    }
}

/// Most of these are `async`, and the engine for single calls refuses their types; the rest is served with those.
fn is_of_03(import: &str) -> bool {
    import.starts_with("wasi:") && import.contains("@0.3.")
}

/// Keeps compiled code that is within bounds.
fn look_at(engines: &Engines, code: &[u8], mut out: &File) -> anyhow::Result<Result<Report, String>> {
    if code.len() > CODE_BYTES_MAX {
        let (has, max) = (code.len() >> 20, CODE_BYTES_MAX >> 20);
        return Ok(Err(format!("it compiles to {has} MiB of code, and {max} MiB is the most")));
    }
    // In the place of what the engine before wrote.
    let written = out.set_len(0).and_then(|()| out.rewind()).and_then(|()| out.write_all(code));
    written.context("cannot write the code")?;
    // Here the pool's bounds are looked at: core instances, memories, tables, and their sizes.
    match load(&engines.pooling, code) {
        Ok(component) => Ok(Ok(report(engines, &component)?)),
        Err(error) => Ok(Err(format!("no instance of it fits into a slot of the pool: {error:#}"))),
    }
}

#[expect(unsafe_code, reason = "deserialising compiled code is how a component is looked at without compiling twice")]
fn load(engine: &wasmtime::Engine, code: &[u8]) -> anyhow::Result<Component> {
    // SAFETY: the bytes come from `precompile_component` of this very engine a moment ago and never left this process.
    Ok(unsafe { Component::deserialize(engine, code)? })
}

/// How the exports that answer requests begin, and what a report calls them.
const HANDLERS: [(&str, &str); 3] = [
    ("wasi:http/incoming-handler@0.2", "0.2"),
    ("wasi:http/handler@0.3", "0.3"),
    ("fermyon:spin/inbound-http", "spin-1"),
];

fn report(engines: &Engines, component: &Component) -> anyhow::Result<Report> {
    let (calls, engine) = (engines.calls, &engines.pooling);
    let kind = component.component_type();
    let imports: Vec<String> = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let linked = host::Linkers::new(engine, calls == Calls::Concurrent)?.link(component);
    let served = |import: &str| host::is_refusal(import) || host::standing(import) == host::Standing::Served;
    let exported = |name: &str| exports.iter().any(|export| export.starts_with(name));
    // A component that links is asked in earnest; of one that does not, the names must do.
    let (unserved, link_error, handler, (listens, is_timed)) = match linked {
        Ok(pre) => {
            let handler = Handler::of(&pre).map(|handler| handler.name());
            (Vec::new(), None, handler, (Listener::of(&pre).is_some(), Timed::of(&pre).is_some()))
        }
        Err(error) => (
            imports.iter().filter(|import| !served(import)).cloned().collect(),
            Some(format!("{error:#}")),
            HANDLERS.iter().find(|(export, _)| exported(export)).map(|(_, name)| *name),
            (
                exported("fermyon:spin/inbound-redis") || exported("spin:redis/inbound-redis@3"),
                exported("handle-cron-event"),
            ),
        ),
    };
    let handler = handler.map(str::to_owned);
    let pages = component.resources_required().and_then(|resources| resources.max_initial_memory_size);
    let memory_bytes_min = pages.unwrap_or(0).saturating_mul(WASM_PAGE_BYTES);
    let handler_error = signature::problem(&kind, engine);
    Ok(Report {
        imports,
        exports,
        calls,
        handler,
        listens,
        is_timed,
        unserved,
        link_error,
        handler_error,
        memory_bytes_min,
        code_sha256: String::new(),
    })
}
