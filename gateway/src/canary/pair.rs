//! The two halves of a pair, as tenants: the same component twice, with grants for everything that is checked.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::{ComponentName, Digest, StoreName, TenantId};
use crate::route::{Found, PathPattern, Route, Routed, Served, Table};
use crate::tenant::{Component, Limits, Quota, Registry, StoreTtl, Tenant};

/// `wat/canary.wat`, with either handler.
const SINGLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/canary-single.wasm"));
const CONCURRENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/canary-concurrent.wasm"));

/// Bytes of responses that each half may keep.
pub(super) const CACHE_BYTES: u64 = 64 << 10;

/// Requests to one instance: the half that leaves something gets three, so that the third one releases the slot; the half
/// that looks gets two.
const REUSE: [u32; 2] = [3, 2];

/// The places where data was found, by the bits of a canary's answer, and whether they are slots of the pools.
const PLACES: [(&str, bool); 6] = [
    ("its image", true),
    ("its memory", true),
    ("its heap", true),
    ("its table", true),
    ("its stack", true),
    ("its store", false),
];
/// The store did not answer.
pub(super) const SILENT: u16 = 1 << 6;
/// What an instance finds that an earlier request to it left, and what any instance of that tenant finds in its store.
pub(super) const OF_INSTANCE: u16 = 0b1111;
pub(super) const OF_STORE: u16 = 1 << 5;

/// The places for these bits.
pub(super) fn places(bits: u16) -> impl Iterator<Item = &'static str> {
    PLACES.iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, (place, _))| *place)
}

/// Whether data in this place means that a slot was not clean.
pub(super) fn is_of_slots(place: &str) -> bool {
    PLACES.iter().any(|(known, is_of_slots)| *known == place && *is_of_slots)
}

/// The engine in which a pair runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    /// Its instances answer several requests.
    Concurrent,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Single, Self::Concurrent];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Concurrent => "concurrent",
        }
    }

    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Single => SINGLE,
            Self::Concurrent => CONCURRENT,
        }
    }

    pub(super) fn wasm(self) -> Arc<[u8]> {
        self.bytes().into()
    }

    pub(super) fn digest(self) -> Digest {
        Digest::of(self.bytes())
    }

    /// The half that leaves something, and the half that looks.
    pub(super) fn sides(self) -> [TenantId; 2] {
        match self {
            Self::Single => ["canary-leaves", "canary-looks"],
            Self::Concurrent => ["canary-leaves-concurrent", "canary-looks-concurrent"],
        }
        .map(TenantId::of_gateway)
    }
}

/// Two tenants that have nothing in common but the machine.
pub(super) struct Pair {
    pub(super) kind: Kind,
    pub(super) leaves: TenantId,
    pub(super) looks: TenantId,
    /// Whether they have a store.
    pub(super) stores: bool,
    table: Table,
}

impl Pair {
    pub(super) fn new(kind: Kind, registry: &Registry, stores: bool) -> Self {
        let [leaves, looks] = kind.sides();
        let mut table = Table::default();
        for (id, reuse) in [&leaves, &looks].into_iter().zip(REUSE) {
            table.add(Arc::new(tenant(id, registry)), Vec::new(), served(component(kind, reuse, stores)));
        }
        Self { kind, leaves, looks, stores, table }
    }

    /// The component that answers one half at this path.
    pub(super) fn routed(&self, side: &TenantId, path: &str) -> Option<Routed> {
        match self.table.own(side, path) {
            Ok(Found::Component(routed)) => Some(routed),
            Ok(Found::Fixed(..) | Found::Loading(_)) | Err(_) => None,
        }
    }
}

fn tenant(id: &TenantId, registry: &Registry) -> Tenant {
    Tenant {
        id: id.clone(),
        store_ttl: StoreTtl::default(),
        ledger: registry.aside(id, &QUOTA),
        callers: None,
        compress: Vec::new(),
    }
}

fn served(component: Option<Component>) -> Served {
    let (Some(component), Ok(pattern)) = (component, PathPattern::parse("/...")) else { return Served::default() };
    let route = Route { pattern, component: Arc::new(component), limits: Arc::new(LIMITS), is_spin: false };
    Served { routes: vec![route], ..Served::default() }
}

fn component(kind: Kind, reuse: u32, stores: bool) -> Option<Component> {
    Some(Component {
        name: ComponentName::parse("canary")?,
        digest: kind.digest(),
        reuse: if kind == Kind::Concurrent { reuse } else { 1 },
        needs: crate::tenant::Needs::default(),
        handler: None,
        stores: StoreName::parse("default").filter(|_| stores).into_iter().collect(),
        redis: Vec::new(),
        environment: Vec::new(),
        files: None,
        variables: Vec::new(),
        egress: Vec::new(),
        is_spin: false,
    })
}

/// Several times what a check needs.
const LIMITS: Limits = Limits {
    fuel: 100_000_000,
    memory: 8 << 20,
    time: Duration::from_secs(5),
    request_body: 0,
    response_head: 4096,
    storage_ops: 10,
    outbound: 0,
};

/// They send one request after the other.
const QUOTA: Quota = Quota {
    weight: 1,
    in_flight: 4,
    connections: 0,
    waiting: 1,
    memory: 32 << 20,
    requests: None,
    requests_per_address: None,
    fuel: None,
    body_bytes: None,
    storage_ops: None,
    storage: None,
    cache: CACHE_BYTES,
    shards: 1,
    storage_bytes: None,
    outbound: None,
    outbound_in_flight: 0,
    outbound_waiting: 0,
    messages_at_once: 1,
    log_bytes: None,
};
