//! All built-in defaults, in one table. `config/gateway.toml` shows each of them.

use std::time::Duration;

use crate::tenant::{Limits, Quota, Rate};

pub(crate) const HTTPS: &str = "127.0.0.1:8443";
pub(crate) const HTTP: &str = "127.0.0.1:8080";
pub(crate) const ADMIN: &str = "127.0.0.1:9443";
pub(crate) const CONNECTIONS: u32 = 10_000;
pub(crate) const QUIC: bool = false;
/// Long enough that most load balancers have asked twice.
pub(crate) const UNHEALTHY: Duration = Duration::from_secs(5);
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

pub(crate) const STATE: &str = "../state";
pub(crate) const TENANTS: &str = "../tenants";
/// The name in the sentinels' own example configuration.
pub(crate) const SENTINEL_PRIMARY: &str = "mymaster";
pub(crate) const SHARE_RATES: bool = true;
pub(crate) const STORAGE_TIMEOUT: Duration = Duration::from_millis(500);

pub(crate) const HEAD_TIME: Duration = Duration::from_secs(10);
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
pub(crate) const BODY_IDLE: Duration = Duration::from_secs(10);
pub(crate) const IDLE: Duration = Duration::from_secs(60);
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(30);
/// Bytes a second, as mod_reqtimeout requires.
pub(crate) const RATE_MIN: u64 = 500;
pub(crate) const HEAD_BYTES: u64 = 16 << 10;
pub(crate) const FIELDS: u32 = 100;
pub(crate) const STREAMS: u32 = 100;

pub(crate) const INSTANCES: u32 = 1000;
pub(crate) const WAITING: u32 = 1000;
pub(crate) const WAIT: Duration = Duration::from_secs(2);
pub(crate) const CACHE: u64 = 2 << 30;
pub(crate) const CACHE_IDLE: Duration = Duration::from_hours(1);
pub(crate) const COMPILE_MEMORY: u64 = 2 << 30;
pub(crate) const COMPILE_TIME: Duration = Duration::from_secs(60);

pub(crate) const CONFINE: bool = true;

pub(crate) const LOG: &str = "info";
pub(crate) const METRICS_TENANTS: u32 = 1000;
pub(crate) const ACCESS_FILE_BYTES: u64 = 100 << 20;
pub(crate) const ACCESS_FILES: u32 = 5;
/// One request in a hundred.
pub(crate) const OTLP_TRACES_PER_MILLION: u32 = 10_000;
pub(crate) const OTLP_INTERVAL: Duration = Duration::from_secs(15);
pub(crate) const OTLP_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) const FAIR_TURNS: bool = true;
pub(crate) const METERING: bool = true;
pub(crate) const WATCH_ISOLATION: bool = true;
pub(crate) const MEMORY: u64 = 2 << 30;

pub(crate) const EGRESS_CONNECT: Duration = Duration::from_secs(5);
pub(crate) const EGRESS_IDLE: Duration = Duration::from_secs(10);
pub(crate) const EGRESS_RESPONSE: u64 = 32 << 20;
pub(crate) const EGRESS_KEPT: u32 = 1000;
pub(crate) const EGRESS_KEPT_PER_TENANT: u32 = 32;
/// Shorter than most servers wait for another request (nginx 75 s, load balancers 60 s).
pub(crate) const EGRESS_KEPT_IDLE: Duration = Duration::from_secs(30);
/// After that, another load balancer, or another server behind one, gets its chance.
pub(crate) const EGRESS_KEPT_LIFE: Duration = Duration::from_mins(5);

pub(crate) const LIMITS: Limits = Limits {
    fuel: 500_000_000,
    memory: 128 << 20,
    time: Duration::from_secs(30),
    request_body: 10 << 20,
    response_head: 16 << 10,
    storage_ops: 50,
    outbound: 10,
};
pub(crate) const QUOTA: Quota = Quota {
    weight: 1,
    in_flight: 64,
    connections: 5_000,
    waiting: 64,
    memory: 1 << 30,
    requests: None,
    requests_per_address: None,
    fuel: None,
    body_bytes: None,
    storage_ops: None,
    storage: None,
    cache: 0,
    shards: 1,
    storage_bytes: None,
    outbound: None,
    outbound_in_flight: 16,
    // More than `in_flight` × `limits.outbound`: with the defaults the queue is never full.
    outbound_waiting: 1000,
    messages_at_once: 1,
    log_bytes: Some(Rate { amount: 1 << 20, per: Duration::from_secs(1), burst: 8 << 20 }),
};
