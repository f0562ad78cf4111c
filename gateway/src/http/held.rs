//! Bytes of a connection that are held until what they belong to is all there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that one read makes room for.
pub(super) const READ_BYTES: usize = 4096;

/// Reads on, behind what is held; whether there was anything.
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
