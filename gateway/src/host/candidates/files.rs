//! wasi:filesystem of 2023: read access to the granted files.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, flags};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, DescriptorFlags, Host, HostDescriptor, HostDirectoryEntryStream, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsResult, ReaddirIterator};

use super::{Candidate, filesystem, functions, plain, refuse, waiting};
use crate::host::Guest;
use crate::host::kept::{directories, folder_read, given_back, opened, stream_of_file};
use crate::tenant::cost;

// October's `open-at` takes modes for a file that it creates, and nothing is created here.
flags! {
    Modes {
        #[component(name = "readable")]
        const READABLE;
        #[component(name = "writable")]
        const WRITABLE;
        #[component(name = "executable")]
        const EXECUTABLE;
    }
}

/// Functions that only October has: permissions and locks of files.
const ONLY_IN_OCTOBER: [&str; 8] = [
    "access-at",
    "change-file-permissions-at",
    "change-directory-permissions-at",
    "lock-shared",
    "lock-exclusive",
    "try-lock-shared",
    "try-lock-exclusive",
    "unlock",
];

pub(super) fn add(linker: &mut Linker<Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    let mut to = candidate.open(linker, "wasi:filesystem/preopens")?;
    to.func_wrap("get-directories", |mut store: StoreContextMut<'_, Guest>, ()| Ok((directories(store.data_mut())?,)))?;
    let mut to = candidate.open(linker, "wasi:filesystem/types")?;
    given_back!(to, filesystem;
        "descriptor" = Descriptor, HostDescriptor::drop;
        "directory-entry-stream" = ReaddirIterator, HostDirectoryEntryStream::drop;
    );
    functions!(to, filesystem; "filesystem-error-code" = Host::filesystem_error_code as plain, (error););
    contents(&mut to)?;
    names(&mut to)?;
    open_at(&mut to, candidate)
}

pub(in crate::host) fn contents(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    to.func_wrap("[method]descriptor.read-via-stream", |mut store: StoreContextMut<'_, Guest>, (of, offset)| {
        let stream = stream_of_file(store.data_mut(), of, offset);
        file(store.data_mut(), stream)
    })?;
    functions!(to, filesystem;
        "[method]descriptor.write-via-stream" = HostDescriptor::write_via_stream as file, (of, offset);
        "[method]descriptor.append-via-stream" = HostDescriptor::append_via_stream as file, (of);
    );
    waiting!(to, filesystem;
        "[method]descriptor.advise" = HostDescriptor::advise as file, (of, offset, length, advice);
        "[method]descriptor.sync-data" = HostDescriptor::sync_data as file, (of);
        "[method]descriptor.get-flags" = HostDescriptor::get_flags as file, (of);
        "[method]descriptor.get-type" = HostDescriptor::get_type as file, (of);
        "[method]descriptor.set-size" = HostDescriptor::set_size as file, (of, size);
        "[method]descriptor.set-times" = HostDescriptor::set_times as file, (of, accessed, modified);
        "[method]descriptor.read" = HostDescriptor::read as file, (of, length, offset);
        "[method]descriptor.write" = HostDescriptor::write as file, (of, bytes, offset);
        "[method]descriptor.sync" = HostDescriptor::sync as file, (of);
        "[method]descriptor.stat" = HostDescriptor::stat as file, (of);
        "[method]descriptor.is-same-object" = HostDescriptor::is_same_object as plain, (of, other);
        "[method]descriptor.metadata-hash" = HostDescriptor::metadata_hash as file, (of);
    );
    Ok(())
}

pub(in crate::host) fn names(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    to.func_wrap_async("[method]descriptor.read-directory", |mut store, (of,)| {
        Box::new(async move {
            let names = folder_read(store.data_mut(), of).await;
            file(store.data_mut(), names)
        })
    })?;
    waiting!(to, filesystem;
        "[method]directory-entry-stream.read-directory-entry" =
            HostDirectoryEntryStream::read_directory_entry as file, (of);
        "[method]descriptor.create-directory-at" = HostDescriptor::create_directory_at as file, (of, path);
        "[method]descriptor.stat-at" = HostDescriptor::stat_at as file, (of, how, path);
        "[method]descriptor.set-times-at" = HostDescriptor::set_times_at as file, (of, how, path, accessed, modified);
        "[method]descriptor.link-at" = HostDescriptor::link_at as file, (of, how, path, to, name);
        "[method]descriptor.readlink-at" = HostDescriptor::readlink_at as file, (of, path);
        "[method]descriptor.remove-directory-at" = HostDescriptor::remove_directory_at as file, (of, path);
        "[method]descriptor.rename-at" = HostDescriptor::rename_at as file, (of, path, to, name);
        "[method]descriptor.symlink-at" = HostDescriptor::symlink_at as file, (of, path, name);
        "[method]descriptor.unlink-file-at" = HostDescriptor::unlink_file_at as file, (of, path);
        "[method]descriptor.metadata-hash-at" = HostDescriptor::metadata_hash_at as file, (of, how, path);
    );
    Ok(())
}

fn open_at(to: &mut LinkerInstance<'_, Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    type October = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags, Modes);
    if candidate == Candidate::November {
        return open_as_in_02(to);
    }
    to.func_wrap_async("[method]descriptor.open-at", |mut store, (of, how, path, open, flags, _modes): October| {
        Box::new(async move {
            let opened = opened(store.data_mut(), (of, how, path, open, flags)).await;
            file(store.data_mut(), opened)
        })
    })?;
    for name in ONLY_IN_OCTOBER {
        refuse::<Descriptor>(to, &format!("[method]descriptor.{name}"), "unsupported")?;
    }
    Ok(())
}

pub(in crate::host) fn open_as_in_02(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Open = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);
    to.func_wrap_async("[method]descriptor.open-at", |mut store, given: Open| {
        Box::new(async move {
            let opened = opened(store.data_mut(), given).await;
            file(store.data_mut(), opened)
        })
    })
}

/// Returns the result of an operation on a file.
pub(in crate::host) fn file<T>(
    guest: &mut Guest,
    answer: FsResult<T>,
) -> wasmtime::Result<(Result<T, types::ErrorCode>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            guest.charge(cost::REFUSAL);
            Err(filesystem(guest).convert_error_code(error)?)
        }
    },))
}
