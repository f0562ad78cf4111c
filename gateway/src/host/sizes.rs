//! Sizes that several host interfaces share: what a body, a set of fields or a name may have.

/// What one write to a body may bring: a record of TLS.
pub(super) const CHUNK_BYTES_MAX: usize = 16 << 10;
/// Pieces that may wait. Their bytes are bounded long before.
pub(super) const PIECES_MAX: usize = 4095;
/// Of a guest's body: one piece waits, and one is on its way.
pub(super) const OUTGOING_BODY_BYTES: u64 = 2 * CHUNK_BYTES_MAX as u64;
/// Of a body that arrives: the piece that was read last, of HTTP/1.1 all that a connection reads at once.
pub(super) const INCOMING_BODY_BYTES: u64 = 64 << 10;
/// Bytes of one set of header fields, as they are held in memory.
pub(super) const FIELDS_BYTES_MAX: usize = 48 << 10;
/// A name of a store, a variable, a header field and the like.
pub(super) const NAME_BYTES_MAX: usize = 256;
/// The address of a server, with its credentials.
pub(super) const ADDRESS_BYTES_MAX: usize = 1 << 10;
