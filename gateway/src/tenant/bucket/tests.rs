use super::*;
use proptest::prelude::*;

fn bucket(amount: u64, burst: u64) -> Bucket {
    let bucket = Bucket::default();
    bucket.set(Some(Rate { amount, per: Duration::from_secs(1), burst }), Moment(0));
    bucket
}

#[test]
fn a_bucket_follows_the_fleets() {
    let bucket = bucket(10, 10);
    let now = Moment(5_000_000_000);
    bucket.take(4, now).unwrap();
    let seen = bucket.look(now).unwrap();
    assert_eq!(seen.used, 4);
    bucket.take(1, now).unwrap();
    // Other gateways took three: the fleet's bucket, without the last amount here, is full in 0.7 s.
    bucket.align(seen, 700_000, now);
    assert_eq!(bucket.left(now), Some(2));
    // The others' debt was less than it seemed.
    let seen = bucket.look(now).unwrap();
    bucket.align(seen, 100_000, now);
    assert_eq!(bucket.left(now), Some(9));
    // Far over the limit: nothing is given until the debt is paid.
    let seen = bucket.look(now).unwrap();
    bucket.align(seen, 3_000_000, now);
    assert_eq!(bucket.take(1, now), Err(Empty { retry_seconds: 3 }));
}

#[test]
fn a_burst_then_the_rate() {
    let bucket = bucket(10, 3);
    let at = |ms: u64| Moment(5_000_000_000 + ms * 1_000_000);
    for _ in 0..3 {
        bucket.take(1, at(0)).unwrap();
    }
    assert_eq!(bucket.take(1, at(0)), Err(Empty { retry_seconds: 1 }));
    assert_eq!(bucket.left(at(0)), Some(0));
    assert!(bucket.take(1, at(99)).is_err());
    bucket.take(1, at(100)).unwrap();
    assert!(bucket.take(2, at(200)).is_err(), "one came in");
    assert_eq!(bucket.left(at(60_000)), Some(3), "and never more than the burst");
    assert!(bucket.take(4, at(60_000)).is_err(), "more than the burst is never given");
}

#[test]
fn an_amount_charged_afterwards_is_owed() {
    let bucket = bucket(100, 100);
    let at = |seconds: u64| Moment(seconds * 1_000_000_000);
    bucket.open(at(1)).unwrap();
    bucket.charge(600, at(1));
    assert_eq!(bucket.open(at(1)), Err(Empty { retry_seconds: 5 }), "to pay the debt");
    assert!(bucket.open(at(5)).is_err());
    bucket.open(at(7)).unwrap();
}

#[test]
fn waiting_for_each_one_gives_the_rate() {
    let bucket = bucket(1000, 3);
    let waits: Vec<u128> = (0..6).map(|_| bucket.wait(Moment(0)).as_millis()).collect();
    assert_eq!(waits, [0, 0, 0, 1, 2, 3]);
}

#[test]
fn a_new_rate_applies_at_once_and_forgives_nothing() {
    let at = Moment(3_600_000_000_000);
    let rate = |amount, seconds, burst| Some(Rate { amount, per: Duration::from_secs(seconds), burst });
    let bucket = Bucket::default();
    bucket.set(rate(10, 3600, 10), at);
    bucket.take(10, at).unwrap();
    assert_eq!(bucket.take(1, at), Err(Empty { retry_seconds: 360 }));
    bucket.set(rate(10, 3600, 10), at);
    assert_eq!(bucket.left(at), Some(0), "a reload that changes nothing gives nothing");
    bucket.set(rate(100, 1, 200), at);
    assert_eq!(bucket.left(at), Some(190), "ten were taken, at whatever rate");
    bucket.charge(1000, at);
    assert!(bucket.open(at).is_err());
    bucket.set(rate(5, 3600, 5), at);
    assert_eq!(bucket.take(1, at), Err(Empty { retry_seconds: 720 }), "a debt is no more than the new burst");
    bucket.set(rate(100, 1, 200), at);
    assert_eq!(bucket.left(at), Some(195));
    bucket.set(None, at);
    bucket.take(1_000_000, at).unwrap();
    bucket.set(rate(1, 1, 2), at);
    bucket.take(2, at).unwrap();
    assert!(bucket.take(1, at).is_err());
    bucket.fill();
    assert_eq!(bucket.left(at), Some(2));
}

