//! WASI 0.2: the tables of the candidates of 2023, and what 0.2 has in addition.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance};
use wasmtime_wasi::p2::SocketResult;
use wasmtime_wasi::p2::bindings::cli::environment;
use wasmtime_wasi::p2::bindings::sockets::network::{self, Host as _};
use wasmtime_wasi::p2::bindings::sockets::{ip_name_lookup, tcp_create_socket, udp_create_socket};
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView as _};
use wasmtime_wasi_http::p2::bindings::http::types::HostFutureTrailers;

use super::super::Guest;
use super::super::candidates::{self, cli_of, functions, http_of, plain, waiting};
use super::super::kept::{directories, weighed};
use super::names::two as names;
use crate::tenant::cost;

type Interface = fn(&mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()>;

/// Under the names that Wasmtime defines. A guest may import any 0.2.
pub(super) const ALL: [(&str, Interface); 11] = [
    ("wasi:http/types@0.2.12", http),
    ("wasi:http/outgoing-handler@0.2.12", candidates::http::sends),
    ("wasi:io/poll@0.2.12", candidates::io::waits),
    ("wasi:clocks/monotonic-clock@0.2.12", candidates::cli::timers),
    ("wasi:io/streams@0.2.12", streams),
    ("wasi:filesystem/types@0.2.12", files),
    ("wasi:filesystem/preopens@0.2.12", folders),
    ("wasi:cli/environment@0.2.12", environment),
    ("wasi:sockets/tcp-create-socket@0.2.12", tcp),
    ("wasi:sockets/udp-create-socket@0.2.12", udp),
    ("wasi:sockets/ip-name-lookup@0.2.12", lookup),
];

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    ALL.iter().try_for_each(|(name, interface)| interface(&mut linker.instance(name)?))
}

fn http(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    candidates::http::incoming(to)?;
    candidates::http::fields(to)?;
    candidates::http::outgoing(to)?;
    candidates::http::answers(to)?;
    functions!(to, http_of; "[method]fields.has" = names::has as plain, (fields, name););
    weighed!(to, http_of;
        "[method]future-trailers.get" = HostFutureTrailers::get as plain, (trailers);
    );
    Ok(())
}

fn streams(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    candidates::io::reads(to)?;
    candidates::io::writes(to)?;
    candidates::io::splice(to)
}

fn files(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    candidates::files::contents(to)?;
    candidates::files::names(to)?;
    candidates::files::open_as_in_02(to)
}

fn folders(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    to.func_wrap("get-directories", |mut store: StoreContextMut<'_, Guest>, ()| Ok((directories(store.data_mut())?,)))
}

fn environment(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(to, cli_of;
        "get-environment" = environment::Host::get_environment as plain, ();
        "get-arguments" = environment::Host::get_arguments as plain, ();
        "initial-cwd" = environment::Host::initial_cwd as plain, ();
    );
    Ok(())
}

fn tcp(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(to, sockets; "create-tcp-socket" = tcp_create_socket::Host::create_tcp_socket as denied, (family););
    Ok(())
}

fn udp(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    waiting!(to, sockets; "create-udp-socket" = udp_create_socket::Host::create_udp_socket as denied, (family););
    Ok(())
}

fn lookup(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(to, sockets; "resolve-addresses" = ip_name_lookup::Host::resolve_addresses as denied, (network, name););
    Ok(())
}

fn sockets(guest: &mut Guest) -> WasiSocketsCtxView<'_> {
    guest.sockets()
}

fn denied<T>(guest: &mut Guest, answer: SocketResult<T>) -> wasmtime::Result<(Result<T, network::ErrorCode>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            guest.charge(cost::REFUSAL);
            Err(sockets(guest).convert_error_code(error)?)
        }
    },))
}
