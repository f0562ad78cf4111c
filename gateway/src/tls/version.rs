//! The HTTP version that a handshake negotiated.

/// The protocol that ALPN (RFC 7301) chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// A client that offers no protocol speaks HTTP/1.1.
    pub(crate) fn of_alpn(chosen: Option<&[u8]>) -> Self {
        if chosen == Some(b"h2") { Self::Http2 } else { Self::Http1 }
    }
}
