//! Sizes that several host interfaces share: what a body, a set of fields or a name may have.

/// The most bytes of one write to a body: a TLS record.
pub(super) const CHUNK_BYTES_MAX: usize = 16 << 10;
/// Pieces that may wait. The limit on bytes is reached long before.
pub(super) const PIECES_MAX: usize = 4095;
/// For a guest's body: one piece waits, and one is being sent.
pub(super) const OUTGOING_BODY_BYTES: u64 = 2 * CHUNK_BYTES_MAX as u64;
/// For a body that arrives: the last piece read; for HTTP/1.1, everything that a connection reads at once.
pub(super) const INCOMING_BODY_BYTES: u64 = 64 << 10;
/// The most bytes of one set of header fields in memory.
pub(super) const FIELDS_BYTES_MAX: usize = 48 << 10;
/// For names of stores, variables, header fields and the like.
pub(super) const NAME_BYTES_MAX: usize = 256;
/// For the address of a server, with its credentials.
pub(super) const ADDRESS_BYTES_MAX: usize = 1 << 10;
