//! The state of one instance: what its host calls work on, and what it may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::body_buffer::BodyBuffer;
use super::error_words::ErrorWords;
use super::http::OutboundHttp;
use super::meter::Meter;
use super::notices::Notices;
use super::otel::Sent;
use super::priced::{Weight, of_bytes};
use super::random::Counted;
use super::response_bodies::ResponseBodies;
use super::setup::GuestSetup;
use super::sizes::FIELDS_BYTES_MAX;
use super::stdio::LogStream;
use super::stores::Stores;
use super::table::Table;
use super::weight::Touched;
use crate::http::Exchange;
use crate::telemetry::{Record, Stream};
use crate::tenant::{Budget, Handler, Ledger, Limits, cost};

/// The most random bytes of one call.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// The data of an instance's Wasmtime store.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: OutboundHttp,
    pub(crate) table: Table,
    pub(super) stores: Stores,
    pub(crate) meter: Meter,
    pub(crate) record: Arc<Record>,
    pub(crate) ledger: Arc<Ledger>,
    /// What it may use, together with everything of the same cause.
    pub(crate) budget: Budget,
    /// Total fuel for the host's work until now.
    fuel_of_host: u64,
    /// The price of one host call.
    pub(crate) call_cost: u64,
    /// Whether the clock has just interrupted the guest, which is not a host call.
    pub(crate) is_tick: bool,
    /// Bytes of the request's body that were charged.
    body_bytes: u64,
    /// Log lines that were charged.
    log_lines: u64,
    /// Random bytes that are not charged yet.
    random: Arc<AtomicU64>,
    /// Bytes that it wrote to standard output and error, and how many of them were charged.
    printed: Arc<AtomicU64>,
    printed_bytes: u64,
    /// Its standard output and error.
    streams: [LogStream; 2],
    /// The gateway's notices to its developer.
    pub(super) notices: Notices,
    /// What it sent by wasi:otel.
    pub(super) otel: Sent,
    /// What it returned as its answer.
    pub(super) answers: ResponseBodies,
    /// The price of creating it, or of using it again.
    made_for: u64,
    /// The request's exchange, if it answers a request.
    pub(super) exchange: Option<Arc<Exchange>>,
    /// Unsent bytes of the bodies that it wrote, with their places in the table.
    pub(super) rooms: Vec<(Option<u32>, Arc<BodyBuffer>)>,
}

impl Guest {
    pub(crate) fn new(make: &GuestSetup<'_>) -> Self {
        let meter = Meter::new(make.limits.memory, Arc::clone(&make.tenant.ledger), Arc::clone(make.memory));
        let printed = Arc::<AtomicU64>::default();
        let log = |stream| {
            let (ledger, component) = (Arc::clone(&make.tenant.ledger), make.component.name.clone());
            let stream = (stream, Arc::clone(&printed));
            LogStream::new(make.logs.clone(), ledger, component, Arc::clone(make.record), stream, meter.account())
        };
        let random = Arc::<AtomicU64>::default();
        let streams = [log(Stream::Stdout), log(Stream::Stderr)];
        let notices = Notices::new(streams[1].clone());
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
        // It is empty, so there is always room.
        let _joined = meter.join(make.budget.memory());
        let table = Table::new(meter.account());
        Self {
            wasi: wasi.build(),
            http,
            outbound: OutboundHttp {
                tenant: Arc::clone(make.tenant),
                component: Arc::clone(make.component),
                egress: Arc::clone(make.egress),
                record: Arc::clone(make.record),
                notices: notices.clone(),
                max: make.limits.outbound,
                chain: make.chain.clone(),
                budget: make.budget.clone(),
                owed: 0,
                account: Arc::clone(meter.account()),
                alive: Arc::default(),
            },
            table,
            stores: Stores::new(make),
            meter,
            record: Arc::clone(make.record),
            ledger: Arc::clone(&make.tenant.ledger),
            budget: make.budget.clone(),
            fuel_of_host: cost::INSTANCE,
            call_cost: if make.component.files.is_some() { cost::HOST_CALL_WITH_FILES } else { cost::HOST_CALL },
            is_tick: false,
            body_bytes: 0,
            log_lines: 0,
            random,
            printed,
            printed_bytes: 0,
            streams,
            notices,
            otel: Sent::default(),
            answers: ResponseBodies::default(),
            made_for: cost::INSTANCE,
            exchange: make.exchange.cloned(),
            rooms: Vec::new(),
        }
    }

    /// Writes to the tenant's log that the guest returned this error.
    pub(crate) fn print_error(&mut self, text: &str) {
        self.charge(of_bytes(text.len()));
        self.streams[1].line(&format!("tollgate: the run failed: {}", text));
    }

