//! The last hour in steps of ten seconds, for the whole gateway and for the busiest tenants.
//!
//! Limit: [`STEPS`] steps for the gateway and for each of [`TENANTS_MAX`] tenants. A tenant's step has 80 bytes: 64 × 360 × 80 = 1.8 MB
//! for all tenants. A step of the gateway has 208 bytes: 75 KB. In addition, [`Busiest`](busiest::Busiest) keeps 0.8 KB of counters for
//! each of the 64 tenants, and 40 bytes for each tenant that had a request. [`Sampler`] is the only writer. No request waits for it.

mod busiest;
mod call;
mod reading;
mod ring;
mod sampler;
mod steps;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use call::*;
pub(super) use reading::Between;
pub(super) use sampler::{Peaks, Sampler};

use ring::Ring;
use steps::{Step, TenantStep};

use crate::ids::TenantId;

/// The length of a step.
const STEP_SECONDS: u32 = 10;
/// The number of steps in an hour.
const STEPS: usize = 360;
/// The number of tenants that have a history of their own.
const TENANTS_MAX: usize = 64;

const _: () = assert!(size_of::<TenantStep>() <= 80 && size_of::<Step>() <= 208);

/// The steps that are kept.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    gateway: Ring<Step>,
    tenants: HashMap<TenantId, Ring<TenantStep>>,
}

impl History {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a step for the gateway and one for each of these tenants. Removes the history of all other tenants.
    fn add(&self, step: Step, tenants: Vec<(TenantId, TenantStep)>) {
        let mut kept = self.kept();
        kept.gateway.push(step);
        let mut before = std::mem::take(&mut kept.tenants);
        for (id, step) in tenants {
            let mut ring = before.remove(&id).unwrap_or_default();
            ring.push(step);
            kept.tenants.insert(id, ring);
        }
    }
}
