//! WASI 0.3, whose calls may be concurrent: the functions that retain nothing. The others are charged where they are
//! counted (`kept/`).

use wasmtime::component::{Linker, LinkerInstance};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p3::bindings::cli::environment;
use wasmtime_wasi::p3::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi_http::p3::bindings::http::types::{HostFields, HostRequest};

use super::super::Guest;
use super::super::candidates::{cli_of, functions, http_of, nothing, plain};
use super::names::three as names;
use crate::tenant::cost;

type Interface = fn(&mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()>;

/// Under the names that Wasmtime defines. A guest may import any 0.3.
pub(super) const ALL: [(&str, Interface); 4] = [
    ("wasi:http/types@0.3.0", http),
    ("wasi:cli/environment@0.3.0", environment),
    ("wasi:clocks/monotonic-clock@0.3.0", timers),
    ("wasi:sockets/ip-name-lookup@0.3.0", lookup),
];

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    ALL.iter().try_for_each(|(name, interface)| interface(&mut linker.instance(name)?))
}

fn http(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(to, http_of;
        "[method]fields.get" = names::get as plain, (fields, name);
        "[method]fields.has" = names::has as plain, (fields, name);
        "[method]fields.copy-all" = HostFields::copy_all as plain, (fields);
        "[method]request.get-method" = HostRequest::get_method as plain, (request);
        "[method]request.get-path-with-query" = HostRequest::get_path_with_query as plain, (request);
        "[method]request.get-scheme" = HostRequest::get_scheme as plain, (request);
        "[method]request.get-authority" = HostRequest::get_authority as plain, (request);
    );
    Ok(())
}

/// Defines `async` functions by name, as the candidates' macro does for others, with their price beside what they carry.
macro_rules! concurrent {
    ($to:ident, $price:expr, $data:ty, $view:path, $host:ident; $($name:literal = $function:ident as $tell:path, ($($argument:ident),*);)*) => {$(
        $to.func_wrap_concurrent($name, |accessor: &wasmtime::component::Accessor<Guest>, ($($argument,)*)| {
            Box::pin(async move {
                let weight = $price $(.saturating_add(super::Weight::weight(&$argument)))*;
                accessor.with(|mut access| access.data_mut().charge(weight));
                let own = accessor.with_getter::<$data>($view);
                let answer = <$data as $host<Guest>>::$function(&own, $($argument),*).await;
                accessor.with(|mut access| {
                    let told = $tell(access.data_mut(), answer)?;
                    access.data_mut().charge(super::Weight::weight(&told));
                    Ok(told)
                })
            })
        })?;
    )*};
}

fn environment(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(to, cli_of;
        "get-environment" = environment::Host::get_environment as plain, ();
        "get-arguments" = environment::Host::get_arguments as plain, ();
        "get-initial-cwd" = environment::Host::get_initial_cwd as plain, ();
    );
    Ok(())
}

fn lookup(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    use ip_name_lookup::HostWithStore;
    concurrent!(to, 0_u64, WasiSockets, WasiSocketsView::sockets, HostWithStore;
        "resolve-addresses" = resolve_addresses as plain, (name);
    );
    Ok(())
}

fn timers(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    use monotonic_clock::HostWithStore;
    concurrent!(to, cost::TIMER, WasiClocks, WasiClocksView::clocks, HostWithStore;
        "wait-until" = wait_until as nothing, (when);
        "wait-for" = wait_for as nothing, (after);
    );
    Ok(())
}
