//! WASI 0.3, whose calls may be under way beside each other.

use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi::filesystem::WasiFilesystem;
use wasmtime_wasi::p3::bindings::cli::environment;
use wasmtime_wasi::p3::bindings::filesystem::preopens;
use wasmtime_wasi::p3::bindings::filesystem::types::{self as files, Host as _, HostDescriptorWithStore};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi_http::WasiHttp;
use wasmtime_wasi_http::p3::bindings::http::client;
use wasmtime_wasi_http::p3::bindings::http::types::{self, Fields, Host as _, HostFields, HostRequest, HostResponse};

use super::super::Guest;
use super::super::candidates::{cli_of, filesystem, functions, http_of, plain, table};
use super::names::three as names;
use crate::tenant::cost;

type Interface = fn(&mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()>;

/// By the names that Wasmtime defines them under; a guest may ask for any 0.3.
pub(super) const ALL: [(&str, Interface); 6] = [
    ("wasi:http/types@0.3.0", http),
    ("wasi:http/client@0.3.0", sends),
    ("wasi:filesystem/types@0.3.0", paths),
    ("wasi:filesystem/preopens@0.3.0", folders),
    ("wasi:cli/environment@0.3.0", environment),
    ("wasi:sockets/ip-name-lookup@0.3.0", lookup),
];

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    ALL.iter().try_for_each(|(name, interface)| interface(&mut linker.instance(name)?))
}

fn http(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(to, http_of;
        "[static]fields.from-list" = names::from_list as header, (entries);
        "[method]fields.get" = names::get as plain, (fields, name);
        "[method]fields.has" = names::has as plain, (fields, name);
        "[method]fields.set" = names::set as header, (fields, name, values);
        "[method]fields.delete" = names::delete as header, (fields, name);
        "[method]fields.get-and-delete" = get_and_delete as header, (fields, name);
        "[method]fields.append" = names::append as header, (fields, name, value);
        "[method]fields.copy-all" = HostFields::copy_all as plain, (fields);
        "[method]fields.clone" = HostFields::clone as copied, (fields);
        "[method]request.get-method" = HostRequest::get_method as plain, (request);
        "[method]request.get-path-with-query" = HostRequest::get_path_with_query as plain, (request);
        "[method]request.get-scheme" = HostRequest::get_scheme as plain, (request);
        "[method]request.get-authority" = HostRequest::get_authority as plain, (request);
        "[method]request.get-headers" = HostRequest::get_headers as plain, (request);
        "[method]response.get-headers" = HostResponse::get_headers as plain, (response);
    );
    Ok(())
}

pub(in crate::host) fn get_and_delete(
    http: &mut wasmtime_wasi_http::WasiHttpCtxView<'_>,
    fields: Resource<Fields>,
    name: String,
) -> Result<Vec<Vec<u8>>, TrappableError<types::HeaderError>> {
    if name.len() > super::names::NAME_BYTES_MAX {
        return Err(types::HeaderError::InvalidSyntax.into());
    }
    HostFields::get_and_delete(http, fields, name)
}

/// Functions by name that are `async`, as the candidates' macro has those that are not.
macro_rules! concurrent {
    ($to:ident, $data:ty, $view:path, $host:ident; $($name:literal = $function:ident as $tell:path, ($($argument:ident),*);)*) => {$(
        $to.func_wrap_concurrent($name, |accessor: &wasmtime::component::Accessor<Guest>, ($($argument,)*)| {
            Box::pin(async move {
                let weight = 0_u64 $(.saturating_add(super::Weight::weight(&$argument)))*;
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

fn sends(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    use client::HostWithStore;
    concurrent!(to, WasiHttp, http_of, HostWithStore; "send" = send as sent, (request););
    Ok(())
}

fn paths(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    concurrent!(to, WasiFilesystem, filesystem, HostDescriptorWithStore;
        "[method]descriptor.create-directory-at" = create_directory_at as file, (of, path);
        "[method]descriptor.stat-at" = stat_at as file, (of, how, path);
        "[method]descriptor.set-times-at" = set_times_at as file, (of, how, path, accessed, modified);
        "[method]descriptor.link-at" = link_at as file, (of, how, path, to, name);
        "[method]descriptor.open-at" = open_at as file, (of, how, path, open, flags);
        "[method]descriptor.readlink-at" = readlink_at as file, (of, path);
        "[method]descriptor.remove-directory-at" = remove_directory_at as file, (of, path);
        "[method]descriptor.rename-at" = rename_at as file, (of, path, to, name);
        "[method]descriptor.symlink-at" = symlink_at as file, (of, path, name);
        "[method]descriptor.unlink-file-at" = unlink_file_at as file, (of, path);
        "[method]descriptor.metadata-hash-at" = metadata_hash_at as file, (of, how, path);
    );
    Ok(())
}

fn folders(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(to, filesystem; "get-directories" = preopens::Host::get_directories as plain, (););
    Ok(())
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
    concurrent!(to, WasiSockets, WasiSocketsView::sockets, HostWithStore;
        "resolve-addresses" = resolve_addresses as plain, (name);
    );
    Ok(())
}

fn header<T>(
    guest: &mut Guest,
    answer: Result<T, TrappableError<types::HeaderError>>,
) -> wasmtime::Result<(Result<T, types::HeaderError>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            guest.charge(cost::REFUSAL);
            Err(http_of(guest).convert_header_error(error)?)
        }
    },))
}

/// A request is taken apart and looked at whether it goes out or not.
fn sent<T>(
    guest: &mut Guest,
    answer: Result<T, TrappableError<types::ErrorCode>>,
) -> wasmtime::Result<(Result<T, types::ErrorCode>,)> {
    guest.charge(cost::REQUEST_LOOKED_AT);
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => Err(http_of(guest).convert_error_code(error)?),
    },))
}

pub(in crate::host) fn file<T>(
    guest: &mut Guest,
    answer: Result<T, TrappableError<files::ErrorCode>>,
) -> wasmtime::Result<(Result<T, files::ErrorCode>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            guest.charge(cost::REFUSAL);
            Err(filesystem(guest).convert_error_code(error)?)
        }
    },))
}

/// A copy has all that the original has.
pub(in crate::host) fn copied(
    guest: &mut Guest,
    answer: wasmtime::Result<Resource<Fields>>,
) -> wasmtime::Result<(Resource<Fields>,)> {
    let copy = answer?;
    let weight = super::of_fields(table(guest).get(&copy)?);
    guest.charge(weight);
    Ok((copy,))
}
