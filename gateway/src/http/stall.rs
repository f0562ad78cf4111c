//! A stream whose peer must read at a minimum rate, or lose the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::min_rate::MinRate;

/// Wraps a stream. The clock runs only while a write waits.
pub(super) struct Stalling<IO> {
    io: IO,
    min_rate: MinRate,
    writing: Writing,
}

/// Whether bytes wait for the client to read them.
#[derive(Clone, Debug, Default)]
pub(super) struct Writing(Arc<AtomicBool>);

impl Writing {
    /// Waits for `quiet`, repeatedly, until no bytes wait when it resolves.
    pub(super) async fn quiet_after<F: Future<Output = ()>>(&self, quiet: impl Fn() -> F) {
        loop {
            quiet().await;
            if !self.0.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

impl<IO> Stalling<IO> {
    pub(super) fn new(io: IO, min_rate: MinRate) -> Self {
        Self { io, min_rate, writing: Writing::default() }
    }

    pub(super) fn writing(&self) -> Writing {
        self.writing.clone()
    }

    /// Passes on the result of a write. `bytes` says how many were written.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        self.writing.0.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(written) = written {
            self.min_rate.transferred(written.as_ref().map_or(0, bytes) as u64);
            return Poll::Ready(written);
        }
        let too_slow = || Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes too few bytes"));
        self.min_rate.poll_too_slow(cx).map(|()| too_slow())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Stalling<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Stalling<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, written, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.watch(cx, written, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, shut, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_loses_the_connection() {
        let (near, _far) = tokio::io::duplex(16);
        let mut stalling = Stalling::new(near, MinRate::new(Duration::from_secs(30), 0));
        let error = stalling.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_that_reads_something_keeps_the_connection() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stalling = Stalling::new(near, MinRate::new(Duration::from_secs(30), 0));
        let read = tokio::spawn(async move {
            let mut byte = [0; 16];
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                far.read_exact(&mut byte).await.unwrap();
            }
        });
        stalling.write_all(&[0; 64]).await.unwrap();
        read.await.unwrap();
    }
}
