//! Bytes of a connection that are held until their message is complete.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// The number of bytes for which one read makes room.
pub(super) const READ_BYTES: usize = 4096;

/// Reads more, and appends it to the held bytes. Returns false at the end of the stream.
pub(super) fn poll_hold<IO: AsyncRead + Unpin>(
    io: &mut IO,
    held: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    let before = held.len();
    held.resize(before + READ_BYTES, 0);
    let mut buf = ReadBuf::new(held.get_mut(before..).unwrap_or_default());
    let polled = Pin::new(io).poll_read(cx, &mut buf);
    let count = buf.filled().len();
    held.truncate(before + count);
    ready!(polled)?;
    Poll::Ready(Ok(count > 0))
}
