//! The limits of a call, and why a call failed.

/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 1024;
/// The largest value, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// The most keys in one batch call, and the most in one page of a listing.
pub(crate) const BATCH_MAX: usize = 1000;
/// The most bytes that one batch may return: the gateway holds them in memory.
pub(crate) const BATCH_BYTES_MAX: usize = 8 << 20;

/// The most bytes that one Redis command may read for its answer.
pub(crate) const READ_BYTES_MAX: usize = 4 << 20;

/// Why a call failed. A guest may rely on the first word of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("unavailable: the store cannot be reached")]
    Unavailable,
    /// The server failed repeatedly, and is not called for a moment.
    #[error("unavailable: circuit open: the store does not answer, and gets no calls for a moment")]
    LeftAlone,
    /// The server accepts nothing, or no writes, until some work of its own is over.
    #[error("unavailable: the store accepts no call of this kind at the moment")]
    NotNow,
    /// The tenant has as many calls in progress as it may.
    #[error("busy: too many calls of this tenant wait for the store")]
    Busy,
    #[error("timeout: the store did not answer in time")]
    Timeout,
    #[error("too-large: {0}")]
    TooLarge(&'static str),
    /// More than a Redis command may request, and what to do instead.
    #[error("too-large: {command}: {what}")]
    TooMuch { command: &'static str, what: &'static str },
    #[error("wrong-type: the value is not a decimal number that the sum fits in")]
    NotANumber,
    #[error("wrong-type: {0}")]
    WrongType(String),
    /// A command that is not served, and why.
    #[error("refused: {0}")]
    Refused(String),
    /// The server's own text for a command that it refused.
    #[error("{0}")]
    Command(String),
    /// The tenant has reached its quota.
    #[error("quota-exceeded: storage.{0}")]
    OverQuota(&'static str),
    /// The number in the store's note, and the configured one.
    #[error("shards: the data is in {noted} shards, but quota.shards is {wanted}")]
    Shards { noted: u16, wanted: u16 },
    #[error("bad-cursor: this cursor is not from this store")]
    BadCursor,
    #[error("internal: the store failed")]
    Internal,
}

impl Error {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::LeftAlone => "left-alone",
            Self::NotNow => "not-now",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::TooLarge(_) | Self::TooMuch { .. } => "too-large",
            Self::NotANumber | Self::WrongType(_) => "wrong-type",
            Self::Refused(_) => "refused",
            Self::Command(_) => "command",
            Self::OverQuota(_) => "quota-exceeded",
            Self::Shards { .. } => "shards",
            Self::BadCursor => "bad-cursor",
            Self::Internal => "internal",
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
