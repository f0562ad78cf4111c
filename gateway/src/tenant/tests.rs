use super::*;
use crate::deadline::Moment;
use crate::fault::QuotaKind;
use proptest::prelude::*;

fn id() -> TenantId {
    TenantId::parse("acme").unwrap()
}

#[test]
fn a_reload_changes_the_maxima_and_forgives_nothing() {
    let registry = Registry::default();
    let quota = |in_flight| Quota { in_flight, ..Quota::unbounded() };
    let ledger = registry.ledger(&id(), &quota(2), true);
    let held = (enter(&ledger).unwrap(), enter(&ledger).unwrap());
    assert!(enter(&ledger).is_err());

    let wider = registry.ledger(&id(), &quota(3), true);
    let third = enter(&wider).unwrap();
    assert!(enter(&wider).is_err(), "the two of before the reload still count");

    let narrower = registry.ledger(&id(), &quota(1), true);
    drop((held.0, third));
    assert!(enter(&narrower).is_err(), "one of before the reload is still in flight");
    drop(held.1);
    let one = enter(&narrower).unwrap();
    assert!(enter(&narrower).is_err());
    drop(one);

    let rate = Some(Rate { amount: 1, per: Duration::from_secs(3600), burst: 1 });
    let ledger = registry.ledger(&id(), &Quota { requests: rate, ..Quota::unbounded() }, true);
    enter(&ledger).unwrap();
    let again = registry.ledger(&id(), &Quota { requests: rate, ..Quota::unbounded() }, true);
    assert_eq!(enter(&again).unwrap_err().quota, QuotaKind::Requests, "what was taken stays taken");
}

#[test]
fn files_and_operators_stop_a_tenant_independently() {
    let registry = Registry::default();
    let ledger = registry.ledger(&id(), &Quota::unbounded(), true);
    let running = ledger.stop();
    registry.suspend(&id(), true);
    assert!(running.is_cancelled() && ledger.is_stopped());
    registry.ledger(&id(), &Quota::unbounded(), false);
    registry.suspend(&id(), false);
    assert!(ledger.is_stopped(), "the files still say so");
    registry.ledger(&id(), &Quota::unbounded(), true);
    assert!(!ledger.is_stopped() && !ledger.stop().is_cancelled());

    registry.keep_only(|_| false);
    drop(ledger);
    registry.keep_only(|_| false);
    registry.suspend(&id(), true);
    assert!(registry.ledger(&id(), &Quota::unbounded(), true).is_stopped(), "also one that comes later");
}

#[derive(Clone, Debug)]
enum Step {
    Enter,
    Leave(prop::sample::Index),
    Burn(u64),
    Grow(u64),
    Shrink(prop::sample::Index),
    GoOut,
    ComeBack(prop::sample::Index),
    Reload(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        Just(Step::Enter),
        index().prop_map(Step::Leave),
        (0u64..1000).prop_map(Step::Burn),
        (1u64..500).prop_map(Step::Grow),
        index().prop_map(Step::Shrink),
        Just(Step::GoOut),
        index().prop_map(Step::ComeBack),
        (1u32..6).prop_map(Step::Reload),
    ]
}

fn take<T>(held: &mut Vec<T>, index: prop::sample::Index) -> Option<T> {
    (!held.is_empty()).then(|| held.swap_remove(index.index(held.len())))
}

fn enter(ledger: &Arc<Ledger>) -> Result<InFlight, Limited> {
    match ledger.enter(Moment::now(), WhenFull::Refuse)? {
        Entry::Granted(place) => ledger.entered(place, Moment::now()),
        Entry::Awaited(_) => panic!("who is to be refused does not wait"),
    }
}

proptest! {
    /// For any sequence of events: counts never exceed their maxima, and return to zero.
    #[test]
    fn the_ledger_never_over_admits_and_never_leaks(steps in proptest::collection::vec(step(), 0..300)) {
        let registry = Registry::default();
        let quota = |n: u32| Quota {
            in_flight: n,
            memory: u64::from(n) * 300,
            outbound_in_flight: n,
            ..Quota::unbounded()
        };
        let ledger = registry.ledger(&id(), &quota(3), true);
        let (mut max, mut burned) = (3u32, 0u64);
        let (mut entered, mut grown, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Enter => {
                    let before = entered.len();
                    entered.extend(enter(&ledger).ok());
                    prop_assert!(entered.len() == before || entered.len() <= max as usize);
                }
                Step::Leave(index) => drop(take(&mut entered, index)),
                Step::Burn(fuel) => {
                    ledger.burn(fuel);
                    burned += fuel;
                }
                Step::Grow(bytes) => {
                    let sum: u64 = grown.iter().sum();
                    let granted = ledger.grow(bytes, 0);
                    prop_assert_eq!(granted, sum + bytes <= u64::from(max) * 300, "past the sum, and never before");
                    grown.extend(granted.then_some(bytes));
                }
                Step::Shrink(index) => take(&mut grown, index).into_iter().for_each(|bytes| ledger.shrink(bytes)),
                Step::GoOut => {
                    let before = out.len();
                    let place = ledger.go_out(WhenFull::Refuse).ok();
                    out.extend(place.map(|place| match place {
                        Entry::Granted(outbound) => outbound,
                        Entry::Awaited(_) => panic!("who is to be refused does not wait"),
                    }));
                    prop_assert!(out.len() == before || out.len() <= max as usize);
                }
                Step::ComeBack(index) => drop(take(&mut out, index)),
                Step::Reload(n) => {
                    max = n;
                    registry.ledger(&id(), &quota(n), true);
                }
            }
            let usage = ledger.usage(Moment::now());
            prop_assert_eq!(usage.in_flight.now, entered.len() as u64);
            prop_assert_eq!(usage.memory.now, grown.iter().sum::<u64>());
            prop_assert_eq!(usage.outbound_in_flight.now, out.len() as u64);
            prop_assert_eq!(usage.fuel_total, burned);
        }
        drop((entered, out));
        grown.into_iter().for_each(|bytes| ledger.shrink(bytes));
        let usage = ledger.usage(Moment::now());
        for count in [usage.in_flight, usage.memory, usage.outbound_in_flight] {
            prop_assert_eq!(count.now, 0);
        }
    }
}

/// Threads that enter, grow and burn at once, some of them ended half way by a panic: the sums are exact.
#[test]
fn concurrent_threads_leave_the_ledger_exact() {
    let registry = Registry::default();
    let quota = Quota { in_flight: 5, memory: 1000, ..Quota::unbounded() };
    let ledger = registry.ledger(&id(), &quota, true);
    let burned = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (ledger, burned) = (&ledger, &burned);
            scope.spawn(move || {
                for n in 0..5000u64 {
                    let Ok(entered) = enter(ledger) else { continue };
                    let bytes = (n * 7 + thread) % 400;
                    let granted = ledger.grow(bytes, 0);
                    ledger.burn(n);
                    burned.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
                    if granted {
                        ledger.shrink(bytes);
                    }
                    drop(entered);
                }
            });
        }
    });
    let usage = ledger.usage(Moment::now());
    assert_eq!((usage.in_flight.now, usage.memory.now), (0, 0));
    assert_eq!(usage.fuel_total, burned.into_inner());
}
