//! Compiles in a child process, because hostile wasm may exhaust a stack or take minutes to parse, and must not harm the
//! gateway.
//!
//! This file is the child's work; `child` starts and watches it, and `compiler` decides which component is next. The child
//! is this binary (`tollgate compile-component`). It gets the bytes on standard input and nothing of our environment. From
//! then on it opens no file, no socket and no process (`confine`). It has a low scheduling priority, limits its own memory
//! and processor time, and works on a thread with a smaller stack than ours, under the pool's own limits: what passes there
//! passes here.
//!
//! Limit: [`CODE_BYTES_MAX`] of code; [`NAMES_MAX`] names of imports and exports, with [`NAMES_BYTES_MAX`] in all; and
//! texts of [`TEXT_BYTES_MAX`]. So a report is within [`REPORT_BYTES_MAX`], above which the parent kills the child.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use wasmtime::component::Component;

use super::artifacts::Report;
use super::engine::{Calls, Each};
use super::handler::Handler;
use super::imports::Unlinked;
use super::message::MessageHandler;
use super::modules::{self, Unfit};
use super::recipe::{Misfit, Recipe};
use super::schedule_handler::ScheduleHandler;
use super::slots::Slots;
use super::spawn::Work;
use super::{compose, engine, fault_injection, imports, signature, versions};
use crate::host;

/// The most code that one component may compile to.
pub(super) const CODE_BYTES_MAX: usize = 256 << 20;
/// Less than the 2 MiB of the gateway's own threads.
pub(super) const CHILD_STACK_BYTES: usize = 1 << 20;
/// The most imports and exports of a component. The complete worlds of SDKs have about a hundred.
pub(super) const NAMES_MAX: usize = 1_000;
/// Bytes of all their names.
pub(super) const NAMES_BYTES_MAX: usize = 64 << 10;
/// Bytes of a text in a report or a complaint. The rest is cut off.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// The most that a child may write: all names twice, in JSON's longest encoding, and texts.
pub(super) const REPORT_BYTES_MAX: usize = 1 << 20;

/// A page of linear memory (WebAssembly core specification, §4.2.8).
const WASM_PAGE_BYTES: u64 = 64 << 10;
/// Exit code: the component is at fault, not the machine.
pub(super) const INVALID: i32 = 3;
/// Exit code: it is a core module that the gateway cannot start.
pub(super) const NO_HANDLER: i32 = 4;
/// Exit code: a part is at fault, and the output is a [`Misfit`].
pub(super) const MISFIT: i32 = 5;

/// What a child is told beside its bounds.
#[derive(Debug, clap::Args)]
pub(crate) struct Begun {
    #[arg(long)]
    nice: i32,
    /// The process that waits for it
    #[arg(long)]
    parent: i32,
    /// For tests: nothing of a release does anything with it
    #[arg(long)]
    pretend: Option<String>,
}

