use super::*;
use crate::ids::TenantId;
use crate::telemetry::Metrics;
use crate::tenant::{Quota, Registry, WhenFull};

/// Tenants with weights, whose guests never end and burn a slice in each turn.
struct Crowd {
    turns: Turns,
    ledgers: Vec<Arc<Ledger>>,
    tasks: Tasks,
}

fn record() -> Arc<Record> {
    Record::new(&Arc::new(Metrics::default()), &http::Request::new(()), "", 0)
}

impl Crowd {
    fn new(weights: &[u32]) -> Self {
        let registry = Registry::default();
        let ledger = |(n, weight): (usize, &u32)| {
            let id = TenantId::parse(&format!("t{n}")).unwrap();
            registry.ledger(&id, &Quota { weight: *weight, ..Quota::unbounded() }, true)
        };
        let ledgers = weights.iter().enumerate().map(ledger).collect();
        // Without runners: the tests take the turns.
        let shared = Shared { contended_at: AtomicU64::new(u64::MAX), ..Shared::new() };
        let turns = Turns { shared: Arc::new(shared), reaper: Reaper::start(1 << 30).unwrap() };
        Self { turns, ledgers, tasks: Tasks::default() }
    }

    /// A guest of this tenant that burns this much in each turn, for this many turns.
    fn guest(&self, tenant: usize, fuel: u64, turns: usize) {
        let record = record();
        let counted = Arc::clone(&record);
        let work = async move {
            for turn in 1..=turns as u64 {
                counted.burned(turn * fuel);
                tokio::task::yield_now().await;
            }
        };
        self.turns.spawn(Arc::clone(&self.ledgers[tenant]), record, &self.tasks, work);
    }

    /// Takes this many turns, as one runner would.
    fn take(&self, turns: usize) {
        for _ in 0..turns {
            let lane = &self.turns.shared.usual;
            let next = lane.lines().next();
            let Some(job) = next else { return };
            job.run(lane);
        }
    }

    fn burned(&self, tenant: usize) -> u64 {
        self.ledgers[tenant].usage(crate::deadline::Moment::now()).fuel_total
    }
}

// yield_now wants a runtime to defer its wake-up; outside of one it wakes at once, as a guest does.
#[test]
fn weights_are_shares() {
    let crowd = Crowd::new(&[1, 3]);
    for tenant in [0, 1] {
        for _ in 0..8 {
            crowd.guest(tenant, FUEL_SLICE, 10_000);
        }
    }
    crowd.take(4000);
    let ratio = crowd.burned(1) as f64 / crowd.burned(0) as f64;
    assert!((2.99..3.01).contains(&ratio), "{ratio}");
}

#[test]
fn a_thousand_guests_of_one_tenant_get_the_share_of_one_of_another() {
    let crowd = Crowd::new(&[1, 1]);
    for _ in 0..1000 {
        crowd.guest(0, FUEL_SLICE, 100);
    }
    crowd.take(500);
    crowd.guest(1, FUEL_SLICE, 10_000);
    let before = (crowd.burned(0), crowd.burned(1));
    crowd.take(2);
    assert_eq!(crowd.burned(1), FUEL_SLICE, "whoever was idle is next");
    crowd.take(998);
    let (a, b) = (crowd.burned(0) - before.0, crowd.burned(1) - before.1);
    assert!(a.abs_diff(b) <= 2 * FUEL_SLICE, "{a} and {b}");
}

#[test]
fn idling_saves_nothing_up_and_forgives_no_debt() {
    let crowd = Crowd::new(&[1, 1]);
    crowd.guest(0, FUEL_SLICE, 100_000);
    crowd.take(1000);
    crowd.guest(1, FUEL_SLICE, 100_000);
    crowd.take(1000);
    let (hog, late) = (crowd.burned(0), crowd.burned(1));
    assert!((498..=502).contains(&(late / FUEL_SLICE)), "half of the turns since it came: {late}");
    assert!((1498..=1502).contains(&(hog / FUEL_SLICE)), "{hog}");
}

