//! wasi:filesystem 0.3: paths are bounded, because many calls may be in progress with theirs, and open files are counted.

use wasmtime::component::{Accessor, Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p3::bindings::filesystem::preopens;
use wasmtime_wasi::p3::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, Host as _, HostDescriptor, HostDescriptorWithStore, NewTimestamp, OpenFlags, PathFlags,
};

use crate::host::Guest;
use crate::host::candidates::filesystem;
use crate::host::priced::Weight as _;
use crate::tenant::cost;

/// The kernel's limit.
pub(in crate::host) const PATH_BYTES_MAX: usize = 4 << 10;

/// The name in Wasmtime's linker.
const TYPES: &str = "wasi:filesystem/types@0.3.0";
const PREOPENS: &str = "wasi:filesystem/preopens@0.3.0";

type Folder = Resource<Descriptor>;

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut to = linker.instance(PREOPENS)?;
    to.func_wrap("get-directories", |mut store: wasmtime::StoreContextMut<'_, Guest>, ()| {
        let guest = store.data_mut();
        let Some(_opening) = guest.table.open_file() else {
            return Err(wasmtime::Error::msg("too many files are open for another folder"));
        };
        let folders = preopens::Host::get_directories(&mut filesystem(guest))?;
        guest.charge(folders.weight());
        for (folder, _) in &folders {
            guest.table.settle(folder.rep())?;
        }
        Ok((folders,))
    })?;
    let mut to = linker.instance(TYPES)?;
    to.resource("descriptor", ResourceType::host::<Descriptor>(), |mut store, place| {
        HostDescriptor::drop(&mut filesystem(store.data_mut()), Resource::new_own(place))?;
        store.data_mut().table.settle(place)
    })?;
    open_at(&mut to)?;
    names(&mut to)?;
    super::streams_three::add(&mut to)
}

fn file<T>(
    guest: &mut Guest,
    answer: Result<T, wasmtime_wasi::TrappableError<ErrorCode>>,
) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            guest.charge(cost::REFUSAL);
            Err(filesystem(guest).convert_error_code(error)?)
        }
    },))
}

fn open_at(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Open = (Folder, PathFlags, String, OpenFlags, DescriptorFlags);
    to.func_wrap_concurrent("[method]descriptor.open-at", |at: &Accessor<Guest>, given: Open| {
        Box::pin(async move {
            let (folder, how, path, open, flags) = given;
            if path.len() > PATH_BYTES_MAX {
                return Ok((Err(ErrorCode::NameTooLong),));
            }
            let opening = at.with(|mut access| {
                access.get().charge(path.weight());
                access.get().table.open_file()
            });
            let Some(_opening) = opening else {
                return Ok((Err(ErrorCode::Quota),));
            };
            let files = at.with_getter::<WasiFilesystem>(Guest::filesystem);
            let opened = HostDescriptorWithStore::open_at(&files, folder, how, path, open, flags).await;
            at.with(|mut access| {
                let guest = access.get();
                let told = file(guest, opened)?;
                if let Ok(opened) = &told.0 {
                    guest.table.settle(opened.rep())?;
                }
                Ok(told)
            })
        })
    })
}

/// Defines functions with paths: each calls Wasmtime's if its paths are short enough.
macro_rules! bounded {
    ($to:ident; $($name:literal = $function:ident, ($($argument:ident: $kind:ty),*), [$($path:ident),*];)*) => {$(
        $to.func_wrap_concurrent($name, |at: &Accessor<Guest>, given: (Folder, $($kind,)*)| {
            Box::pin(async move {
                let (folder, $($argument,)*) = given;
                if [$(&$path),*].into_iter().any(|path| path.len() > PATH_BYTES_MAX) {
                    return Ok((Err(ErrorCode::NameTooLong),));
                }
                let weight = 0_u64 $(.saturating_add($path.weight()))*;
                at.with(|mut access| access.get().charge(weight));
                let files = at.with_getter::<WasiFilesystem>(Guest::filesystem);
                let done = HostDescriptorWithStore::$function(&files, folder, $($argument),*).await;
                at.with(|mut access| {
                    let told = file(access.get(), done)?;
                    access.get().charge(told.weight());
                    Ok(told)
                })
            })
        })?;
    )*};
}

fn names(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    bounded!(to;
        "[method]descriptor.create-directory-at" = create_directory_at, (path: String), [path];
        "[method]descriptor.stat-at" = stat_at, (how: PathFlags, path: String), [path];
        "[method]descriptor.set-times-at" = set_times_at,
            (how: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp), [path];
        "[method]descriptor.link-at" = link_at, (how: PathFlags, old: String, to: Folder, new: String), [old, new];
        "[method]descriptor.readlink-at" = readlink_at, (path: String), [path];
        "[method]descriptor.remove-directory-at" = remove_directory_at, (path: String), [path];
        "[method]descriptor.rename-at" = rename_at, (old: String, to: Folder, new: String), [old, new];
        "[method]descriptor.symlink-at" = symlink_at, (old: String, new: String), [old, new];
        "[method]descriptor.unlink-file-at" = unlink_file_at, (path: String), [path];
        "[method]descriptor.metadata-hash-at" = metadata_hash_at, (how: PathFlags, path: String), [path];
    );
    Ok(())
}
