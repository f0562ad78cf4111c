//! The state of one instance: what its host calls work on, and what it may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::egress::Egress;
use super::http::WayOut;
use super::keyvalue::Stores;
use super::random::Counted;
use super::stdio::LogStream;
use crate::telemetry::{GuestLogs, Record, Stream};
use crate::tenant::{Component, Count, Ledger, Limits, Tenant, cost};

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
    outbound: WayOut,
    pub(super) table: ResourceTable,
    pub(super) stores: Stores,
    pub(crate) meter: Meter,
    pub(crate) record: Arc<Record>,
    pub(crate) ledger: Arc<Ledger>,
    /// Fuel for the host's work, all of it until now.
    fuel_of_host: u64,
    /// Fuel for a call of the host.
    pub(crate) call_cost: u64,
    /// Whether the clock has just interrupted the guest, which is no call of the host.
    pub(crate) is_tick: bool,
    /// Bytes of the request's body that were charged.
    body_bytes: u64,
    /// Lines to the log that were charged.
    log_lines: u64,
    /// Random bytes that were not charged yet.
    random: Arc<AtomicU64>,
    /// Its standard output and error.
    streams: [LogStream; 2],
    /// Fuel for making it, or for using it again.
    made_for: u64,
}

/// What an instance is made for.
pub(crate) struct Make<'a> {
    pub(crate) tenant: &'a Arc<Tenant>,
    pub(crate) component: &'a Arc<Component>,
    pub(crate) limits: &'a Limits,
    pub(crate) store: &'a Arc<crate::store::Store>,
    pub(crate) logs: &'a GuestLogs,
    pub(crate) record: &'a Arc<Record>,
    /// Bytes of all instances of the gateway together.
    pub(crate) memory: &'a Arc<Count>,
    pub(crate) egress: &'a Arc<Egress>,
    /// Whom the request has been at (CDN-Loop), for those that the guest sends.
    pub(crate) chain: http::HeaderValue,
}

impl Guest {
    pub(crate) fn new(make: &Make<'_>) -> Self {
        let log = |stream| {
            let (ledger, component) = (Arc::clone(&make.tenant.ledger), make.component.name.clone());
            LogStream::new(make.logs.clone(), ledger, component, Arc::clone(make.record), stream)
        };
        let random = Arc::<AtomicU64>::default();
        let streams = [log(Stream::Stdout), log(Stream::Stderr)];
        let mut wasi = WasiCtx::builder();
        wasi.stdout(streams[0].clone())
            .stderr(streams[1].clone())
            .envs(&make.component.environment)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .secure_random(Counted(Arc::clone(&random)))
            .insecure_random(Counted(Arc::clone(&random)))
            .max_random_size(RANDOM_BYTES_MAX);
        if let Some(files) = &make.component.files
            && let Err(error) = wasi.preopened_dir(files, "/", FsPerms::ReadOnly)
        {
            tracing::error!(target: "sandbox", tenant = %make.tenant.id, %error, "a component's files are not there");
        }
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            wasi: wasi.build(),
            http,
            outbound: WayOut {
                tenant: Arc::clone(make.tenant),
                component: Arc::clone(make.component),
                egress: Arc::clone(make.egress),
                record: Arc::clone(make.record),
                max: make.limits.outbound,
                chain: make.chain.clone(),
                owed: 0,
                alive: Arc::default(),
            },
            table,
            stores: Stores::new(make),
            meter: Meter::new(make.limits.memory, Arc::clone(&make.tenant.ledger), Arc::clone(make.memory)),
            record: Arc::clone(make.record),
            ledger: Arc::clone(&make.tenant.ledger),
            fuel_of_host: cost::INSTANCE,
            call_cost: if make.component.files.is_some() { cost::HOST_CALL_WITH_FILES } else { cost::HOST_CALL },
            is_tick: false,
            body_bytes: 0,
            log_lines: 0,
            random,
            streams,
            made_for: cost::INSTANCE,
        }
    }

    /// Makes what it does from now on part of this record.
    pub(crate) fn belong_to(&mut self, record: &Arc<Record>) {
        for stream in &self.streams {
            stream.belong_to(record);
        }
        self.record = Arc::clone(record);
        self.outbound.record = Arc::clone(record);
    }

    /// Ready for another request of the same tenant to the same component.
    pub(crate) fn begin_again(&mut self, limits: &Limits, record: &Arc<Record>, chain: http::HeaderValue) {
        self.belong_to(record);
        self.outbound.chain = chain;
        self.outbound.max = limits.outbound;
        self.outbound.owed = 0;
        self.stores.begin_again(limits.storage_ops);
        self.meter.max = limits.memory;
        self.meter.grown = 0;
        self.made_for = cost::INSTANCE_AGAIN;
        self.fuel_of_host = self.made_for;
        self.random.store(0, Ordering::Relaxed);
        (self.is_tick, self.body_bytes, self.log_lines) = (false, 0, 0);
    }

    /// Fuel for having it at all, which every request pays.
    pub(crate) const fn made_for(&self) -> u64 {
        self.made_for
    }

    /// Adds the fuel of something that the host does for the guest.
    pub(crate) const fn charge(&mut self, fuel: u64) {
        self.fuel_of_host = self.fuel_of_host.saturating_add(fuel);
    }

    pub(crate) const fn fuel_of_host(&self) -> u64 {
        self.fuel_of_host
    }

    /// Adds what was counted elsewhere, and says what the host's work cost until now.
    pub(crate) fn count_host_work(&mut self) -> u64 {
        let bytes = self.record.bytes_received();
        let new_bytes = bytes - self.body_bytes;
        if new_bytes > 0 {
            self.ledger.moved(new_bytes);
            self.charge(bytes / cost::BODY_BYTES_A_UNIT - self.body_bytes / cost::BODY_BYTES_A_UNIT);
            self.body_bytes = bytes;
        }
        let lines = self.record.lines_logged();
        self.charge((lines - self.log_lines) * cost::LOG_LINE);
        self.log_lines = lines;
        let random = self.random.swap(0, Ordering::Relaxed);
        self.charge(random * cost::RANDOM_BYTE);
        let grown = std::mem::take(&mut self.meter.grown);
        self.charge(grown / cost::GROWN_BYTES_A_UNIT);
        let outbound = std::mem::take(&mut self.outbound.owed);
        self.charge(outbound);
        self.fuel_of_host
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

/// Counts the bytes of all linear memories and tables of an instance together, against the request's limit, the tenant's
/// quota and the gateway's bound. All of it goes back when the instance ends.
#[derive(Debug)]
pub(crate) struct Meter {
    used: u64,
    max: u64,
    ledger: Arc<Ledger>,
    gateway: Arc<Count>,
    denied: Option<Denied>,
    /// What was granted last, until it is known to have been made.
    granted: u64,
    /// Bytes that memories and tables grew by while the guest ran.
    grown: u64,
}

/// Whose bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Request,
    Tenant,
    Gateway,
}