#[test]
fn ten_equal_tenants_get_equal_shares_whatever_their_guests_burn_in_a_turn() {
    let crowd = Crowd::new(&[1; 10]);
    for tenant in 0..10 {
        let fuel = FUEL_SLICE / (1 + tenant as u64 % 4);
        for _ in 0..=tenant {
            crowd.guest(tenant, fuel, 100_000);
        }
    }
    crowd.take(20_000);
    let shares: Vec<f64> = (0..10).map(|tenant| crowd.burned(tenant) as f64).collect();
    let (sum, squares): (f64, f64) = (shares.iter().sum(), shares.iter().map(|share| share * share).sum());
    let jain = sum * sum / (10.0 * squares);
    assert!(jain > 0.999, "{jain}: {shares:?}");
}

#[test]
fn one_turn_that_burned_a_hundred_slices_is_paid_for() {
    let crowd = Crowd::new(&[1, 1]);
    crowd.guest(0, 100 * FUEL_SLICE, 1000);
    crowd.guest(1, FUEL_SLICE, 100_000);
    crowd.take(10_000);
    let ratio = crowd.burned(0) as f64 / crowd.burned(1) as f64;
    assert!((0.97..1.03).contains(&ratio), "{ratio}");
}

/// Puts this many requests of the tenant in flight, as those of its guests would be.
fn in_flight(ledger: &Ledger, requests: u64) -> Vec<crate::tenant::Entry> {
    let enter = |_| ledger.enter(Moment::now(), WhenFull::Refuse).unwrap();
    (0..requests).map(enter).collect()
}

#[test]
fn a_tenant_with_few_requests_takes_its_own_turn_without_a_runner() {
    let crowd = Crowd::new(&[1, 1]);
    for _ in 0..64 {
        crowd.guest(0, FUEL_SLICE, 100_000);
    }
    crowd.take(100);
    let _places = in_flight(&crowd.ledgers[1], FEW_REQUESTS);
    crowd.guest(1, FUEL_SLICE, 100);
    assert_eq!(crowd.burned(1), FUEL_SLICE, "it is next, and no runner took a turn");
    crowd.guest(1, FUEL_SLICE, 100);
    assert_eq!(crowd.burned(1), FUEL_SLICE, "now the other tenant is next");
    // Its guests continue in line, and get their share and no more.
    let before = crowd.burned(0);
    crowd.take(100);
    let (busy, light) = (crowd.burned(0) - before, crowd.burned(1));
    assert!(busy.abs_diff(light) <= 2 * FUEL_SLICE, "{busy} and {light}");
}

/// A tenant whose guests end within a turn never has one in line, however many of its requests wait in sockets.
#[test]
fn a_tenant_that_has_had_more_than_another_waits_for_a_runner_even_if_no_one_else_waits() {
    const LEAST: u64 = FUEL_SLICE / 4;
    let crowd = Crowd::new(&[1, 1]);
    let _places = [in_flight(&crowd.ledgers[0], 1), in_flight(&crowd.ledgers[1], 1)];
    let had = |tenant| crowd.burned(tenant) / LEAST;
    crowd.guest(1, LEAST, 1);
    crowd.take(1);
    for _ in 0..100 {
        crowd.guest(0, FUEL_SLICE, 1);
    }
    assert_eq!(had(0), 4, "one turn, since it had had nothing yet");
    crowd.guest(1, LEAST, 1);
    assert_eq!(had(1), 2, "the other tenant has had less, and need not wait");
    crowd.take(300);
    assert_eq!(had(0), 400, "nothing is lost");
}

