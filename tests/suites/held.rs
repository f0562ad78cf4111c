//! Memory that the gateway keeps for an instance, for any resource: it counts as the instance's memory, is refused at its
//! limit, and is released.

use tests::{Answer, Gateway, Protocol, Site, Tenant, guest};

const MIB: u64 = 1 << 20;

fn holder(more: &str) -> Site {
    Site::new().tenant("big", &Tenant::new("big.localhost", "holder").stores(&["default"]).with(more))
}

async fn ask(gateway: &Gateway, path: &str) -> Answer {
    gateway.get("big.localhost", path).await
}

async fn peak(gateway: &Gateway, answer: &Answer) -> u64 {
    gateway.record(answer).await["memory_peak"].as_u64().unwrap()
}

/// This many requests at once.
async fn together(gateway: &Gateway, count: usize, path: &'static str) -> Vec<Answer> {
    let asked = (0..count).map(|_| {
        let client = gateway.client(Protocol::H2);
        tokio::spawn(async move { client.get("big.localhost", path).await })
    });
    let mut answers = Vec::new();
    for one in asked.collect::<Vec<_>>() {
        answers.push(one.await.unwrap());
    }
    answers
}

/// How many a guest reports that it got.
fn got(answer: &Answer) -> u64 {
    answer.text().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn texts_of_outbound_requests_are_bounded_at_the_call() {
    let three = Tenant::new("three.localhost", "holder-3").stores(&["default"]);
    let site = holder("").tenant("three", &three);
    let gateway = Gateway::start(&site);
    for host in ["big.localhost", "three.localhost"] {
        for (what, bytes) in [("authority", 1 << 10), ("path", 8 << 10), ("method", 64), ("scheme", 64)] {
            let fits = gateway.get(host, &format!("/{what}/1/{bytes}/0")).await;
            assert_eq!(fits.text(), "1", "{host} {what}");
            let over = gateway.get(host, &format!("/{what}/1/{}/0", bytes + 1)).await;
            assert_eq!(over.text(), "0 refused", "{host} {what}");
        }
        let large = gateway.get(host, "/authority/200/12000000/0").await;
        assert_eq!(large.text(), "0 refused", "{host}");
    }
}

#[tokio::test]
async fn one_request_that_would_hold_two_gigabytes_is_refused_at_its_limit() {
    let gateway = Gateway::start(&holder("[limits]\nmemory = \"48MiB\"\nfuel = \"4G\""));
    let _warm = ask(&gateway, "/path/1/100/0").await;
    let (before, _) = gateway.resident();
    for path in ["/path/250000/8192/0", "/fields/50000/40000/0", "/bodies/50000/0/0"] {
        let answer = ask(&gateway, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem()),
            (502, "memory-exhausted".to_owned()),
            "{path}: {}",
            answer.text()
        );
        let peak = peak(&gateway, &answer).await;
        assert!((46 * MIB..=48 * MIB).contains(&peak), "{path}: the record says what was held: {peak}");
        gateway.quiet().await;
    }
    let (_, after) = gateway.resident();
    assert!(after < before + 150 * MIB, "{before} {after}");
}

#[tokio::test]
async fn a_dropped_resource_releases_its_memory() {
    let gateway = Gateway::start(&holder("[limits]\nmemory = \"8MiB\"\nfuel = \"4G\""));
    let answer = ask(&gateway, "/fields-dropped/2000/40000/0").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let peak = peak(&gateway, &answer).await;
    assert!(peak < 4 * MIB, "80 MB of fields, one after the other: {peak}");
    gateway.quiet().await;
}

