//! Streams of file contents and of directory listings, for wasi:filesystem 0.3. They are our own: Wasmtime's keep a file
//! open that nobody counts once its descriptor is dropped, and a listing occupies one of the threads that all blocking work
//! shares until the guest has read it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, FutureReader, LinkerInstance, Resource, StreamProducer, StreamReader, StreamResult, VecBuffer,
};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p3::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::host::Guest;
use crate::host::meter::Held;
use crate::host::table::Opening;
use crate::host::weight::{FILE_STREAM_BYTES, FOLDER_BYTES};

/// Bytes of one read from a file: half of what a stream counts, because one piece waits while the guest reads another.
const PIECE_BYTES: usize = 32 << 10;

pub(super) fn add(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Read = (Resource<Descriptor>, u64);
    to.func_wrap("[method]descriptor.read-via-stream", |mut store: StoreContextMut<'_, Guest>, (of, offset): Read| {
        let (told, ended) = oneshot::channel();
        let (told, task) = (Told(Some(told)), None);
        let started = match store.data_mut().table.of_wasi().get(&of)? {
            Descriptor::File(file) => Ok(Arc::clone(&file.file)),
            Descriptor::Dir(_) => Err(ErrorCode::IsDirectory),
        };
        let started = started.and_then(|file| Ok((file, room(store.data_mut(), FILE_STREAM_BYTES)?)));
        let stream = match started {
            Ok((file, room)) => StreamReader::new(&mut store, Reading { file, offset, told, task, _room: room })?,
            Err(error) => nothing(&mut store, told, error)?,
        };
        Ok(((stream, FutureReader::new(&mut store, ended)?),))
    })?;
    to.func_wrap("[method]descriptor.read-directory", |mut store: StoreContextMut<'_, Guest>, (of,): (_,)| {
        let (told, ended) = oneshot::channel();
        let told = Told(Some(told));
        let started = match store.data_mut().table.of_wasi().get(&of)? {
            Descriptor::Dir(folder) => Ok(Arc::clone(&folder.dir)),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory),
        };
        let started = started.and_then(|folder| Ok((folder, room(store.data_mut(), FOLDER_BYTES)?)));
        let stream = match started {
            Ok((folder, room)) => {
                let task = Some(spawn_blocking(move || names_in(&folder)));
                StreamReader::new(&mut store, Names { told, task, _room: room })?
            }
            Err(error) => nothing(&mut store, told, error)?,
        };
        Ok(((stream, FutureReader::new(&mut store, ended)?),))
    })
}

/// A place among the open files, and memory.
type Room = (Opening, Held);

fn room(guest: &Guest, bytes: u64) -> Result<Room, ErrorCode> {
    let place = guest.table.open_file().ok_or(ErrorCode::Quota)?;
    Ok((place, guest.meter.hold(bytes).ok_or(ErrorCode::InsufficientMemory)?))
}

/// Reports once how a stream ended; success if it is dropped.
struct Told(Option<oneshot::Sender<Result<(), ErrorCode>>>);

impl Told {
    fn tell(&mut self, ended: Result<(), ErrorCode>) -> StreamResult {
        if let Some(told) = self.0.take() {
            let _nobody_asks = told.send(ended);
        }
        StreamResult::Dropped
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}

/// An empty stream in place of one that could not be read.
fn nothing<T>(
    store: &mut StoreContextMut<'_, Guest>,
    mut told: Told,
    error: ErrorCode,
) -> wasmtime::Result<StreamReader<T>>
where
    T: wasmtime::component::Lift + wasmtime::component::Lower + Send + Sync + 'static,
{
    told.tell(Err(error));
    StreamReader::new(store, std::iter::empty::<T>())
}

/// Waits for work on another thread. If the guest stops asking, work that has not started is cancelled.
fn work<T>(task: &mut JoinHandle<T>, cx: &mut Context<'_>, finish: bool) -> Poll<Result<T, JoinError>> {
    let done = Pin::new(&mut *task).poll(cx);
    if finish && done.is_pending() {
        task.abort();
        return Pin::new(task).poll(cx);
    }
    done
}

/// The contents of a file.
struct Reading {
    file: Arc<File>,
    offset: u64,
    told: Told,
    task: Option<JoinHandle<std::io::Result<Vec<u8>>>>,
    _room: Room,
}

fn piece_of(file: &File, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read_at(&mut piece, offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => {
                piece.truncate(read?);
                return Ok(piece);
            }
        }
    }
}

impl<D> StreamProducer<D> for Reading {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: StoreContextMut<'a, D>,
        mut to: Destination<'a, u8, VecBuffer<u8>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self { file, offset, told, task, .. } = &mut *self;
        let at = *offset;
        let running = task.get_or_insert_with(|| {
            let file = Arc::clone(file);
            spawn_blocking(move || piece_of(&file, at))
        });
        let read = ready!(work(running, cx, finish));
        *task = None;
        Poll::Ready(Ok(match read {
            Ok(Ok(piece)) if piece.is_empty() => told.tell(Ok(())),
            Ok(Ok(piece)) => {
                *offset += piece.len() as u64;
                to.set_buffer(piece.into());
                StreamResult::Completed
            }
            Ok(Err(error)) => told.tell(Err(error.into())),
            Err(error) if error.is_cancelled() => StreamResult::Cancelled,
            Err(_panicked) => told.tell(Err(ErrorCode::Io)),
        }))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.take().inspect(JoinHandle::abort);
    }
}

/// The names in a folder, all read at once.
struct Names {
    told: Told,
    task: Option<JoinHandle<Result<Vec<DirectoryEntry>, ErrorCode>>>,
    _room: Room,
}

fn names_in(folder: &File) -> Result<Vec<DirectoryEntry>, ErrorCode> {
    let failed = |error: rustix::io::Errno| ErrorCode::from(std::io::Error::from(error));
    // The guest's descriptor is for paths only (`O_PATH`).
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let to_read = openat(folder, ".", flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in Dir::new(to_read).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_str().map_err(|_no_text| ErrorCode::IllegalByteSequence)?;
        if matches!(name, "." | "..") {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        let type_ = match kind {
            FileType::RegularFile => DescriptorType::RegularFile,
            FileType::Directory => DescriptorType::Directory,
            FileType::Symlink => DescriptorType::SymbolicLink,
            FileType::Fifo => DescriptorType::Fifo,
            FileType::Socket => DescriptorType::Socket,
            FileType::CharacterDevice => DescriptorType::CharacterDevice,
            FileType::BlockDevice => DescriptorType::BlockDevice,
            FileType::Unknown => DescriptorType::Other(None),
        };
        names.push(DirectoryEntry { type_, name: name.to_owned() });
    }
    Ok(names)
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.take().inspect(JoinHandle::abort);
    }
}

impl<D> StreamProducer<D> for Names {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: StoreContextMut<'a, D>,
        mut to: Destination<'a, DirectoryEntry, VecBuffer<DirectoryEntry>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Some(task) = &mut self.task else { return Poll::Ready(Ok(self.told.tell(Ok(())))) };
        let read = Pin::new(task).poll(cx);
        if finish && read.is_pending() {
            // The work continues, for the next call.
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        let read = ready!(read);
        self.task = None;
        Poll::Ready(Ok(match read {
            Ok(Ok(names)) if names.is_empty() => self.told.tell(Ok(())),
            Ok(Ok(names)) => {
                to.set_buffer(names.into());
                StreamResult::Completed
            }
            Ok(Err(error)) => self.told.tell(Err(error)),
            Err(_panicked) => self.told.tell(Err(ErrorCode::Io)),
        }))
    }
}