#[test]
fn the_fleets_state_at_another_rate_is_ignored() {
    let bucket = bucket(10, 10);
    let now = Moment(5_000_000_000);
    bucket.take(10, now).unwrap();
    let seen = bucket.look(now).unwrap();
    bucket.set(Some(Rate { amount: 100, per: Duration::from_secs(1), burst: 100 }), now);
    bucket.align(seen, 3_600_000_000, now);
    assert_eq!(bucket.left(now), Some(90));
    let seen = bucket.look(now).unwrap();
    bucket.fill();
    bucket.align(seen, 3_600_000_000, now);
    assert_eq!(bucket.left(now), Some(100));
}

proptest! {
    /// For any rates: after a change, what is left is what was left of the new burst, within one.
    #[test]
    fn a_change_of_rate_keeps_what_is_missing(
        rates in proptest::collection::vec((1u64..10_000, 1u64..4_000, 1u64..5_000), 2..8),
        taken in 0u64..5_000,
    ) {
        let now = Moment(1_000_000_000);
        let bucket = Bucket::default();
        let mut missing = None;
        for (amount, seconds, burst) in rates {
            bucket.set(Some(Rate { amount, per: Duration::from_secs(seconds), burst }), now);
            let missed = missing.map_or_else(|| { bucket.charge(taken, now); taken }, |missed: u64| missed.min(burst));
            let wanted = burst.saturating_sub(missed);
            let left = bucket.left(now).unwrap();
            prop_assert!(left <= wanted && left + 8 >= wanted, "{left} and {wanted}");
            missing = Some(missed);
        }
    }

    /// For any requests at any times: never more than the burst and the refill.
    #[test]
    fn a_bucket_never_gives_more_than_its_burst_and_refill(
        rate in 1u64..100_000,
        burst in 1u64..5_000,
        asks in proptest::collection::vec((0u64..50_000_000, 1u64..200), 1..200),
    ) {
        let bucket = bucket(rate, burst);
        let (mut now, mut given) = (1_000_000_000u64, 0u64);
        let start = now;
        for (wait, amount) in asks {
            now += wait;
            if bucket.take(amount, Moment(now)).is_ok() {
                given += amount;
            }
            let came = u128::from(rate) * u128::from(now - start) / 1_000_000_000;
            prop_assert!(u128::from(given) <= u128::from(burst) + came + 1, "{given} of {burst} and {came}");
        }
    }

    #[test]
    fn a_refusal_says_when_to_retry(rate in 1u64..1000, burst in 1u64..100, taken in 1u64..100) {
        let bucket = bucket(rate, burst);
        bucket.charge(taken, Moment(0));
        if let Err(Empty { retry_seconds }) = bucket.take(1, Moment(0)) {
            bucket.take(1, Moment(retry_seconds * 1_000_000_000)).unwrap();
        }
    }
}

/// Eight threads on one bucket and one count: the bound holds in any interleaving.
#[test]
fn many_threads_never_get_more_than_one_would() {
    let bucket = bucket(1, 10_000);
    let count = Count::default();
    count.set_max(5);
    let given = AtomicU64::new(0);
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if bucket.take(1, Moment(0)).is_ok() {
                        given.fetch_add(1, Ordering::Relaxed);
                    }
                    if count.add(1) {
                        most.fetch_max(count.now(), Ordering::Relaxed);
                        count.give_back(1);
                    }
                }
            });
        }
    });
    assert_eq!(given.load(Ordering::Relaxed), 10_000);
    assert!(most.load(Ordering::Relaxed) <= 5);
    assert_eq!(count.now(), 0);
}