    /// Notes the error code that the guest returned instead of a response, for its developer and for the operator.
    pub(crate) fn answered_with(&self, code: &dyn std::fmt::Debug) {
        let code = ErrorWords::of(code);
        self.record.answered_with(code.name());
        self.notices.say(&format!("the component answered with an error code: {}", code.text()));
    }

    /// Whether the body of its response was neither finished nor dropped (wasi:http 0.2).
    pub(crate) const fn has_open_answer(&self) -> bool {
        self.answers.is_open()
    }

    /// Assigns its further actions to this record, and to no exchange.
    pub(crate) fn belong_to(&mut self, record: &Arc<Record>) {
        self.exchange = None;
        self.rooms.clear();
        for stream in &self.streams {
            stream.belong_to(record);
        }
        self.record = Arc::clone(record);
        self.outbound.record = Arc::clone(record);
    }

    /// Prepares it for another request of the same tenant to the same component. Returns whether its memory fits into that
    /// request's budget; if not, it must not be used.
    pub(crate) fn begin_again(
        &mut self,
        limits: &Limits,
        record: &Arc<Record>,
        (chain, exchange): (http::HeaderValue, Option<Arc<Exchange>>),
        budget: &Budget,
    ) -> bool {
        self.belong_to(record);
        self.exchange = exchange;
        (self.budget, self.outbound.budget) = (budget.clone(), budget.clone());
        self.outbound.chain = chain;
        self.outbound.max = limits.outbound;
        self.outbound.owed = 0;
        self.stores.begin_again(limits.storage_ops);
        self.table.begin_again();
        self.meter.begin_again(limits.memory);
        self.made_for = cost::INSTANCE_AGAIN;
        self.fuel_of_host = self.made_for;
        self.random.store(0, Ordering::Relaxed);
        self.printed.store(0, Ordering::Relaxed);
        self.notices.begin_again();
        self.otel = Sent::default();
        (self.is_tick, self.body_bytes, self.log_lines, self.printed_bytes) = (false, 0, 0, 0);
        self.meter.join(budget.memory())
    }

    /// The handler to call, if its tenant's file chooses one.
    pub(crate) fn handler(&self) -> Option<Handler> {
        self.stores.component().handler
    }

    /// Writes a line to the tenant's log, for standard error or standard output.
    pub(super) fn print(&self, is_error: bool, text: &str) {
        self.streams[usize::from(is_error)].line(text);
    }

    /// Updates the charges of the resources that a call touched.
    ///
    /// # Errors
    /// There is no room.
    pub(super) fn settle(&mut self, touched: &Touched) -> wasmtime::Result<()> {
        touched.places().iter().try_for_each(|place| self.table.settle(*place))
    }

    /// Charges a Spin 1 response, which its guest returns complete.
    pub(crate) fn handed_over(&mut self, headers: Option<&Vec<(String, String)>>, body: usize) {
        self.charge(headers.map_or(0, Weight::weight).saturating_add(of_bytes(body)));
    }

    /// The price of having an instance, which every request pays.
    pub(crate) const fn made_for(&self) -> u64 {
        self.made_for
    }

    /// Adds the price of something that the host did for the guest.
    pub(crate) const fn charge(&mut self, fuel: u64) {
        self.fuel_of_host = self.fuel_of_host.saturating_add(fuel);
    }

    pub(crate) const fn fuel_of_host(&self) -> u64 {
        self.fuel_of_host
    }

    /// Adds what was counted elsewhere. Returns the total price of the host's work until now.
    pub(crate) fn count_host_work(&mut self) -> u64 {
        let bytes = self.record.bytes_received();
        let new_bytes = bytes - self.body_bytes;
        if new_bytes > 0 {
            self.ledger.charge_body_bytes(new_bytes);
            self.charge(bytes / cost::BODY_BYTES_A_UNIT - self.body_bytes / cost::BODY_BYTES_A_UNIT);
            self.body_bytes = bytes;
        }
        let lines = self.record.lines_logged();
        self.charge((lines - self.log_lines) * cost::LOG_LINE);
        self.log_lines = lines;
        // Charged by the total: how often this runs depends on the clock.
        let printed = self.printed.load(Ordering::Relaxed);
        self.charge(printed / cost::CARRIED_BYTES_A_UNIT - self.printed_bytes / cost::CARRIED_BYTES_A_UNIT);
        self.printed_bytes = printed;
        let random = self.random.swap(0, Ordering::Relaxed);
        self.charge(random * cost::RANDOM_BYTE);
        let grown = self.meter.take_grown();
        self.charge(grown / cost::GROWN_BYTES_A_UNIT);
        let outbound = std::mem::take(&mut self.outbound.owed);
        self.charge(outbound);
        self.fuel_of_host
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: self.table.of_wasi() }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: self.table.of_wasi(), ctx: &mut self.http }
    }
}
