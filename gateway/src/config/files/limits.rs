//! The sections `limits` and `quota`, which occur in the defaults, the ceilings, a tenant's file and (limits) a route.

use std::time::Duration;

use toml::de::DeValue;

use super::value;
use crate::config::reader::{At, Section, units};
use crate::store::SHARDS_MAX;
use crate::tenant::{Limits, Quota, Rate, Space};

/// The limits that one section may set; shared by defaults, ceilings, tenants and routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LimitsRead {
    pub(crate) fuel: Option<At<u64>>,
    pub(crate) memory: Option<At<u64>>,
    pub(crate) time: Option<At<Duration>>,
    pub(crate) request_body: Option<At<u64>>,
    pub(crate) response_head: Option<At<u64>>,
    pub(crate) storage_ops: Option<At<u64>>,
    pub(crate) outbound: Option<At<u64>>,
}

/// The quotas that one section may set; shared by defaults, ceilings and tenants.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuotaRead {
    pub(crate) weight: Option<At<u32>>,
    pub(crate) in_flight: Option<At<u32>>,
    pub(crate) connections: Option<At<u32>>,
    pub(crate) waiting: Option<At<u32>>,
    pub(crate) memory: Option<At<u64>>,
    pub(crate) requests: Option<At<Rate>>,
    pub(crate) requests_per_address: Option<At<Rate>>,
    pub(crate) fuel: Option<At<Rate>>,
    pub(crate) body_bytes: Option<At<Rate>>,
    pub(crate) storage_ops: Option<At<Rate>>,
    pub(crate) storage: Option<At<Space>>,
    pub(crate) cache: Option<At<u64>>,
    pub(crate) shards: Option<At<u32>>,
    pub(crate) storage_bytes: Option<At<Rate>>,
    pub(crate) outbound: Option<At<Rate>>,
    pub(crate) outbound_in_flight: Option<At<u32>>,
    pub(crate) outbound_waiting: Option<At<u32>>,
    pub(crate) messages_at_once: Option<At<u32>>,
    pub(crate) log_bytes: Option<At<Rate>>,
}

fn widen(at: At<u32>) -> At<u64> {
    At { value: at.value.into(), place: at.place }
}

