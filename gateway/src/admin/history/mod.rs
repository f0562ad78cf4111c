//! The last hour in steps of ten seconds: of the whole gateway, and of the tenants that are busiest.
//!
//! Limit: [`STEPS`] steps of the gateway and of [`TENANTS_MAX`] tenants. A tenant's step has 80 bytes, so that the rings of all have
//! 64 × 360 × 80 = 1.8 MB; the gateway's has 208, which is 75 KB. Beside them stand the counts of each of the 64 tenants (0.8 KB),
//! and 40 bytes for each tenant that was active. [`Sampler`] is the only writer, and no request waits for it.

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

/// Seconds of a step.
const STEP_SECONDS: u32 = 10;
/// An hour.
const STEPS: usize = 360;
/// Tenants with a history of their own.
const TENANTS_MAX: usize = 64;

const _: () = assert!(size_of::<TenantStep>() <= 80 && size_of::<Step>() <= 208);

/// What was kept.
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

    /// Adds a step of the gateway, and one of each tenant that is kept; the others are given up.
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