#[test]
fn a_tenant_with_many_requests_or_long_turns_waits_for_a_runner() {
    let crowd = Crowd::new(&[1, 1, 1]);
    for _ in 0..64 {
        crowd.guest(0, FUEL_SLICE, 100_000);
    }
    crowd.take(100);
    let _places = in_flight(&crowd.ledgers[1], FEW_REQUESTS + 1);
    crowd.guest(1, FUEL_SLICE, 1);
    assert_eq!(crowd.burned(1), 0, "its turns would keep the runtime's threads from sockets");
    let _places = in_flight(&crowd.ledgers[2], 1);
    crowd.ledgers[2].long_turns.store(LONG_TURNS_MAX, Ordering::Relaxed);
    crowd.guest(2, FUEL_SLICE, 1);
    assert_eq!(crowd.burned(2), 0);
    assert!(!crowd.turns.shared.slow.is_empty());
}

#[tokio::test]
async fn a_load_for_a_light_tenant_never_runs_on_the_runtimes_threads() {
    let mut crowd = Crowd::new(&[1, 1]);
    crowd.turns = Turns::start(1, Reaper::start(1 << 30).unwrap()).unwrap();
    let _places = in_flight(&crowd.ledgers[0], 1);
    let name = || std::thread::current().name().map(str::to_owned);
    let ran_on = crowd.turns.run(Arc::clone(&crowd.ledgers[0]), name).await.unwrap();
    assert_eq!(ran_on.as_deref(), Some("guests-slow-0"));
    // The turn may not have been settled yet.
    assert!(crowd.ledgers[0].virtual_time.load(Ordering::Relaxed) >= COLD_FUEL, "and its tenant pays for it");
}

