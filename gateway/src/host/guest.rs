//! The state of one instance: what its host calls work on, and what it may use.

use std::sync::Arc;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::http::DenyOutbound;
use super::keyvalue::Stores;
use super::stdio::LogStream;
use crate::telemetry::{GuestLogs, Record, Stream};
use crate::tenant::{Component, Limits, Tenant};

/// The most host resources (streams, bodies, buckets …) that an instance may hold at once.
pub(crate) const RESOURCES_MAX: usize = 200;
/// Bytes of one set of header fields, as they are held in memory.
const FIELDS_BYTES_MAX: usize = 48 << 10;
/// The most random bytes of one call.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// The data of an instance's Wasmtime store.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: DenyOutbound,
    pub(super) table: ResourceTable,
    pub(super) stores: Stores,
    pub(crate) meter: Meter,
    pub(crate) record: Arc<Record>,
}

/// What an instance is made for.
pub(crate) struct Make<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) component: &'a Component,
    pub(crate) limits: &'a Limits,
    pub(crate) store: &'a Arc<crate::store::Store>,
    pub(crate) logs: &'a GuestLogs,
    pub(crate) record: &'a Arc<Record>,
}

impl Guest {
    pub(crate) fn new(make: &Make<'_>) -> Self {
        let log = |stream| {
            let (tenant, component) = (make.tenant.id.clone(), make.component.name.clone());
            LogStream::new(make.logs.clone(), tenant, component, make.record.id, stream)
        };
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log(Stream::Stdout))
            .stderr(log(Stream::Stderr))
            .envs(&make.tenant.environment)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            wasi: wasi.build(),
            http,
            outbound: DenyOutbound,
            table,
            stores: Stores::new(make),
            meter: Meter::new(make.limits.memory),
            record: Arc::clone(make.record),
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Counts the bytes of all linear memories and tables of an instance together, against one limit.
#[derive(Debug)]
pub(crate) struct Meter {
    used: u64,
    max: u64,
    denied: bool,
}

/// What a table's element costs: a pointer.
const ELEMENT_BYTES: u64 = 8;
/// The most core instances, memories and tables that a component is made of.
const PARTS_MAX: usize = 100;

impl Meter {
    pub(crate) const fn new(max: u64) -> Self {
        Self { used: 0, max, denied: false }
    }

    /// The most it ever had: memories never shrink while an instance lives.
    pub(crate) const fn peak(&self) -> u64 {
        self.used
    }

    /// Whether it was ever refused more.
    pub(crate) const fn was_denied(&self) -> bool {
        self.denied
    }

    fn grow(&mut self, by: u64) -> bool {
        let wanted = self.used.saturating_add(by);
        if wanted > self.max {
            self.denied = true;
            return false;
        }
        self.used = wanted;
        true
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The memory's own maximum, which is the component's doing.
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired.saturating_sub(current) as u64).saturating_mul(ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut meter = Meter::new(1000);
        assert!(meter.memory_growing(0, 400, None).unwrap());
        assert!(meter.memory_growing(0, 400, None).unwrap(), "a second memory");
        assert!(meter.table_growing(0, 10, None).unwrap());
        assert!(!meter.was_denied());
        assert!(!meter.memory_growing(400, 600, None).unwrap());
        assert!(meter.was_denied());
        assert_eq!(meter.peak(), 880);
    }
}
