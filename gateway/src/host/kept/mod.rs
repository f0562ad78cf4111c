//! WASI's functions that make, change or take a resource which retains bytes: Wasmtime's own, with the account kept.
//!
//! Each stands in the linker before Wasmtime's function of its name: 0.3's from here, 0.2's from the tables that the candidates
//! of 2023 share (`priced/two.rs`). It bounds the texts that it is given first, calls that
//! function, and weighs the resources that the call touched ([`super::table`]).

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
/// There is no interface of such a name, which is a build fault.
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

/// Functions by name, each as one of Wasmtime's: what that works on, and how its answer is told. What a call carries, there and
/// back, is charged, and what it touched is weighed after it.
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

/// Resources by name, each of the type that Wasmtime has for it, and how it goes.
macro_rules! given_back {
    ($to:ident, $view:path; $($name:literal = $kind:ty, $drop:path;)*) => {$(
        $to.resource($name, wasmtime::component::ResourceType::host::<$kind>(), |mut store, place| {
            $drop(&mut $view(store.data_mut()), wasmtime::component::Resource::new_own(place))?;
            store.data_mut().table.settle(place)
        })?;
    )*};
}
pub(in crate::host) use given_back;
