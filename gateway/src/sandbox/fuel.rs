//! Fuel: the guest's own, which the store counts, and the host's work for it, by one limit.

use wasmtime::{CallHook, Store, StoreContextMut, Trap, UpdateDeadline};

use super::engine::FUEL_SLICE;
use crate::fault::Fault;
use crate::host::{Guest, Places};
use crate::telemetry::Record;

/// Counts fuel and makes the guest give way after every slice of it, and at every tick of the clock.
///
/// The store counts the guest's own; what the host does for it is counted beside that, and both are held against the limit
/// whenever the guest comes out: at each call of the host, and at each slice. The store's count cannot be changed there,
/// since compiled code keeps it in a register and does not look again after every kind of call.
pub(super) fn meter(store: &mut Store<Guest>, record: &Record, fuel: u64) {
    let of_guest = fuel.saturating_sub(store.data().made_for());
    // These fail only where the engine counts no fuel, and ours does.
    let armed = store.set_fuel(of_guest).and_then(|()| store.fuel_async_yield_interval(Some(FUEL_SLICE)));
    if armed.is_err() {
        record.fault(Fault::Internal);
    }
    store.epoch_deadline_callback(move |mut context| {
        context.data_mut().is_tick = true;
        // Others of its budget may have used up what it counted on.
        if burned(&mut context, fuel)? { Ok(UpdateDeadline::Yield(1)) } else { Err(Trap::OutOfFuel.into()) }
    });
    let mut turn_began_at = 0;
    store.call_hook(move |mut context, hook| {
        if !matches!(hook, CallHook::ReturningFromHost) {
            return Ok(());
        }
        // The clock comes when it comes, and must not cost anything: the same request burns the same fuel on every run.
        if !std::mem::take(&mut context.data_mut().is_tick) {
            let guest = context.data_mut();
            guest.charge(guest.call_cost);
        }
        if !burned(&mut context, fuel)? {
            return Err(Trap::OutOfFuel.into());
        }
        count_handles(&mut context)?;
        // A guest whose work is all in the host's calls gives way as well.
        let of_host = context.data().fuel_of_host();
        if of_host - turn_began_at >= FUEL_SLICE {
            turn_began_at = of_host;
            context.set_epoch_deadline(0);
        }
        Ok(())
    });
}

/// Charges the memory of the handles that a call may have made, of the host's and of Wasmtime's own.
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

/// Notes what was burned until now, by the guest and for it, and draws it from its budget; whether it may burn more. Limit: of
/// more than it may have, a guest can burn a slice before that is seen; it is not charged for it.
pub(super) fn burned(context: &mut StoreContextMut<'_, Guest>, fuel: u64) -> wasmtime::Result<bool> {
    let of_guest = fuel.saturating_sub(context.data().made_for());
    let left = context.get_fuel()?;
    let of_host = context.data_mut().count_host_work();
    let burned = (of_guest.saturating_sub(left) + of_host).min(fuel);
    let guest = context.data();
    let drawn_before = guest.record.fuel_of_guest();
    let drawn = drawn_before + guest.budget.draw(burned.saturating_sub(drawn_before));
    guest.record.burned(drawn);
    Ok(burned < fuel && drawn == burned && guest.budget.fuel() > 0)
}