/// What a table's element costs: a pointer.
const ELEMENT_BYTES: u64 = 8;
/// The most core instances, memories and tables that a component is made of.
const PARTS_MAX: usize = 100;

impl Meter {
    pub(crate) const fn new(max: u64, ledger: Arc<Ledger>, gateway: Arc<Count>) -> Self {
        Self { used: 0, max, ledger, gateway, denied: None, granted: 0, grown: 0 }
    }

    /// The most it ever had: memories never shrink while an instance lives.
    pub(crate) const fn peak(&self) -> u64 {
        self.used
    }

    /// Whose bound refused it more, the last time one did.
    pub(crate) const fn denied(&self) -> Option<Denied> {
        self.denied
    }

    fn grow(&mut self, by: u64) -> bool {
        let wanted = self.used.saturating_add(by);
        self.denied = if wanted > self.max {
            Some(Denied::Request)
        } else if !self.ledger.grow(by) {
            Some(Denied::Tenant)
        } else if !self.gateway.add(by) {
            self.ledger.shrink(by);
            Some(Denied::Gateway)
        } else {
            self.used = wanted;
            self.granted = by;
            return true;
        };
        false
    }

    /// What is there from the start is part of what an instance costs.
    fn grow_from(&mut self, current: usize, by: u64) -> bool {
        let grows = self.grow(by);
        if grows && current > 0 {
            self.grown += by;
        }
        grows
    }

    /// What was granted last was not made after all.
    fn not_made(&mut self) {
        let by = std::mem::take(&mut self.granted);
        self.used -= by;
        self.grown = self.grown.saturating_sub(by);
        self.ledger.shrink(by);
        self.gateway.give_back(by);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.ledger.shrink(self.used);
        self.gateway.give_back(self.used);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.granted = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The memory's own maximum, which is the component's doing.
            return Ok(false);
        }
        Ok(self.grow_from(current, desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.not_made();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.granted = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow_from(current, (desired.saturating_sub(current) as u64).saturating_mul(ELEMENT_BYTES)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.not_made();
        Ok(())
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
    use crate::ids::TenantId;
    use crate::tenant::{Quota, Registry};

    #[test]
    fn memories_and_tables_share_a_limit_a_quota_and_the_gateways_bound() {
        let id = TenantId::parse("acme").unwrap();
        let ledger = Registry::default().ledger(&id, &Quota { memory: 1500, ..Quota::unbounded() }, true);
        let gateway = Arc::new(Count::of(2000));
        let meter = |max| Meter::new(max, Arc::clone(&ledger), Arc::clone(&gateway));
        let mut one = meter(1000);
        assert!(one.memory_growing(0, 400, None).unwrap());
        assert!(one.memory_growing(0, 400, None).unwrap(), "a second memory");
        assert!(one.table_growing(0, 10, None).unwrap());
        assert_eq!(one.denied(), None);
        assert!(!one.memory_growing(400, 600, None).unwrap());
        assert_eq!((one.denied(), one.peak()), (Some(Denied::Request), 880));

        let mut two = meter(1000);
        assert!(two.memory_growing(0, 620, None).unwrap(), "up to the last byte of the tenant's quota");
        assert!(!two.memory_growing(620, 621, None).unwrap());
        assert_eq!(two.denied(), Some(Denied::Tenant));

        let other = Registry::default().ledger(&id, &Quota::unbounded(), true);
        let mut three = Meter::new(1000, other, Arc::clone(&gateway));
        assert!(three.memory_growing(0, 500, None).unwrap());
        assert!(!three.memory_growing(500, 501, None).unwrap());
        assert_eq!(three.denied(), Some(Denied::Gateway));
        drop((one, three));
        assert!(two.memory_growing(620, 1000, None).unwrap(), "what ended gave all of it back");
        two.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!((two.peak(), gateway.now()), (620, 620), "what was not made is not counted");
        drop(two);
        assert_eq!((gateway.now(), ledger.memory_now()), (0, 0));
    }
}