impl Section<'_> {
    pub(crate) fn limits(&self, key: &'static str) -> LimitsRead {
        let Some(section) = self.section(key) else { return LimitsRead::default() };
        let limits = LimitsRead {
            fuel: section.fuel("fuel"),
            memory: section.bytes("memory"),
            time: section.duration("time"),
            request_body: section.bytes("request_body"),
            response_head: section.bytes("response_head"),
            storage_ops: section.count("storage_ops").map(widen),
            outbound: section.count("outbound").map(widen),
        };
        section.finish();
        limits
    }

    pub(crate) fn quota(&self) -> QuotaRead {
        let Some(section) = self.section("quota") else { return QuotaRead::default() };
        let fuel_burst = section.fuel("fuel_burst").map(|at| at.value);
        let fuel = section.fuel("fuel_per_second").map(|At { value, place }| {
            let value = Rate::with_burst(value, Duration::from_secs(1), fuel_burst);
            At { value, place }
        });
        let quota = QuotaRead {
            weight: section.count("weight"),
            in_flight: section.count("in_flight"),
            connections: section.count("connections"),
            waiting: section.count_or_none("waiting"),
            memory: section.bytes("memory"),
            requests: section.rate("requests", |section, key| section.count(key).map(widen)),
            requests_per_address: section.rate_of_counts("requests_per_address"),
            fuel,
            body_bytes: section.rate("body_bytes", Self::bytes),
            storage_ops: section.rate("storage_ops", |section, key| section.count(key).map(widen)),
            storage: section.space("storage"),
            cache: section.bytes("cache"),
            shards: section.shards("shards"),
            storage_bytes: section.rate("storage_bytes", Self::bytes),
            outbound: section.rate("outbound", |section, key| section.count(key).map(widen)),
            outbound_in_flight: section.count("outbound_in_flight"),
            outbound_waiting: section.count_or_none("outbound_waiting"),
            messages_at_once: section.count("messages_at_once"),
            log_bytes: section.rate("log_bytes", Self::bytes),
        };
        section.finish();
        quota
    }

    /// A count per time.
    pub(crate) fn rate_of_counts(&self, key: &'static str) -> Option<At<Rate>> {
        self.rate(key, |section, key| section.count(key).map(widen))
    }

    fn shards(&self, key: &'static str) -> Option<At<u32>> {
        let number = |value: &DeValue<'_>| units::count(value).filter(|shards| *shards <= SHARDS_MAX);
        self.take(key, "a whole number from 1 to 64", number)
    }

    /// `{ bytes = "64MiB", keys = 100_000 }`; a part that is missing is not bounded.
    fn space(&self, key: &'static str) -> Option<At<Space>> {
        let section = self.section(key)?;
        let bytes = section.bytes("bytes").map_or(u64::MAX, |at| at.value);
        let keys = section.count("keys").map_or(u64::MAX, |at| at.value.into());
        section.finish();
        Some(At { value: Space { bytes, keys }, place: section.place() })
    }

    /// `{ rate = 500, per = "1s", burst = 1000 }`; `per` defaults to a second.
    fn rate(&self, key: &'static str, take: impl Fn(&Self, &'static str) -> Option<At<u64>>) -> Option<At<Rate>> {
        let section = self.section(key)?;
        let amount = section.required(
            "rate",
            take(&section, "rate"),
            "rate = 500, for example: the amount within `per` (default: one second)",
        );
        let per = section.duration("per").map_or(Duration::from_secs(1), |at| at.value);
        let burst = take(&section, "burst").map(|at| at.value);
        section.finish();
        Some(At { value: Rate::with_burst(amount?.value, per, burst), place: section.place() })
    }
}

/// The values of `read` if it sets them, else those of `under`.
pub(crate) fn merge_limits(under: &Limits, read: &LimitsRead) -> Limits {
    Limits {
        fuel: value(read.fuel.clone(), under.fuel),
        memory: value(read.memory.clone(), under.memory),
        time: value(read.time.clone(), under.time),
        request_body: value(read.request_body.clone(), under.request_body),
        response_head: value(read.response_head.clone(), under.response_head),
        storage_ops: value(read.storage_ops.clone(), under.storage_ops),
        outbound: value(read.outbound.clone(), under.outbound),
    }
}

/// The same for quotas.
pub(crate) fn merge_quota(under: &Quota, read: &QuotaRead) -> Quota {
    let rate = |read: &Option<At<Rate>>, under: Option<Rate>| read.as_ref().map(|at| at.value).or(under);
    Quota {
        weight: value(read.weight.clone(), under.weight),
        in_flight: value(read.in_flight.clone(), under.in_flight),
        connections: value(read.connections.clone(), under.connections),
        waiting: value(read.waiting.clone(), under.waiting),
        memory: value(read.memory.clone(), under.memory),
        requests: rate(&read.requests, under.requests),
        requests_per_address: rate(&read.requests_per_address, under.requests_per_address),
        fuel: rate(&read.fuel, under.fuel),
        body_bytes: rate(&read.body_bytes, under.body_bytes),
        storage_ops: rate(&read.storage_ops, under.storage_ops),
        storage: read.storage.as_ref().map(|at| at.value).or(under.storage),
        cache: value(read.cache.clone(), under.cache),
        shards: value(read.shards.clone(), under.shards),
        storage_bytes: rate(&read.storage_bytes, under.storage_bytes),
        outbound: rate(&read.outbound, under.outbound),
        outbound_in_flight: value(read.outbound_in_flight.clone(), under.outbound_in_flight),
        outbound_waiting: value(read.outbound_waiting.clone(), under.outbound_waiting),
        messages_at_once: value(read.messages_at_once.clone(), under.messages_at_once),
        log_bytes: rate(&read.log_bytes, under.log_bytes),
    }
}
