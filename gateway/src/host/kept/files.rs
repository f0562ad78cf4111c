//! wasi:filesystem and wasi:io 0.2: open files, their streams, and directory listings.

use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptor, HostDirectoryEntryStream, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::io::streams::HostInputStream;
use wasmtime_wasi::p2::{DynInputStream, FsResult, ReaddirIterator};

use super::given_back;
use crate::host::Guest;
use crate::host::candidates::{filesystem, table};
use crate::host::priced::Weight as _;
use crate::host::weight::{FILE_STREAM_BYTES, FOLDER_BYTES};

/// The name in Wasmtime's linker.
const TYPES: &str = "wasi:filesystem/types@0.2.12";
const STREAMS: &str = "wasi:io/streams@0.2.12";

type Open = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);

/// How resources are dropped. The functions that create them are in the tables of the candidates (`priced/two.rs`).
pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut to = linker.instance(TYPES)?;
    given_back!(to, filesystem;
        "descriptor" = Descriptor, HostDescriptor::drop;
        "directory-entry-stream" = ReaddirIterator, HostDirectoryEntryStream::drop;
    );
    let mut to = linker.instance(STREAMS)?;
    to.resource_async("input-stream", ResourceType::host::<DynInputStream>(), |mut store, place| {
        Box::new(async move { drop_stream(store.data_mut(), place).await })
    })
}

/// Each counts among the open files.
pub(in crate::host) fn directories(guest: &mut Guest) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
    let Some(_opening) = guest.table.open_file() else {
        return Err(wasmtime::Error::msg("too many files are open for another folder"));
    };
    let folders = preopens::Host::get_directories(&mut filesystem(guest))?;
    guest.charge(folders.weight());
    for (folder, _) in &folders {
        guest.table.settle(folder.rep())?;
    }
    Ok(folders)
}

pub(in crate::host) fn stream_of_file(
    guest: &mut Guest,
    of: Resource<Descriptor>,
    offset: u64,
) -> FsResult<Resource<DynInputStream>> {
    // The stream keeps its file open after the descriptor is dropped.
    let Some(_opening) = guest.table.open_file() else { return Err(ErrorCode::Quota.into()) };
    let stream = HostDescriptor::read_via_stream(&mut filesystem(guest), of, offset)?;
    guest.table.charge_file(stream.rep(), FILE_STREAM_BYTES).map_err(FsErrorOf::trap)?;
    Ok(stream)
}

type FsErrorOf = wasmtime_wasi::p2::FsError;

pub(in crate::host) async fn folder_read(
    guest: &mut Guest,
    of: Resource<Descriptor>,
) -> FsResult<Resource<ReaddirIterator>> {
    let names = HostDescriptor::read_directory(&mut filesystem(guest), of).await?;
    guest.table.charge(names.rep(), FOLDER_BYTES).map_err(FsErrorOf::trap)?;
    Ok(names)
}

pub(in crate::host) async fn opened(
    guest: &mut Guest,
    (at, how, path, open, flags): Open,
) -> FsResult<Resource<Descriptor>> {
    guest.charge(path.weight());
    let Some(_opening) = guest.table.open_file() else { return Err(ErrorCode::Quota.into()) };
    let opened = HostDescriptor::open_at(&mut filesystem(guest), at, how, path, open, flags).await?;
    guest.table.settle(opened.rep()).map_err(FsErrorOf::trap)?;
    Ok(opened)
}

pub(in crate::host) async fn drop_stream(guest: &mut Guest, place: u32) -> wasmtime::Result<()> {
    HostInputStream::drop(table(guest), Resource::new_own(place)).await?;
    guest.table.settle(place)
}
