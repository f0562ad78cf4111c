use super::*;
use crate::ids::TenantId;
use crate::tenant::{Entry, Quota, Registry};

fn ledger(memory: u64) -> Arc<Ledger> {
    let id = TenantId::parse("acme").unwrap();
    Registry::default().ledger(&id, &Quota { memory, ..Quota::unbounded() }, true)
}

#[test]
fn memories_and_tables_share_a_limit_a_quota_and_the_gateways_bound() {
    let ledger = ledger(1500);
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

    let other = self::ledger(u64::MAX);
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

#[test]
fn a_reservation_is_used_first_and_mostly_released_when_the_guest_answers() {
    const MEBI: usize = 1 << 20;
    let ledger = ledger(64 << 20);
    let gateway = Arc::new(Count::of(u64::MAX));
    let mut meter = Meter::new(u64::MAX, Arc::clone(&ledger), gateway);
    let taken = |mebi: u64| match ledger.memory_for(mebi << 20) {
        Some(Entry::Granted(taken)) => taken,
        other => panic!("{other:?}"),
    };
    meter.uses(taken(48));
    assert!(meter.memory_growing(0, 8 * MEBI, None).unwrap());
    assert_eq!((ledger.memory_now(), ledger.memory_promised()), (8 << 20, 48 << 20));
    meter.account().answers();
    assert_eq!(ledger.memory_promised(), (8 + 1 + 1) << 20, "an eighth of what it has, and a mebibyte");
    assert!(meter.memory_growing(8 * MEBI, 11 * MEBI, None).unwrap());
    assert_eq!((ledger.memory_now(), ledger.memory_promised()), (11 << 20, 11 << 20));
    // What is promised to others does not refuse available memory.
    let others = taken(48);
    assert!(meter.memory_growing(11 * MEBI, 40 * MEBI, None).unwrap());
    assert!(!meter.memory_growing(40 * MEBI, 65 * MEBI, None).unwrap(), "but no more than there is");
    drop(others);
    meter.uses(taken(20));
    meter.is_over();
    assert_eq!((ledger.memory_now(), ledger.memory_promised()), (0, 0));
}

#[test]
fn memory_of_the_host_counts_too_and_may_outlive_the_instance() {
    let ledger = ledger(1200);
    let gateway = Arc::new(Count::of(2000));
    let mut meter = Meter::new(1000, Arc::clone(&ledger), Arc::clone(&gateway));
    assert!(meter.memory_growing(0, 600, None).unwrap());
    let mut held = meter.hold(300).unwrap();
    assert!(meter.hold(101).is_none());
    assert_eq!((meter.denied(), meter.peak(), ledger.memory_now()), (Some(Denied::Request), 900, 900));
    assert!(held.grow(100) && !held.grow(1) && !held.set(401), "up to the last byte of the limit");
    assert!(!meter.memory_growing(600, 601, None).unwrap());
    assert!(held.set(50));
    assert_eq!((held.bytes(), meter.peak(), gateway.now()), (50, 1000, 650));
    let other = Meter::new(1000, Arc::clone(&ledger), Arc::clone(&gateway));
    assert!(other.hold(551).is_none());
    assert_eq!(other.denied(), Some(Denied::Tenant));
    drop((meter, other));
    assert_eq!((ledger.memory_now(), gateway.now()), (50, 50), "a request that is still on its way");
    drop(held);
    assert_eq!((ledger.memory_now(), gateway.now()), (0, 0));
}

#[test]
fn instances_of_one_request_share_its_memory_while_they_are_part_of_it() {
    let id = TenantId::parse("acme").unwrap();
    let ledger = Registry::default().ledger(&id, &Quota::unbounded(), true);
    let (gateway, whole) = (Arc::new(Count::of(10_000)), Arc::new(Count::of(1000)));
    let meter = || Meter::new(1000, Arc::clone(&ledger), Arc::clone(&gateway));
    let (mut one, mut two) = (meter(), meter());
    assert!(one.join(&whole) && two.join(&whole));
    assert!(one.memory_growing(0, 600, None).unwrap());
    let held = two.hold(100).unwrap();
    assert!(two.memory_growing(0, 300, None).unwrap(), "to the last byte");
    assert!(!two.memory_growing(300, 301, None).unwrap());
    assert_eq!((two.denied(), whole.now()), (Some(Denied::Request), 1000));
    drop(held);
    assert!(one.memory_growing(600, 700, None).unwrap());
    one.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
    assert_eq!(whole.now(), 900);
    // An idle instance belongs to no request, and its memory counts for the next one.
    one.leave();
    assert_eq!((whole.now(), ledger.memory_now()), (300, 900));
    let next = Arc::new(Count::of(599));
    assert!(!one.join(&next), "it has more than the next request may");
    assert!(one.join(&whole));
    drop((one, two));
    assert_eq!((whole.now(), ledger.memory_now(), gateway.now()), (0, 0, 0));
}
