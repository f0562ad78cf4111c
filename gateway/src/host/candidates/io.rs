//! wasi:io of 2023: streams, and waiting for them.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime_wasi::p2::bindings::io::error::HostError;
use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
use wasmtime_wasi::p2::bindings::io::streams::{self, Host as _, HostInputStream, HostOutputStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, IoError, StreamError, StreamResult};

use super::{Candidate, functions, nothing, plain, resources, table, waiting};
use crate::host::Guest;
use crate::host::kept::drop_stream;
use crate::host::outgoing;
use crate::tenant::cost;

pub(super) fn add(linker: &mut Linker<Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    poll(candidate.open(linker, "wasi:io/poll")?, candidate)?;
    // In October the error type belonged to the streams interface.
    let errors = if candidate == Candidate::October { "wasi:io/streams" } else { "wasi:io/error" };
    let mut errors = candidate.open(linker, errors)?;
    resources!(errors, table; "error" = IoError, HostError::drop;);
    functions!(errors, table; "[method]error.to-debug-string" = HostError::to_debug_string as plain, (error););
    // Opening an instance with the same name again gives another view of it.
    let mut streams = candidate.open(linker, "wasi:io/streams")?;
    input(&mut streams)?;
    output(&mut streams)?;
    if candidate == Candidate::October { splice_owned(&mut streams) } else { splice(&mut streams) }
}

fn poll(mut poll: LinkerInstance<'_, Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    resources!(poll, table; "pollable" = DynPollable, HostPollable::drop;);
    match candidate {
        Candidate::October => {
            waiting!(poll, table;
                "poll-list" = outgoing::poll as plain, (pollables);
                "poll-one" = HostPollable::block as nothing, (pollable);
            );
        }
        Candidate::November => waits(&mut poll)?,
    }
    Ok(())
}

pub(in crate::host) fn waits(poll: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    waiting!(poll, table;
        "poll" = outgoing::poll as plain, (pollables);
        "[method]pollable.ready" = outgoing::is_ready as plain, (pollable);
        "[method]pollable.block" = HostPollable::block as nothing, (pollable);
    );
    Ok(())
}

fn input(streams: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    streams.resource_async(
        "input-stream",
        wasmtime::component::ResourceType::host::<DynInputStream>(),
        |mut store, index| Box::new(async move { drop_stream(store.data_mut(), index).await }),
    )?;
    reads(streams)
}

pub(in crate::host) fn reads(streams: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Read = (Resource<DynInputStream>, u64);
    // The bytes that these return are not charged here: bytes of a body are charged on arrival, bytes of a file by the
    // call.
    streams.func_wrap("[method]input-stream.read", |mut store: StoreContextMut<'_, Guest>, (from, bytes): Read| {
        let answer = HostInputStream::read(table(store.data_mut()), from, bytes);
        stream(store.data_mut(), answer)
    })?;
    streams.func_wrap_async("[method]input-stream.blocking-read", |mut store, (from, bytes): Read| {
        Box::new(async move {
            let answer = HostInputStream::blocking_read(table(store.data_mut()), from, bytes).await;
            stream(store.data_mut(), answer)
        })
    })?;
    functions!(streams, table;
        "[method]input-stream.skip" = HostInputStream::skip as stream, (from, bytes);
        "[method]input-stream.subscribe" = HostInputStream::subscribe as plain, (from);
    );
    waiting!(streams, table;
        "[method]input-stream.blocking-skip" = HostInputStream::blocking_skip as stream, (from, bytes);
    );
    Ok(())
}

fn output(streams: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    streams.resource_async(
        "output-stream",
        wasmtime::component::ResourceType::host::<DynOutputStream>(),
        |mut store, index| {
            Box::new(async move { HostOutputStream::drop(table(store.data_mut()), Resource::new_own(index)).await })
        },
    )?;
    writes(streams)
}

pub(in crate::host) fn writes(streams: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(streams, table;
        "[method]output-stream.check-write" = HostOutputStream::check_write as stream, (to);
        "[method]output-stream.write" = HostOutputStream::write as stream, (to, bytes);
        "[method]output-stream.flush" = HostOutputStream::flush as stream, (to);
        "[method]output-stream.subscribe" = HostOutputStream::subscribe as plain, (to);
        "[method]output-stream.write-zeroes" = HostOutputStream::write_zeroes as stream, (to, bytes);
    );
    waiting!(streams, table;
        "[method]output-stream.blocking-write-and-flush" =
            HostOutputStream::blocking_write_and_flush as stream, (to, bytes);
        "[method]output-stream.blocking-flush" = HostOutputStream::blocking_flush as stream, (to);
        "[method]output-stream.blocking-write-zeroes-and-flush" =
            HostOutputStream::blocking_write_zeroes_and_flush as stream, (to, bytes);
    );
    Ok(())
}

pub(in crate::host) fn splice(streams: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(streams, table;
        "[method]output-stream.splice" = HostOutputStream::splice as stream, (to, from, bytes);
    );
    waiting!(streams, table;
        "[method]output-stream.blocking-splice" = HostOutputStream::blocking_splice as stream, (to, from, bytes);
    );
    Ok(())
}

/// October's versions consume the source. `forward` has no counterpart in 0.2, and no SDK calls it.
fn splice_owned(streams: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Source = (Resource<DynOutputStream>, Resource<DynInputStream>, u64);
    streams.func_wrap_async("[method]output-stream.splice", |mut store, (to, from, bytes): Source| {
        Box::new(async move {
            let table = table(store.data_mut());
            let spliced = HostOutputStream::splice(table, to, Resource::new_borrow(from.rep()), bytes);
            drop_stream(store.data_mut(), from.rep()).await?;
            stream(store.data_mut(), spliced)
        })
    })?;
    streams.func_wrap_async("[method]output-stream.blocking-splice", |mut store, (to, from, bytes): Source| {
        Box::new(async move {
            let table = table(store.data_mut());
            let spliced = HostOutputStream::blocking_splice(table, to, Resource::new_borrow(from.rep()), bytes).await;
            drop_stream(store.data_mut(), from.rep()).await?;
            stream(store.data_mut(), spliced)
        })
    })?;
    streams.func_new("[method]output-stream.forward", |_, _, _, _| {
        Err(wasmtime::Error::msg("wasi:io/streams of 2023-10-18 has `forward`, which is not served"))
    })
}

/// Returns the result of an operation on a stream.
fn stream<T>(guest: &mut Guest, answer: StreamResult<T>) -> wasmtime::Result<(Result<T, streams::StreamError>,)> {
    Ok((match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            if let StreamError::LastOperationFailed(_) = error {
                guest.charge(cost::REFUSAL);
            }
            Err(table(guest).convert_stream_error(error)?)
        }
    },))
}
