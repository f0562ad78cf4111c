//! Maps the error of a run to a fault.

use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

use crate::fault::{Fault, QuotaKind};
use crate::host::{Denied, Stuck};

/// `denied` is a refused allocation: a trap after it means that the guest's allocator gave up.
pub(super) fn classify(error: &wasmtime::Error, denied: Option<Denied>) -> Fault {
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return Fault::Overload;
    }
    if error.downcast_ref::<Stuck>().is_some() {
        return Fault::Stuck;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Fault::Fuel,
        Some(Trap::StackOverflow) => return Fault::Stack,
        _ => {}
    }
    match denied {
        Some(Denied::Request) => return Fault::Memory,
        Some(Denied::Tenant) => return Fault::Quota(QuotaKind::Memory),
        Some(Denied::Gateway) => return Fault::Overload,
        None => {}
    }
    if error.downcast_ref::<I32Exit>().is_some() {
        return Fault::NoResponse;
    }
    Fault::Trap
}
