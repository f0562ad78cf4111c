use std::pin::pin;

use super::*;
use crate::domain::{Domain, Pattern};
use crate::fault::QuotaKind;
use crate::ids::{ComponentName, Digest, TenantId};
use crate::route::{Found, PathPattern, Route, Served, Table};
use crate::tenant::{Component, Limits, Quota, Rate, Registry, Tenant};

struct House {
    registry: Registry,
    table: Table,
    host: Domain,
}

fn house(quota: &Quota) -> House {
    let id = TenantId::parse("acme").unwrap();
    let registry = Registry::default();
    let ledger = registry.ledger(&id, quota, true);
    let tenant =
        Tenant { id, store_ttl: crate::tenant::StoreTtl::default(), ledger, callers: None, compress: Vec::new() };
    let component = Component {
        name: ComponentName::parse("site").unwrap(),
        digest: Digest::of(b""),
        reuse: 1,
        needs: crate::tenant::Needs::default(),
        handler: None,
        stores: Vec::new(),
        redis: Vec::new(),
        environment: Vec::new(),
        files: None,
        variables: Vec::new(),
        egress: Vec::new(),
        is_spin: false,
    };
    let limits = Limits {
        fuel: 1,
        memory: 1,
        time: Duration::from_secs(1),
        request_body: 1,
        response_head: 1,
        storage_ops: 1,
        outbound: 1,
    };
    let route = Route {
        pattern: PathPattern::parse("/...").unwrap(),
        component: Arc::new(component),
        limits: Arc::new(limits),
        is_spin: false,
    };
    let mut table = Table::default();
    let served = Served { routes: vec![route], ..Served::default() };
    table.add(Arc::new(tenant), vec![Pattern::parse("acme.example").unwrap()], served);
    House { registry, table, host: Domain::parse("acme.example").unwrap() }
}

impl House {
    fn routed(&self) -> Routed {
        match self.table.find(&self.host, "/").unwrap() {
            Found::Component(routed) => routed,
            Found::Fixed(..) | Found::Loading(_) => unreachable!("no such answer was added"),
        }
    }

    fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.routed().tenant().ledger)
    }
}

fn doors(instances: u32, waiting: u32) -> Doors {
    Doors::new(Settings { instances, waiting, wait: Duration::from_secs(2) })
}