#[tokio::test]
async fn values_in_cas_handles_count_for_the_request_the_tenant_and_the_gateway() {
    let quota = "[limits]\nmemory = \"24MiB\"\nstorage_ops = 1000\n[quota]\nmemory = \"100MiB\"\nin_flight = 64";
    let gateway = Gateway::start(&holder(quota).gateway("[sandbox]\nmemory = \"1GiB\""));
    assert_eq!(ask(&gateway, "/put/0/1000000/0").await.text(), "Ok(())");
    let (before, _) = gateway.resident();
    let one = ask(&gateway, "/cas/100/0/0").await;
    assert!(one.text().ends_with("Error::Other(\"quota-exceeded: memory\")"), "{}", one.text());
    assert!((18..=24).contains(&got(&one)), "{}", one.text());
    let of_one = peak(&gateway, &one).await;
    assert!((23 * MIB..=24 * MIB).contains(&of_one), "{of_one}");
    gateway.quiet().await;

    let answers = together(&gateway, 20, "/cas/100/0/2000").await;
    // The tenant's 100 MiB have room for four at once, so the requests wait for one another, within their time limit. All
    // at once would need 500 MiB.
    let (served, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(served.len() >= 4 && served.iter().all(|answer| got(answer) <= got(&one)), "{served:?}");
    assert!(refused.iter().all(|answer| answer.problem() == "quota-memory"), "{refused:?}");
    gateway.quiet().await;
    let (_, after) = gateway.resident();
    assert!(after < before + 300 * MIB, "{before} {after}");
    assert_eq!(got(&ask(&gateway, "/cas/100/0/0").await), got(&one), "all of it was given back");
}

#[tokio::test]
async fn values_in_cas_handles_stay_within_the_gateways_limit() {
    let quota = "[limits]\nmemory = \"64MiB\"\nstorage_ops = 1000\n[quota]\nmemory = \"1GiB\"";
    let gateway = Gateway::start(&holder(quota).gateway("[sandbox]\nmemory = \"64MiB\""));
    assert_eq!(ask(&gateway, "/put/0/1000000/0").await.text(), "Ok(())");
    let answers = together(&gateway, 4, "/cas/100/0/2000").await;
    let held: u64 = answers.iter().filter(|answer| answer.status == 200).map(got).sum();
    assert!((30..=67).contains(&held), "{held}");
    gateway.quiet().await;
}

#[tokio::test]
async fn storage_calls_in_progress_count_what_they_carry() {
    // Less than the 32 MiB that may wait for the embedded store.
    let tenant = Tenant::new("big.localhost", "holder-3")
        .stores(&["default"])
        .with("[limits]\nmemory = \"24MiB\"\nstorage_ops = 1000");
    let gateway = Gateway::start(&Site::new().tenant("big", &tenant));
    for _ in 0..2 {
        let answer = ask(&gateway, "/calls/100/1000000").await;
        assert!(answer.text().ends_with("Error::Other(\"quota-exceeded: memory\")"), "{}", answer.text());
        assert!((12..=23).contains(&got(&answer)), "{}", answer.text());
        let peak = peak(&gateway, &answer).await;
        assert!((20 * MIB..=24 * MIB).contains(&peak), "{peak}");
        gateway.quiet().await;
    }
    let all = ask(&gateway, "/calls/100/1000").await;
    assert_eq!(all.text(), "100");
}

#[tokio::test]
async fn thousands_of_small_handles_are_served_and_counted() {
    let three = Tenant::new("three.localhost", "holder-3").stores(&["default"]);
    let gateway = Gateway::start(&holder("").tenant("three", &three));
    let few = ask(&gateway, "/pollables/1/0/0").await;
    let many = ask(&gateway, "/pollables/8000/0/0").await;
    assert_eq!(many.text(), "8000");
    let more = peak(&gateway, &many).await - peak(&gateway, &few).await;
    assert!((7990 * 512..8000 * 512 + 4 * MIB).contains(&more), "{more}");
    let opened = gateway.get("three.localhost", "/open/3000").await;
    assert_eq!(opened.text(), "3000");
    gateway.quiet().await;
}

#[tokio::test]
async fn files_and_folders_of_wasi_0_3_are_readable_and_limited_in_number() {
    let content = "line\n".repeat(40_000);
    let manifest = "spin_manifest_version = 2\n[application]\nname = \"big\"\n[[trigger.http]]\nroute = \"/...\"\n\
                    component = \"a\"\n[component.a]\nsource = \"holder-3.wasm\"\n\
                    files = [{ source = \"assets\", destination = \"/\" }]\n";
    let site = Site::new()
        .file("tenants/big/tenant.toml", "schema = 1\nhosts = [\"big.localhost\"]\napp = \"spin.toml\"\n")
        .file("tenants/big/spin.toml", manifest)
        .file("tenants/big/holder-3.wasm", std::fs::read(guest("holder-3")).unwrap())
        .file("tenants/big/assets/large.txt", &content)
        .file("tenants/big/assets/below/small.txt", "x");
    let gateway = Gateway::start(&site);
    let sum: u64 = content.bytes().map(u64::from).sum();
    assert_eq!(ask(&gateway, "/read/0/0").await.text(), format!("200000 {sum} Ok(())"));
    let names = "below:DescriptorType::Directory large.txt:DescriptorType::RegularFile Ok(()) 0 \
                 Err(ErrorCode::NotDirectory)";
    assert_eq!(ask(&gateway, "/names/0/0").await.text(), names);
    let files = ask(&gateway, "/files/1000/0").await;
    assert!(files.text().ends_with("Quota") && (190..=200).contains(&got(&files)), "{}", files.text());
    assert_eq!(ask(&gateway, "/folders/150/0").await.text(), "0 refused");
    let folders = ask(&gateway, "/folders/1000/0").await;
    assert!((800..850).contains(&got(&folders)), "{}", folders.text());
    gateway.quiet().await;
    assert_eq!(ask(&gateway, "/folders/150/0").await.text(), "0 refused", "places are given back");
}
