//! WASI's functions that create, change or take a resource that retains bytes: Wasmtime's own, with their memory counted.
//!
//! Each is in the linker in place of Wasmtime's function of the same name: those of 0.3 from here, those of 0.2 from the
//! tables that the candidates of 2023 share (`priced/two.rs`). It first bounds the texts that it is given, then calls
//! Wasmtime's function, and then weighs the resources that the call touched ([`super::table`]).

mod answers;
mod files;
mod files_three;
mod http;
mod http_three;
mod streams_three;

use wasmtime::component::Linker;

use super::Guest;
pub(super) use answers::{
    body as body_of_answer, finish as finish_body, kinds as answer_kinds, set as set_answer, whole,
};
pub(super) use files::{directories, drop_stream, folder_read, opened, stream_of_file};
pub(super) use http::{
    AUTHORITY_BYTES_MAX, METHOD_BYTES_MAX, PATH_BYTES_MAX, SCHEME_BYTES_MAX, set_authority, set_method,
    set_path_with_query, set_scheme,
};

/// # Errors
/// An interface with this name does not exist. This is a build error.
pub(super) fn add(linker: &mut Linker<Guest>, is_concurrent: bool) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    http::add(linker)?;
    files::add(linker)?;
    if is_concurrent {
        http_three::add(linker)?;
        files_three::add(linker)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Defines functions by name, each by one of Wasmtime's: the state that it works on, and how its result is returned. What a
/// call carries in both directions is charged, and the resources that it touched are weighed afterwards.
macro_rules! weighed {
    ($to:ident, $view:path; $($name:literal = $function:path as $tell:path, ($($argument:ident),*);)*) => {$(
        $to.func_wrap($name, |mut store: wasmtime::StoreContextMut<'_, crate::host::Guest>, ($($argument,)*)| {
            let guest = store.data_mut();
            guest.charge(0_u64 $(.saturating_add(crate::host::priced::Weight::weight(&$argument)))*);
            let mut touched = crate::host::weight::Touched::default();
            $(touched.add(&$argument);)*
            let answer = $function(&mut $view(guest), $($argument),*);
            let told = $tell(guest, answer)?;
            guest.charge(crate::host::priced::Weight::weight(&told));
            touched.add(&told);
            guest.settle(&touched)?;
            Ok(told)
        })?;
    )*};
}
pub(in crate::host) use weighed;

/// Defines resources by name, each with Wasmtime's type, and how it is dropped.
macro_rules! given_back {
    ($to:ident, $view:path; $($name:literal = $kind:ty, $drop:path;)*) => {$(
        $to.resource($name, wasmtime::component::ResourceType::host::<$kind>(), |mut store, place| {
            $drop(&mut $view(store.data_mut()), wasmtime::component::Resource::new_own(place))?;
            store.data_mut().table.settle(place)
        })?;
    )*};
}
pub(in crate::host) use given_back;