#[tokio::test(start_paused = true)]
async fn a_tenant_at_its_quota_is_refused_and_let_in_again() {
    let house = house(&Quota { in_flight: 1, ..Quota::unbounded() });
    let doors = doors(10, 10);
    let first = doors.admit(house.routed(), WhenFull::Refuse).await.unwrap();
    let second = doors.admit(house.routed(), WhenFull::Refuse).await.unwrap_err();
    assert_eq!(second.fault, Fault::Quota(QuotaKind::InFlight));
    let [retry, policy, limit] = second.limited.unwrap().fields();
    assert_eq!(
        (retry.as_bytes(), policy.as_bytes(), limit.as_bytes()),
        (&b"1"[..], &b"\"in-flight\";q=1;qu=\"concurrent-requests\""[..], &b"\"in-flight\";r=0;t=1"[..])
    );
    drop(first);
    doors.admit(house.routed(), WhenFull::Refuse).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_in_turn_for_a_place_of_its_tenant_until_a_timeout() {
    let house = house(&Quota { in_flight: 1, waiting: 2, ..Quota::unbounded() });
    let doors = doors(10, 10);
    let admit = || doors.admit(house.routed(), WhenFull::Wait);
    let held = admit().await.unwrap();
    let (mut first, mut second) = (pin!(admit()), pin!(admit()));
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    let third = admit().await.unwrap_err();
    assert_eq!(third.fault, Fault::Quota(QuotaKind::InFlight), "as many wait as may");
    drop(held);
    let held = first.await.unwrap();
    assert!(futures_util::poll!(&mut second).is_pending(), "it is not its turn");
    assert_eq!(second.await.unwrap_err().fault, Fault::Quota(QuotaKind::InFlight), "it waited long enough");
    drop(held);
    admit().await.unwrap();
}

#[tokio::test]
async fn a_guest_that_works_on_after_its_response_frees_its_place_within_a_bound() {
    let house = house(&Quota { in_flight: 1, ..Quota::unbounded() });
    let doors = doors(10, 10);
    let admit = || doors.admit(house.routed(), WhenFull::Refuse);
    let now = || (house.ledger().usage(Moment::now()).in_flight.now, house.ledger().ending.now());
    let first = admit().await.unwrap();
    first.response_sent();
    assert_eq!(now(), (0, 1));
    let second = admit().await.unwrap();
    second.response_sent();
    assert_eq!(now(), (1, 1), "one guest may work on, not two");
    assert!(admit().await.is_err());
    first.release_tenant_place();
    second.response_sent();
    assert_eq!(now(), (0, 1));
    drop((first, second));
    assert_eq!(now(), (0, 0));
}

#[tokio::test]
async fn a_request_over_the_rate_is_told_when_to_retry() {
    let rate = Rate { amount: 1, per: Duration::from_secs(30), burst: 2 };
    let house = house(&Quota { requests: Some(rate), ..Quota::unbounded() });
    let doors = doors(10, 10);
    doors.admit(house.routed(), WhenFull::Refuse).await.unwrap();
    doors.admit(house.routed(), WhenFull::Refuse).await.unwrap();
    let refused = doors.admit(house.routed(), WhenFull::Refuse).await.unwrap_err();
    assert_eq!(refused.fault, Fault::Quota(QuotaKind::Requests));
    let [retry, policy, _] = refused.limited.unwrap().fields();
    assert_eq!((retry.as_bytes(), policy.as_bytes()), (&b"30"[..], &b"\"requests\";q=2;w=60"[..]));
}

#[tokio::test]
async fn overdrawn_fuel_refuses_requests_until_it_is_paid() {
    let rate = Rate { amount: 100, per: Duration::from_secs(1), burst: 100 };
    let house = house(&Quota { fuel: Some(rate), ..Quota::unbounded() });
    let doors = doors(10, 10);
    doors.admit(house.routed(), WhenFull::Refuse).await.unwrap();
    house.ledger().burn(1000);
    let refused = doors.admit(house.routed(), WhenFull::Refuse).await.unwrap_err();
    assert_eq!(refused.fault, Fault::Quota(QuotaKind::Fuel));
    assert_eq!(refused.limited.unwrap().retry_seconds, 9, "to pay the debt");
}

#[tokio::test(start_paused = true)]
async fn a_full_gateway_makes_requests_wait_and_then_refuses() {
    let house = house(&Quota::unbounded());
    let doors = doors(1, 1);
    let admit = || doors.admit(house.routed(), WhenFull::Refuse);
    let first = admit().await.unwrap();
    let start = tokio::time::Instant::now();
    let (waits, over) = tokio::join!(admit(), async {
        tokio::task::yield_now().await;
        admit().await
    });
    assert_eq!(over.unwrap_err().fault, Fault::Overload, "the queue has one place");
    assert_eq!(waits.unwrap_err().fault, Fault::Overload, "nothing came free");
    assert_eq!((start.elapsed().as_secs(), doors.waiting()), (2, 0));

    let freed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
    };
    let (admitted, ()) = tokio::join!(admit(), freed);
    admitted.unwrap();
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_also_while_it_waits() {
    let house = house(&Quota::unbounded());
    let id = TenantId::parse("acme").unwrap();
    let doors = doors(1, 1);
    let held = doors.admit(house.routed(), WhenFull::Refuse).await.unwrap();
    let suspend = async {
        while doors.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        house.registry.suspend(&id, true);
    };
    let (waited, ()) = tokio::join!(doors.admit(house.routed(), WhenFull::Refuse), suspend);
    assert_eq!(waited.unwrap_err().fault, Fault::Suspended);
    drop(held);
    assert_eq!(doors.admit(house.routed(), WhenFull::Refuse).await.unwrap_err().fault, Fault::Suspended);
    house.registry.suspend(&id, false);
    doors.admit(house.routed(), WhenFull::Refuse).await.unwrap();
}

/// Many requests, any of which may be cancelled at any point: no permit is lost and none is invented.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_permit_leaks_whenever_a_request_is_cancelled() {
    let house = Arc::new(house(&Quota { in_flight: 20, waiting: 10, ..Quota::unbounded() }));
    let doors = Arc::new(doors(4, 8));
    let running = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4000u64 {
        let (house, doors, running) = (Arc::clone(&house), Arc::clone(&doors), Arc::clone(&running));
        tasks.spawn(async move {
            let work = async {
                let Ok(admitted) = doors.admit(house.routed(), WhenFull::Refuse).await else { return };
                assert!(running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 4, "more instances than there are");
                let until = std::time::Instant::now() + Duration::from_micros(n % 97);
                while std::time::Instant::now() < until {
                    std::hint::spin_loop();
                }
                running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                tokio::task::yield_now().await;
                drop(admitted);
            };
            // Some are cancelled before they wait, some while they wait, some while they run.
            let _given_up = tokio::time::timeout(Duration::from_micros((n * 31) % 1500), work).await;
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(doors.waiting(), 0);
    let all: Vec<_> =
        futures_util::future::join_all((0..4).map(|_| doors.admit(house.routed(), WhenFull::Refuse))).await;
    assert!(all.iter().all(Result::is_ok), "all four are there again");
    drop(all);
    assert_eq!(house.ledger().usage(Moment::now()).in_flight.now, 0);
}
