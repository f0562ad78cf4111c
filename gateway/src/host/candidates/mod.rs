//! The candidates of WASI 0.2 of October and November 2023, which components of Spin's SDK 2 import.
//!
//! Nothing is implemented twice: each function leads to the one of 0.2, with the same resources in the same table, so that
//! grants, quotas and what a call costs hold as they do there. Here are names, and the types that differ. The WIT is in
//! `wit/wasi-2023-10-18` and `wit/wasi-2023-11-10`; a test links a component that imports all of it.
//!
//! A component that imports a candidate gets a linker of its own, which is made when it is loaded; the others pay nothing.

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

/// What components export to answer requests, one name for each candidate.
pub(crate) const HANDLERS: [&str; 2] =
    ["wasi:http/incoming-handler@0.2.0-rc-2023-10-18", "wasi:http/incoming-handler@0.2.0-rc-2023-11-10"];

/// Which of the two.
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

    /// One of its interfaces, to define functions in.
    fn open<'a>(self, linker: &'a mut Linker<Guest>, interface: &str) -> wasmtime::Result<LinkerInstance<'a, Guest>> {
        linker.instance(&format!("{interface}@{}", self.version()))
    }

    /// Whether this is a name of its.
    fn has(self, import: &str) -> bool {
        import.starts_with("wasi:") && import.split_once('@').is_some_and(|(_, version)| version == self.version())
    }
}

/// The linker with the candidates that a component imports; nothing where it imports none.
///
/// # Errors
/// Two interfaces claim one name, which is a build fault.
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

/// Functions by name, each as one of 0.2: what that works on, and how its answer is told. What a call carries, there and back,
/// is charged here.
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

/// The same of functions that wait.
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

/// Resources by name, each of the type that 0.2 has for it.
macro_rules! resources {
    ($to:ident, $view:path; $($name:literal = $kind:ty, $drop:path;)*) => {$(
        $to.resource($name, wasmtime::component::ResourceType::host::<$kind>(), |mut store, index| {
            $drop(&mut $view(store.data_mut()), wasmtime::component::Resource::new_own(index))
        })?;
    )*};
}
use resources;

/// An answer that cannot fail.
pub(in crate::host) fn plain<T>(_: &mut Guest, answer: wasmtime::Result<T>) -> wasmtime::Result<(T,)> {
    Ok((answer?,))
}

/// No answer at all.
pub(in crate::host) fn nothing(_: &mut Guest, answer: wasmtime::Result<()>) -> wasmtime::Result<()> {
    answer
}

/// A function that answers with this error, whatever it is asked. Where it is asked about a resource, that is a `T`.
fn refuse<T: 'static>(
    instance: &mut LinkerInstance<'_, Guest>,
    name: &str,
    error: &'static str,
) -> wasmtime::Result<()> {
    instance.func_new(name, move |mut store, _, arguments, answers| {
        store.data_mut().charge(cost::REFUSAL.saturating_add(weight(arguments)));
        // A handle that was lent for the call has to be given back by hand.
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