/// The child's work: reads wasm from standard input, writes code to a file and the report to standard output. Returns its
/// exit code.
///
/// Hostile bytes come only through standard input, and this process confines itself before it reads the first of them.
///
/// # Errors
/// Everything that is not the component's fault.
pub(crate) fn compile_in_child(out: &Path, work: &Work, begun: Begun) -> anyhow::Result<i32> {
    // A panic quotes its subject, which may be text of the component.
    std::panic::set_hook(Box::new(|panic| {
        let _closed = writeln!(std::io::stderr(), "{}", cut(&panic.to_string()));
    }));
    // If the gateway is killed, no child is left behind, above all none that waits.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
    anyhow::ensure!(parent == Some(begun.parent), "its parent is gone");
    // Serving has priority. If the machine does not allow a nice value, compiling goes on without it.
    let _nicer = rustix::process::nice(begun.nice);
    let engines = Each::try_from(|calls| {
        let (compiling, pooling) =
            (engine::compiling(calls, work.metering)?, engine::pooling(calls, 1, work.metering, Slots::Whole)?);
        anyhow::Ok(Engines { calls, compiling, pooling })
    })?;
    bound(work.memory, work.seconds)?;
    let out = open(out).with_context(|| format!("cannot write {}", out.display()))?;
    begun.pretend.iter().for_each(|what| fault_injection::act_before(what));
    if work.confine {
        // The gateway itself logs once what the kernel cannot restrict.
        let _outcome = crate::confine::child();
    }
    let mut wasm = Vec::new();
    std::io::stdin().lock().read_to_end(&mut wasm)?;
    let work = std::thread::Builder::new()
        .stack_size(CHILD_STACK_BYTES)
        .spawn(move || {
            begun.pretend.iter().for_each(|what| fault_injection::act(what));
            match component_of(&wasm)? {
                Ok(component) => {
                    if let Some(unlinked) = imports::unlinked(&component, is_served) {
                        return Ok(of_unlinked(unlinked).map_err(|complaint| (INVALID, complaint.into_bytes())));
                    }
                    let compiled = compile(&engines, &component, &out)?;
                    Ok(compiled.map_err(|complaint| (INVALID, cut(&complaint).into_bytes())))
                }
                Err(refused) => Ok(Err(refused)),
            }
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

/// The file for the code, which the gateway created.
fn open(out: &Path) -> std::io::Result<File> {
    let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    File::options().write(true).custom_flags(no_links).open(out)
}

/// Limits what this process may use from here on.
fn bound(memory: u64, seconds: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let at_most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // The pools' reservation is address space, not memory.
    setrlimit(Resource::As, at_most(memory.saturating_add(address_space()?))).context("cannot bound memory")?;
    // All threads share this time. The signal at the first limit names its cause; the signal at the second one could come
    // from anybody.
    let time = Rlimit { current: Some(seconds), maximum: Some(seconds.saturating_add(2)) };
    setrlimit(Resource::Cpu, time).context("cannot bound processor time")?;
    setrlimit(Resource::Core, at_most(0)).context("cannot switch off core dumps")
}

/// Shortens a text that quotes the component, and removes control characters, because operators read it in terminals.
fn cut(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if shown.len() + letter.len_utf8() > TEXT_BYTES_MAX {
            shown.push('…');
            break;
        }
        shown.push(letter);
    }
    shown
}

/// The engine that compiles, and the one that will run the code.
struct Engines {
    calls: Calls,
    compiling: wasmtime::Engine,
    pooling: wasmtime::Engine,
}

/// Bytes of address space that this process uses now (proc_pid_statm(5)).
fn address_space() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages: u64 = statm.split(' ').next().unwrap_or_default().parse().context("/proc/self/statm has no number")?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// A child's exit code, and its output.
type Refused = (i32, Vec<u8>);

/// The component in a child's input, or the one that the input is composed to.
fn component_of(input: &[u8]) -> anyhow::Result<Result<Cow<'_, [u8]>, Refused>> {
    if Recipe::is_one(input) {
        let part = |bytes| {
            part_of(bytes).map_err(|unfit| match unfit {
                Unfit::Invalid(why) | Unfit::NoHandler(why) => why,
            })
        };
        return Ok(match compose::composed(input, part) {
            Ok(component) => Ok(component),
            Err(Misfit { part, summary, found, wanted }) => {
                let [summary, found, wanted] = [summary, found, wanted].map(|text| cut(&text));
                Err((MISFIT, serde_json::to_vec(&Misfit { part, summary, found, wanted })?))
            }
        });
    }
    Ok(part_of(input).map_err(|unfit| match unfit {
        Unfit::Invalid(why) => (INVALID, cut(&why).into_bytes()),
        Unfit::NoHandler(why) => (NO_HANDLER, cut(&why).into_bytes()),
    }))
}

/// A component from one file: made from a core module if it is one, with the versions that are linked here.
fn part_of(wasm: &[u8]) -> Result<Cow<'_, [u8]>, Unfit> {
    match modules::component_of(wasm)? {
        Cow::Borrowed(component) => versions::respelt(component).map_err(Unfit::Invalid),
        Cow::Owned(component) => {
            let respelt = versions::respelt(&component).map_err(Unfit::Invalid)?.into_owned();
            Ok(Cow::Owned(respelt))
        }
    }
}

/// Compiles for the engine that supports less, if that is enough for the component. The inner error is the component's
/// fault.
fn compile(engines: &Each<Engines>, wasm: &[u8], out: &File) -> anyhow::Result<Result<Report, String>> {
    // Reading already refuses `async`, before anything is compiled.
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

/// Most of these are `async`, and the engine for single calls refuses their types. The rest are served together with them.
fn is_of_03(import: &str) -> bool {
    import.starts_with("wasi:") && import.contains("@0.3.")
}

/// Stores compiled code that is within the limits.
fn look_at(engines: &Engines, code: &[u8], mut out: &File) -> anyhow::Result<Result<Report, String>> {
    if code.len() > CODE_BYTES_MAX {
        let (has, max) = (code.len() >> 20, CODE_BYTES_MAX >> 20);
        return Ok(Err(format!("it compiles to {has} MiB of code; the maximum is {max} MiB")));
    }
    // Replaces what the previous engine wrote.
    let written = out.set_len(0).and_then(|()| out.rewind()).and_then(|()| out.write_all(code));
    written.context("cannot write the code")?;
    // Loading checks the pool's limits: core instances, memories, tables, and their sizes.
    match load(&engines.pooling, code) {
        Ok(component) => report(engines, &component),
        Err(error) => Ok(Err(format!("an instance of it does not fit into a slot of the pool: {error:#}"))),
    }
}

#[expect(unsafe_code, reason = "deserialising compiled code is how a component is looked at without compiling twice")]
fn load(engine: &wasmtime::Engine, code: &[u8]) -> anyhow::Result<Component> {
    // SAFETY: the bytes come from `precompile_component` of this very engine a moment ago and never left this process.
    Ok(unsafe { Component::deserialize(engine, code)? })
}

/// How the names of exports that answer requests begin, and their names in a report.
const HANDLERS: [(&str, &str); 3] = [
    ("wasi:http/incoming-handler@0.2", "0.2"),
    ("wasi:http/handler@0.3", "0.3"),
    ("fermyon:spin/inbound-http", "spin-1"),
];

/// Whether there are more names than a report may have; if so, in words for the component's developer.
fn too_many<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    let (mut count, mut bytes) = (0, 0);
    for name in names {
        (count, bytes) = (count + 1, bytes + name.len());
        if count > NAMES_MAX || bytes > NAMES_BYTES_MAX {
            let max = NAMES_BYTES_MAX >> 10;
            return Some(format!("it imports and exports more than {NAMES_MAX} names, or more than {max} KiB of them"));
        }
    }
    None
}

