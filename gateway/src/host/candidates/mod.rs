//! The candidates of WASI 0.2 from October and November 2023, which components of Spin's SDK 2 import.
//!
//! Nothing is implemented twice: each function calls that of 0.2, with the same resources in the same table, so that
//! grants, quotas and prices are the same. This folder has only the names, and the types that differ. The WIT is in
//! `wit/wasi-2023-10-18` and `wit/wasi-2023-11-10`; a test links a component that imports all of it.
//!
//! A component that imports a candidate gets its own linker when it is loaded. Others pay nothing.

pub(super) mod cli;
pub(super) mod files;
pub(super) mod http;
mod http_october;
pub(super) mod io;
mod sockets;
#[cfg(test)]
mod tests;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceTable, Val};
use wasmtime_wasi::WasiCtxView;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCliCtxView, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocksCtxView, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystemCtxView, WasiFilesystemView as _};
use wasmtime_wasi::random::{WasiRandomCtx, WasiRandomView as _};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView as _};

use super::Guest;
use super::denied::weight;
use crate::tenant::cost;

/// The exports by which components answer requests, one name for each candidate.
pub(crate) const HANDLERS: [&str; 2] =
    ["wasi:http/incoming-handler@0.2.0-rc-2023-10-18", "wasi:http/incoming-handler@0.2.0-rc-2023-11-10"];

/// One of the two candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    October,
    November,
}

impl Candidate {
    const ALL: [Self; 2] = [Self::October, Self::November];

    const fn version(self) -> &'static str {
        match self {
            Self::October => "0.2.0-rc-2023-10-18",
            Self::November => "0.2.0-rc-2023-11-10",
        }
    }

    /// Opens one of its interfaces, to define functions in it.
    fn open<'a>(self, linker: &'a mut Linker<Guest>, interface: &str) -> wasmtime::Result<LinkerInstance<'a, Guest>> {
        linker.instance(&format!("{interface}@{}", self.version()))
    }

    /// Whether an import belongs to this candidate.
    fn has(self, import: &str) -> bool {
        import.starts_with("wasi:") && import.split_once('@').is_some_and(|(_, version)| version == self.version())
    }
}

/// A linker with the candidates that a component imports. Nothing if it imports none.
///
/// # Errors
/// Two interfaces have the same name. This is a build error.
pub(super) fn with(linker: &Linker<Guest>, component: &Component) -> wasmtime::Result<Option<Linker<Guest>>> {
    let engine = component.engine();
    let kind = component.component_type();
    let mut more = None;
    for candidate in Candidate::ALL {
        if !kind.imports(engine).any(|(name, _)| candidate.has(name)) {
            continue;
        }
        let linker = more.get_or_insert_with(|| linker.clone());
        io::add(linker, candidate)?;
        cli::add(linker, candidate)?;
        files::add(linker, candidate)?;
        http::add(linker, candidate)?;
        for (name, import) in kind.imports(engine).filter(|(name, _)| candidate.has(name)) {
            if let (Some(interface), ComponentItem::ComponentInstance(import)) =
                (name.strip_prefix("wasi:sockets/"), import.ty)
            {
                sockets::add(linker.instance(name)?, interface, &import, engine)?;
            }
        }
    }
    Ok(more)
}

/// Defines functions by name, each by one of 0.2: the state that it works on, and how its result is returned. What a call
/// carries in both directions is charged here.
macro_rules! functions {
    ($to:ident, $view:path; $($name:literal = $function:path as $tell:path, ($($argument:ident),*);)*) => {$(
        $to.func_wrap($name, |mut store: wasmtime::StoreContextMut<'_, crate::host::Guest>, ($($argument,)*)| {
            let guest = store.data_mut();
            guest.charge(0_u64 $(.saturating_add($crate::host::priced::Weight::weight(&$argument)))*);
            let answer = $function(&mut $view(guest), $($argument),*);
            let told = $tell(guest, answer)?;
            guest.charge($crate::host::priced::Weight::weight(&told));
            Ok(told)
        })?;
    )*};
}
pub(in crate::host) use functions;

/// The same for functions that wait.
macro_rules! waiting {
    ($to:ident, $view:path; $($name:literal = $function:path as $tell:path, ($($argument:ident),*);)*) => {$(
        $to.func_wrap_async($name, |mut store: wasmtime::StoreContextMut<'_, crate::host::Guest>, ($($argument,)*)| {
            Box::new(async move {
                let guest = store.data_mut();
                guest.charge(0_u64 $(.saturating_add($crate::host::priced::Weight::weight(&$argument)))*);
                let answer = $function(&mut $view(guest), $($argument),*).await;
                let told = $tell(guest, answer)?;
                guest.charge($crate::host::priced::Weight::weight(&told));
                Ok(told)
            })
        })?;
    )*};
}
pub(in crate::host) use waiting;

/// Defines resources by name, each with 0.2's type.
macro_rules! resources {
    ($to:ident, $view:path; $($name:literal = $kind:ty, $drop:path;)*) => {$(
        $to.resource($name, wasmtime::component::ResourceType::host::<$kind>(), |mut store, index| {
            $drop(&mut $view(store.data_mut()), wasmtime::component::Resource::new_own(index))
        })?;
    )*};
}
use resources;

/// Returns a result that cannot fail.
pub(in crate::host) fn plain<T>(_: &mut Guest, answer: wasmtime::Result<T>) -> wasmtime::Result<(T,)> {
    Ok((answer?,))
}

/// For functions without a result.
pub(in crate::host) fn nothing(_: &mut Guest, answer: wasmtime::Result<()>) -> wasmtime::Result<()> {
    answer
}

/// Defines a function that always returns this error. If it has a resource argument, that is a `T`.
fn refuse<T: 'static>(
    instance: &mut LinkerInstance<'_, Guest>,
    name: &str,
    error: &'static str,
) -> wasmtime::Result<()> {
    instance.func_new(name, move |mut store, _, arguments, answers| {
        store.data_mut().charge(cost::REFUSAL.saturating_add(weight(arguments)));
        // A handle that was lent for the call must be returned explicitly.
        for argument in arguments {
            if let Val::Resource(lent) = argument {
                lent.try_into_resource::<T>(&mut store)?;
            }
        }
        let Some(answer) = answers.first_mut() else { return Err(wasmtime::Error::msg(error)) };
        *answer = Val::Result(Err(Some(Box::new(Val::Enum(error.to_owned())))));
        Ok(())
    })
}

pub(in crate::host) fn table(guest: &mut Guest) -> &mut ResourceTable {
    let WasiCtxView { table, .. } = guest.ctx();
    table
}

pub(in crate::host) fn cli_of(guest: &mut Guest) -> WasiCliCtxView<'_> {
    guest.cli()
}

fn clocks(guest: &mut Guest) -> WasiClocksCtxView<'_> {
    guest.clocks()
}

fn random(guest: &mut Guest) -> &mut WasiRandomCtx {
    guest.random()
}

pub(in crate::host) fn filesystem(guest: &mut Guest) -> WasiFilesystemCtxView<'_> {
    guest.filesystem()
}

pub(in crate::host) fn http_of(guest: &mut Guest) -> WasiHttpCtxView<'_> {
    guest.http()
}
