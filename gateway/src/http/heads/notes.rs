//! What the reader of a connection's heads has to say of some of its requests to whoever answers those, and back.

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

/// Of one connection. Where all requests are in order, it is never used.
#[derive(Debug)]
pub(in crate::http) struct Notes {
    is_used: AtomicBool,
    most: usize,
    kept: Mutex<Kept>,
    reader: AtomicWaker,
}

/// By streams.
#[derive(Debug, Default)]
struct Kept {
    refused: HashMap<u32, Fault>,
    /// Whose clients wait for 100 and had no response.
    expecting: HashSet<u32>,
    /// Those of them whose guest reads.
    wanted: Vec<u32>,
}

impl Notes {
    /// Of so many streams at once.
    pub(in crate::http) fn new(streams: u32) -> Self {
        let (is_used, kept, reader) = Default::default();
        // Streams that h2 turns away leave theirs behind.
        let most = usize::try_from(streams).unwrap_or(usize::MAX).saturating_mul(10);
        Self { is_used, most, kept, reader }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of anything there may be.
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
    /// There are too many.
    pub(super) fn refuse(&self, stream: u32, fault: Fault) -> io::Result<()> {
        let mut kept = self.kept();
        self.room(kept.refused.len())?;
        kept.refused.insert(stream, fault);
        Ok(())
    }

    /// # Errors
    /// There are too many.
    pub(super) fn expect(&self, stream: u32) -> io::Result<()> {
        let mut kept = self.kept();
        self.room(kept.expecting.len())?;
        kept.expecting.insert(stream);
        Ok(())
    }

    /// What was noted of a request, which it says itself.
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

    /// The stream was reset: nothing is to be said of it.
    pub(super) fn forget(&self, stream: u32) {
        let mut kept = self.kept();
        kept.expecting.remove(&stream);
        kept.refused.remove(&stream);
    }

    /// A response begins: no interim one comes any more.
    pub(super) fn answered(&self, stream: u32) {
        self.kept().expecting.remove(&stream);
    }

    /// The next stream that is to have 100.
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

/// A client that waits with its body until the guest reads it (RFC 9110 §10.1.1).
#[derive(Debug)]
pub(crate) struct Expecting {
    /// Where we have to say so.
    of: Option<(Arc<Notes>, u32)>,
}

impl Expecting {
    /// Over HTTP/1.1, where hyper sends it.
    pub(in crate::http) const fn by_hyper() -> Self {
        Self { of: None }
    }

    /// The guest reads.
    pub(in crate::http) fn wanted(self) {
        if let Some((notes, stream)) = self.of {
            notes.kept().wanted.push(stream);
            notes.reader.wake();
        }
    }
}