/// Whether the linker has an interface with this name.
fn is_served(import: &str) -> bool {
    host::is_refusal(import) || host::standing(import) == host::Standing::Served
}

/// The request handler, judged by the names of exports alone.
fn handler_by_name(exports: &[String]) -> Option<&'static str> {
    HANDLERS.iter().find(|(name, _)| exports.iter().any(|export| export.starts_with(name))).map(|(_, name)| *name)
}

/// Whether a message or a schedule may start it, judged by the names of exports alone.
fn started_by_name(exports: &[String]) -> (bool, bool) {
    let exported = |name: &str| exports.iter().any(|export| export.starts_with(name));
    let listens = exported("fermyon:spin/inbound-redis") || exported("spin:redis/inbound-redis@3");
    (listens, exported("handle-cron-event"))
}

/// The report about a component that was not compiled because it cannot be linked. The error is the component's fault.
fn of_unlinked(unlinked: Unlinked) -> Result<Report, String> {
    let Unlinked { imports, exports, unserved } = unlinked;
    if let Some(refused) = too_many(imports.iter().chain(&exports).map(String::as_str)) {
        return Err(refused);
    }
    let handler = handler_by_name(&exports).map(str::to_owned);
    let (listens, is_timed) = started_by_name(&exports);
    let link_error = Some("it was not compiled: an import is not served".to_owned());
    Ok(Report { imports, exports, handler, listens, is_timed, unserved, link_error, ..Report::default() })
}

/// The report about a component. The inner error is the component's fault.
fn report(engines: &Engines, component: &Component) -> anyhow::Result<Result<Report, String>> {
    let (calls, engine) = (engines.calls, &engines.pooling);
    let kind = component.component_type();
    let of_it = kind.imports(engine).map(|(name, _)| name).chain(kind.exports(engine).map(|(name, _)| name));
    if let Some(refused) = too_many(of_it) {
        return Ok(Err(refused));
    }
    let imports: Vec<String> = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let linked = host::Linkers::new(engine, calls == Calls::Concurrent)?.link(component);
    // If the component links, its handlers are looked up; otherwise the names must do.
    let (unserved, link_error, handler, (listens, is_timed)) = match linked {
        Ok(pre) => {
            let handler = Handler::of(&pre).map(|handler| handler.name());
            (Vec::new(), None, handler, (MessageHandler::of(&pre).is_some(), ScheduleHandler::of(&pre).is_some()))
        }
        Err(error) => (
            imports.iter().filter(|import| !is_served(import)).cloned().collect(),
            Some(cut(&format!("{error:#}"))),
            handler_by_name(&exports),
            started_by_name(&exports),
        ),
    };
    let handler = handler.map(str::to_owned);
    let pages = component.resources_required().and_then(|resources| resources.max_initial_memory_size);
    let memory_bytes_min = pages.unwrap_or(0).saturating_mul(WASM_PAGE_BYTES);
    let handler_error = signature::problem(&kind, engine).map(|problem| cut(&problem));
    Ok(Ok(Report {
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
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_report_and_the_longest_complaint_fit_a_parents_limit() {
        // Each name twice, with the letters whose JSON encoding is longest.
        let names = vec!["\u{1}".repeat(NAMES_BYTES_MAX / NAMES_MAX); NAMES_MAX];
        let text = Some(cut(&"\"".repeat(2 * TEXT_BYTES_MAX)));
        let report = Report {
            imports: names.clone(),
            unserved: names,
            link_error: text.clone(),
            handler_error: text,
            ..Report::default()
        };
        assert!(serde_json::to_vec(&report).unwrap().len() < REPORT_BYTES_MAX);
        assert!(cut(&"ä\n".repeat(TEXT_BYTES_MAX)).len() <= TEXT_BYTES_MAX + '…'.len_utf8());
        assert_eq!(cut("a\u{1b}[31mb"), "a [31mb");
    }

    #[test]
    fn names_are_limited_in_number_and_in_total_length() {
        let names = |count: usize, letters: usize| vec!["a".repeat(letters); count];
        let refused = |names: Vec<String>| too_many(names.iter().map(String::as_str)).is_some();
        assert!(!refused(names(NAMES_MAX, 60)));
        assert!(refused(names(NAMES_MAX + 1, 1)));
        assert!(!refused(names(1, NAMES_BYTES_MAX)));
        assert!(refused(names(1, NAMES_BYTES_MAX + 1)));
    }
}
