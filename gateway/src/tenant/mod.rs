//! A tenant and what it may use: its identity, the limits of one request, and the quota of the tenant as a whole.
//!
//! The [`Registry`] keeps by identity what must outlive a reload (the [`Ledger`]). The rest comes from files.

mod bucket;
mod budget;
mod causes;
mod component;
pub(crate) mod cost;
mod grant;
mod guards;
mod ledger;
mod limited;
mod limits;
mod needs;
mod per_address;
mod ports;
mod registry;
mod semaphore;
mod shared;
mod usage;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{Digest, StoreName, TenantId};

pub(crate) use bucket::{Count, Rate};
pub(crate) use budget::{Budget, MESSAGES_IN_A_LINE_MAX};
pub(crate) use component::{Component, Handler};
pub(crate) use grant::{Grant, GrantedHost};
pub(crate) use guards::{Connected, InFlight};
pub(crate) use ledger::Ledger;
pub(crate) use limited::Limited;
pub(crate) use limits::{Limits, Quota, Space};
pub(crate) use needs::Needs;
pub(crate) use per_address::PerAddress;
pub(crate) use ports::Ports;
pub(crate) use registry::Registry;
pub(crate) use semaphore::{Entry, QuotaPermit, WhenFull};
pub(crate) use shared::{LastReport, NAMES as RATE_NAMES, RatesState};
pub(crate) use usage::{Held, Usage};

/// How long values in a store last, by the store's name (`[store_ttl]`). In other stores they do not expire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreTtl(pub(crate) Vec<(StoreName, Duration)>);

impl StoreTtl {
    pub(crate) fn of(&self, name: &StoreName) -> Option<Duration> {
        self.0.iter().find(|(store, _)| store == name).map(|(_, ttl)| *ttl)
    }
}

/// A tenant as its file describes it.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) store_ttl: StoreTtl,
    /// Shared by all versions of this tenant that reloads create.
    pub(crate) ledger: Arc<Ledger>,
    /// The client certificates that it accepts, if it asks for any.
    pub(crate) callers: Option<Callers>,
    /// Codings with which its responses may be compressed, in order of preference. If empty, they are not compressed.
    pub(crate) compress: Vec<Coding>,
}

/// A content coding (RFC 9110 §8.4.1, RFC 7932, RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    pub(crate) const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Which client certificates a tenant accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callers {
    /// The digest of the CAs that the handshake verified against.
    pub(crate) by: Digest,
    /// Whether clients without a certificate are refused.
    pub(crate) is_required: bool,
}
