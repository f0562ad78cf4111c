//! Memory of a tenant's instances together, and of all tenants together: refused above the sum, and never below.

use tests::{Gateway, Protocol, Site, Tenant};

const MIB: u64 = 1 << 20;

/// Starts guests that each hold this much memory for this many milliseconds. Returns their statuses and problems when all
/// have ended.
async fn hold(gateway: &Gateway, host: &'static str, count: usize, bytes: u64, ms: u64) -> Vec<(u16, String)> {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let client = gateway.client(Protocol::H2);
            tokio::spawn(async move { client.get(host, &format!("/hold/{bytes}/{ms}")).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        let answer = task.await.unwrap();
        answers.push((answer.status.as_u16(), answer.problem()));
    }
    answers
}

#[tokio::test]
async fn a_tenants_memory_is_refused_above_its_quota_and_never_below() {
    let quota = "[quota]\nmemory = \"256MiB\"\nin_flight = 64\n[limits]\nmemory = \"64MiB\"";
    let site = Site::new()
        .tenant("big", &Tenant::new("big.localhost", "hostile").with(quota))
        .tenant("good", &Tenant::new("good.localhost", "echo"))
        .gateway("[sandbox]\nmemory = \"1GiB\"");
    let gateway = Gateway::start(&site);
    // Exactly what one of them needs: the guest's own memory beside the 16 MiB.
    let one = gateway.get("big.localhost", &format!("/hold/{}/0", 16 * MIB)).await;
    let each = gateway.record(&one).await["memory_peak"].as_u64().unwrap();
    let fit = usize::try_from(256 * MIB / each).unwrap();
    assert!((14..=15).contains(&fit), "{each}");
    let (before, _) = gateway.resident();

    let all_fit = hold(&gateway, "big.localhost", fit, 16 * MIB, 3000).await;
    assert!(all_fit.iter().all(|(status, _)| *status == 200), "never before: {all_fit:?}");
    gateway.quiet().await;

    let watched = tokio::spawn({
        let client = gateway.client(Protocol::H2);
        async move {
            let mut served = 0;
            for _ in 0..200 {
                served += u32::from(client.get("good.localhost", "/head").await.status == 200);
            }
            served
        }
    });
    // That much is expected of each now, so they wait for one another.
    let in_turn = hold(&gateway, "big.localhost", 30, 16 * MIB, 300).await;
    assert!(in_turn.iter().all(|(status, _)| *status == 200), "what is over before long is no refusal: {in_turn:?}");
    gateway.quiet().await;
    // After a while of small needs it is no longer expected, and all start at once.
    for _ in 0..100 {
        assert_eq!(gateway.get("big.localhost", "/ok").await.status, 200);
    }
    let answers = hold(&gateway, "big.localhost", 64, 16 * MIB, 3000).await;
    let served = answers.iter().filter(|(status, _)| *status == 200).count();
    let refused = answers.iter().filter(|answer| **answer == (429, "quota-memory".to_owned())).count();
    assert_eq!(served + refused, 64, "{answers:?}");
    // Growing instances may refuse each other, so fewer than fit may have been served, but never more.
    assert!((1..=fit).contains(&served), "{served} of {fit}");
    assert_eq!(watched.await.unwrap(), 200, "the others never notice");
    gateway.quiet().await;

    let (_, peak) = gateway.resident();
    assert!(peak < before + 256 * MIB + 200 * MIB, "the tenant's sum and what the gateway needs: {peak}");
    let metric = gateway.metric("tollgate_quota_refusals_total{tenant=\"big\",quota=\"memory\"}").await;
    assert_eq!(metric, refused as f64);
    let refusal = gateway.log("access").into_iter().find(|line| line["fault"] == "quota-memory").unwrap();
    assert_eq!(refusal["status"], 429);
}

#[tokio::test]
async fn the_gateways_memory_limit_sheds_with_503_and_recovers_by_itself() {
    let quota = "[quota]\nmemory = \"1GiB\"\n[limits]\nmemory = \"64MiB\"";
    let site = Site::new()
        .tenant("big", &Tenant::new("big.localhost", "hostile").with(quota))
        .gateway("[sandbox]\nmemory = \"100MiB\"");
    let gateway = Gateway::start(&site);
    let answers = hold(&gateway, "big.localhost", 12, 16 * MIB, 3000).await;
    let served = answers.iter().filter(|(status, _)| *status == 200).count();
    let shed = answers.iter().filter(|answer| **answer == (503, "overload".to_owned())).count();
    assert_eq!((served + shed, served < 6, shed > 0), (12, true, true), "{answers:?}");
    gateway.quiet().await;
    let again = hold(&gateway, "big.localhost", 5, 16 * MIB, 3000).await;
    assert!(again.iter().all(|(status, _)| *status == 200), "{again:?}");
}

#[tokio::test]
async fn descriptor_space_is_reserved_and_huge_pages_are_off_from_the_start() {
    let gateway = Gateway::start(&Site::new().listen("connections = 3000"));
    assert!(gateway.of_process("FDSize") >= 4000, "room for each connection's descriptor, and 1000 beside");
    assert_eq!(gateway.of_process("THP_enabled"), 0, "no page of 2 MiB is cleared in anybody's turn");
}
