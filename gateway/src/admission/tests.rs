use super::*;
use crate::domain::{Domain, Pattern};
use crate::ids::{ComponentName, Digest, TenantId};
use crate::route::{PathPattern, Route, Table};
use crate::tenant::{Component, Limits, Quota, Registry, Tenant};

fn routed(in_flight: u32, enabled: bool) -> (Table, Domain) {
    let id = TenantId::parse("acme").unwrap();
    let gate = Registry::default().gate(&id, &Quota { in_flight });
    let tenant = Tenant { id, enabled, environment: Vec::new(), gate };
    let component =
        Component { name: ComponentName::parse("site").unwrap(), digest: Digest::of(b""), stores: Vec::new() };
    let limits = Limits { fuel: 1, memory: 1, time: Duration::from_secs(1), request_body: 1, storage_ops: 1 };
    let route = Route {
        pattern: PathPattern::parse("/...").unwrap(),
        component: Arc::new(component),
        limits: Arc::new(limits),
    };
    let mut table = Table::default();
    table.add(Arc::new(tenant), vec![Pattern::parse("acme.example").unwrap()], vec![route]);
    (table, Domain::parse("acme.example").unwrap())
}

fn doors(instances: u32, waiting: u32) -> Doors {
    Doors::new(Settings { instances, waiting, wait: Duration::from_secs(2) })
}

#[tokio::test(start_paused = true)]
async fn a_tenant_at_its_quota_is_refused_and_let_in_again() {
    let (table, host) = routed(1, true);
    let doors = doors(10, 10);
    let first = doors.admit(table.find(&host, "/").unwrap()).await.unwrap();
    let second = doors.admit(table.find(&host, "/").unwrap()).await;
    assert_eq!(second.unwrap_err(), Fault::QuotaInFlight);
    drop(first);
    doors.admit(table.find(&host, "/").unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_gateway_makes_requests_wait_and_then_refuses() {
    let (table, host) = routed(10, true);
    let doors = doors(1, 1);
    let admit = || doors.admit(table.find(&host, "/").unwrap());
    let first = admit().await.unwrap();
    let start = tokio::time::Instant::now();
    let (waits, over) = tokio::join!(admit(), async {
        tokio::task::yield_now().await;
        admit().await
    });
    assert_eq!(over.unwrap_err(), Fault::Overload, "the queue has one place");
    assert_eq!(waits.unwrap_err(), Fault::Overload, "nothing came free");
    assert_eq!(start.elapsed().as_secs(), 2);

    let freed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
    };
    let (admitted, ()) = tokio::join!(admit(), freed);
    admitted.unwrap();
}

#[tokio::test]
async fn a_suspended_tenant_is_refused() {
    let (table, host) = routed(1, false);
    let refused = doors(1, 1).admit(table.find(&host, "/").unwrap()).await;
    assert_eq!(refused.unwrap_err(), Fault::Suspended);
}
