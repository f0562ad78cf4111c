//! Fuel: what the store counts for the guest, plus the host's work for it, under one limit.

use wasmtime::{CallHook, Store, StoreContextMut, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use super::engine::FUEL_SLICE;
use crate::fault::Fault;
use crate::host::{Guest, Places};
use crate::telemetry::Record;
use crate::tenant::cost;

/// Bytes of strings and lists that one host call may lift from a guest, all in memory at once.
pub(super) const HOSTCALL_BYTES_MAX: usize = 16 << 20;
/// Wasmtime's message if a call would lift more. The error has no type of its own.
const LIFTED_TOO_MUCH: &str = "too much data is being copied between the host and the guest";

/// Counts fuel, and makes the guest yield after every slice of it and at every tick of the clock.
///
/// The store counts the guest's own fuel; the host's work is counted separately. Their sum is checked against the limit
/// whenever the guest leaves compiled code: at each host call, and after each slice. The store's count cannot be changed
/// there, because compiled code keeps it in a register and does not reload it after every kind of call.
pub(super) fn meter(store: &mut Store<Guest>, record: &Record, fuel: u64) {
    let of_guest = fuel.saturating_sub(store.data().made_for());
    store.set_hostcall_fuel(may_lift(of_guest));
    // These fail only if the engine counts no fuel, and ours does.
    let armed = store.set_fuel(of_guest).and_then(|()| store.fuel_async_yield_interval(Some(FUEL_SLICE)));
    if armed.is_err() {
        record.fault(Fault::Internal);
    }
    store.epoch_deadline_callback(move |mut context| {
        context.data_mut().is_tick = true;
        // Other instances of its budget may have used up the fuel that it counted on.
        if burned(&mut context, fuel)? > 0 { Ok(UpdateDeadline::Yield(1)) } else { Err(Trap::OutOfFuel.into()) }
    });
    let mut turn_began_at = 0;
    store.call_hook(move |mut context, hook| {
        if !matches!(hook, CallHook::ReturningFromHost) {
            return Ok(());
        }
        // The clock's ticks depend on time and must cost nothing: the same request burns the same fuel on every run.
        if !std::mem::take(&mut context.data_mut().is_tick) {
            let guest = context.data_mut();
            guest.charge(guest.call_cost);
        }
        let left = burned(&mut context, fuel)?;
        if left == 0 {
            return Err(Trap::OutOfFuel.into());
        }
        context.set_hostcall_fuel(may_lift(left));
        count_handles(&mut context)?;
        // A guest whose work is all in host calls also yields.
        let of_host = context.data().fuel_of_host();
        if of_host - turn_began_at >= FUEL_SLICE {
            turn_began_at = of_host;
            context.set_epoch_deadline(0);
        }
        Ok(())
    });
}

/// Charges the memory of the handles that a call may have created, of the host's tables and of Wasmtime's own.
fn count_handles(context: &mut StoreContextMut<'_, Guest>) -> wasmtime::Result<()> {
    if let Some(of_calls) = context.concurrent_resource_table() {
        let places = Places::of(of_calls);
        return context.data_mut().table.count_handles(Some(places));
    }
    let table = &mut context.data_mut().table;
    table.count_handles(None)?;
    #[cfg(debug_assertions)]
    table.audit().map_err(wasmtime::Error::msg)?;
    Ok(())
}

/// Bytes that a call may lift from a guest with this much fuel left: at most what it can pay for. Wasmtime checks this
/// before it copies a text or a list; then the call ends in [`unpaid`].
pub(super) fn may_lift(left: u64) -> usize {
    let paid = usize::try_from(left.saturating_mul(cost::CARRIED_BYTES_A_UNIT)).unwrap_or(usize::MAX);
    paid.min(HOSTCALL_BYTES_MAX)
}

/// Charges a call that was lifted but never made, because the guest passed too much or invalid text. How much was copied by
/// then is not known, so it costs as much as a call may carry. Returns whether the guest had no fuel for more than that.
pub(super) fn unpaid(store: &mut Store<Guest>, error: &wasmtime::Error) -> bool {
    if error.downcast_ref::<Trap>().is_some() || error.downcast_ref::<I32Exit>().is_some() {
        return false;
    }
    let most = store.hostcall_fuel();
    store.data_mut().charge(most as u64 / cost::CARRIED_BYTES_A_UNIT);
    most < HOSTCALL_BYTES_MAX && error.root_cause().to_string().contains(LIFTED_TOO_MUCH)
}

/// Notes what was burned until now, by the guest and for it, and takes it from its budget. Returns how much it may still
/// burn. Limit: a guest can burn one slice more than it may before this is noticed; that slice is not charged.
pub(super) fn burned(context: &mut StoreContextMut<'_, Guest>, fuel: u64) -> wasmtime::Result<u64> {
    let of_guest = fuel.saturating_sub(context.data().made_for());
    let left = context.get_fuel()?;
    let of_host = context.data_mut().count_host_work();
    let burned = (of_guest.saturating_sub(left) + of_host).min(fuel);
    let guest = context.data();
    let drawn_before = guest.record.fuel_of_guest();
    let drawn = drawn_before + guest.budget.draw(burned.saturating_sub(drawn_before));
    guest.record.burned(drawn);
    Ok(if drawn == burned { (fuel - burned).min(guest.budget.fuel()) } else { 0 })
}
