//! Notes about single requests, between the reader of a connection's heads and the service that answers.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use http::Request;

use crate::fault::Fault;
use crate::http::blocks::message::NOTE;
use crate::http::front::Malformed;

/// The notes of one connection. Unused as long as all requests are valid.
#[derive(Debug)]
pub(in crate::http) struct Notes {
    is_used: AtomicBool,
    most: usize,
    kept: Mutex<Kept>,
    reader: AtomicWaker,
}

/// The notes, by stream.
#[derive(Debug, Default)]
struct Kept {
    refused: HashMap<u32, Fault>,
    /// Streams whose clients wait for 100 and have no response yet.
    expecting: HashSet<u32>,
    /// The expecting streams whose guest now reads the body.
    wanted: Vec<u32>,
}

impl Notes {
    /// Notes for this many concurrent streams.
    pub(in crate::http) fn new(streams: u32) -> Self {
        let (is_used, kept, reader) = Default::default();
        // Streams that h2 rejects leave their notes behind.
        let most = usize::try_from(streams).unwrap_or(usize::MAX).saturating_mul(10);
        Self { is_used, most, kept, reader }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The maximum number of notes of each kind.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    fn room(&self, count: usize) -> io::Result<()> {
        self.is_used.store(true, Ordering::Release);
        let full = || io::Error::new(io::ErrorKind::InvalidData, "too many requests that are not answered");
        if count < self.most { Ok(()) } else { Err(full()) }
    }

    /// # Errors
    /// There are too many notes.
    pub(super) fn refuse(&self, stream: u32, fault: Fault) -> io::Result<()> {
        let mut kept = self.kept();
        self.room(kept.refused.len())?;
        kept.refused.insert(stream, fault);
        Ok(())
    }

    /// # Errors
    /// There are too many notes.
    pub(super) fn expect(&self, stream: u32) -> io::Result<()> {
        let mut kept = self.kept();
        self.room(kept.expecting.len())?;
        kept.expecting.insert(stream);
        Ok(())
    }

    /// The note about a request, which its note field identifies.
    pub(in crate::http) fn take<B>(self: &Arc<Self>, request: &mut Request<B>) -> Option<Expecting> {
        if !self.is_used() {
            return None;
        }
        let note = request.headers_mut().remove(NOTE)?;
        let stream = note.to_str().ok()?.parse().ok()?;
        let refused = self.kept().refused.remove(&stream);
        match refused {
            Some(fault) => {
                request.extensions_mut().insert(Malformed(fault));
                None
            }
            None => Some(Expecting { of: Some((Arc::clone(self), stream)) }),
        }
    }

    /// Removes the notes of a stream that was reset.
    pub(super) fn forget(&self, stream: u32) {
        let mut kept = self.kept();
        kept.expecting.remove(&stream);
        kept.refused.remove(&stream);
    }

    /// A response begins: no interim response may follow.
    pub(super) fn answered(&self, stream: u32) {
        self.kept().expecting.remove(&stream);
    }

    /// The next stream that needs a 100.
    pub(super) fn next_wanted(&self) -> Option<u32> {
        let mut kept = self.kept();
        while let Some(stream) = kept.wanted.pop() {
            if kept.expecting.remove(&stream) {
                return Some(stream);
            }
        }
        None
    }

    pub(super) fn wake_with(&self, waker: &Waker) {
        self.reader.register(waker);
    }
}

/// A client that waits to send its body until the guest reads it (RFC 9110 §10.1.1).
#[derive(Debug)]
pub(crate) struct Expecting {
    /// The notes and the stream through which to send 100.
    of: Option<(Arc<Notes>, u32)>,
}

impl Expecting {
    /// For HTTP/1.1, where hyper sends 100.
    pub(in crate::http) const fn by_hyper() -> Self {
        Self { of: None }
    }

    /// The guest reads the body.
    pub(in crate::http) fn wanted(self) {
        if let Some((notes, stream)) = self.of {
            notes.kept().wanted.push(stream);
            notes.reader.wake();
        }
    }
}