#[tokio::test]
async fn a_guest_that_panics_ends_alone() {
    let mut crowd = Crowd::new(&[1]);
    crowd.turns = Turns::start(1, Reaper::start(1 << 30).unwrap()).unwrap();
    let request = http::Request::new(());
    let record = Record::new(&Arc::new(Metrics::default()), &request, "", 0);
    let ledger = Arc::clone(&crowd.ledgers[0]);
    crowd.turns.spawn(Arc::clone(&ledger), Arc::clone(&record), &crowd.tasks, async { panic!("on purpose") });
    let (done, over) = tokio::sync::oneshot::channel();
    crowd.turns.spawn(ledger, record, &crowd.tasks, async { done.send(()).unwrap() });
    over.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_guest_runs_to_its_end_whichever_thread_wakes_it() {
    let mut crowd = Crowd::new(&[1, 2, 3]);
    crowd.turns = Turns::start(2, Reaper::start(1 << 30).unwrap()).unwrap();
    let (done, mut over) = tokio::sync::mpsc::channel(300);
    for n in 0..300u64 {
        let done = done.clone();
        let request = http::Request::new(());
        let record = Record::new(&Arc::new(Metrics::default()), &request, "", 0);
        let ledger = Arc::clone(&crowd.ledgers[usize::try_from(n).unwrap() % 3]);
        crowd.turns.spawn(ledger, record, &crowd.tasks, async move {
            for _ in 0..n % 7 {
                tokio::time::sleep(std::time::Duration::from_micros(n * 10)).await;
                tokio::task::yield_now().await;
            }
            done.send(n).await.unwrap();
        });
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        seen.insert(over.recv().await.unwrap());
    }
    assert_eq!(seen.len(), 300);
    assert!(crowd.turns.shared.usual.lines().order.is_empty());
    assert_eq!(crowd.tasks.drain(std::time::Duration::from_secs(5)).await, 0, "and is counted out");
}

/// A guest whose one turn is long (here: until it is released) holds a runner. Another tenant's guest runs beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_runner_takes_turns_beside_a_turn_that_does_not_end() {
    let mut crowd = Crowd::new(&[1, 1]);
    crowd.turns = Turns::start(1, Reaper::start(1 << 30).unwrap()).unwrap();
    let look = crowd.turns.look();
    let spawn = |tenant: usize, work: Work| {
        let record = Record::new(&Arc::new(Metrics::default()), &http::Request::new(()), "", 0);
        crowd.turns.spawn(Arc::clone(&crowd.ledgers[tenant]), record, &crowd.tasks, work);
    };
    let (release_permits, held) = std::sync::mpsc::channel::<()>();
    let (started, has_started) = oneshot::channel();
    spawn(
        0,
        Box::pin(async move {
            started.send(()).unwrap();
            held.recv().unwrap();
        }),
    );
    has_started.await.unwrap();
    let (done, over) = oneshot::channel();
    spawn(1, Box::pin(async { done.send(()).unwrap() }));
    let mut over = std::pin::pin!(over);
    while tokio::time::timeout(Duration::from_millis(1), &mut over).await.is_err() {
        look();
    }
    release_permits.send(()).unwrap();
    assert_eq!(crowd.tasks.drain(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn work_other_than_guests_is_charged_in_virtual_time_only() {
    let mut crowd = Crowd::new(&[1, 1]);
    crowd.turns = Turns::start(1, Reaper::start(1 << 30).unwrap()).unwrap();
    for n in 0..10 {
        let ledger = Arc::clone(&crowd.ledgers[0]);
        assert_eq!(crowd.turns.run(ledger, move || n).await, Some(n));
    }
    // The last turn may not have been settled yet.
    assert!(crowd.ledgers[0].virtual_time.load(Ordering::Relaxed) >= 9 * COLD_FUEL);
    assert_eq!(crowd.burned(0), 0, "it is no fuel of the tenant's");
}

/// Keeps the processor for longer than a turn should take.
fn compute() {
    let began = processor_time();
    while processor_time() - began <= 2 * TURN_LONG {
        std::hint::spin_loop();
    }
}

#[test]
fn a_tenant_with_long_turns_is_in_the_slow_lane_until_they_are_short() {
    let crowd = Crowd::new(&[1, 1]);
    let (usual, slow) = (&crowd.turns.shared.usual, &crowd.turns.shared.slow);
    let guest = |long: usize, short: usize| {
        crowd.turns.spawn(Arc::clone(&crowd.ledgers[0]), record(), &crowd.tasks, async move {
            for turn in 0..long + short {
                if turn < long {
                    compute();
                }
                tokio::task::yield_now().await;
            }
        });
    };
    guest(2, 0);
    for _ in 0..2 {
        let job = usual.lines().next().unwrap();
        usual.run(job);
    }
    let moved = slow.lines().next().expect("the second long turn says what kind of tenant it is");
    slow.run(moved);
    crowd.guest(1, FUEL_SLICE, 1);
    assert!(usual.lines().next().is_some(), "another tenant stays where it was");
    let mut turns = 0;
    guest(0, 100);
    while let Some(job) = { slow.lines().next() } {
        slow.run(job);
        turns += 1;
    }
    assert!((1..=i64::from(LONG_TURNS_MAX)).contains(&turns), "it came back after {turns} short turns");
    assert!(usual.lines().next().is_some());
    assert!(slow.is_empty(), "and is counted out");
}

#[test]
fn a_first_turn_of_cold_code_passes_no_tenant_whose_code_is_loaded() {
    let crowd = Crowd::new(&[1, 1]);
    let (usual, slow) = (&crowd.turns.shared.usual, &crowd.turns.shared.slow);
    let spawn = |whose: usize, load: Duration| {
        let record = record();
        record.loaded(load);
        let ledger = Arc::clone(&crowd.ledgers[whose]);
        crowd.turns.spawn(ledger, record, &crowd.tasks, tokio::task::yield_now());
    };
    spawn(0, Duration::from_millis(1));
    assert!(usual.lines().next().is_none(), "it stands in the slow lane");
    crowd.ledgers[1].long_turns.store(LONG_TURNS_MAX, Ordering::Relaxed);
    spawn(1, Duration::ZERO);
    let whose = || slow.lines().next().map(|job| job.ledger.serial);
    let (cold, warm) = (crowd.ledgers[0].serial, crowd.ledgers[1].serial);
    assert_eq!([whose(), whose(), whose()], [Some(warm), Some(cold), None], "behind those whose turns are long");
}
