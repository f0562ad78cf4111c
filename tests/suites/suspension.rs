//! An operator suspends a tenant: at once, including running guests, and until the operator resumes it.

use tests::{Gateway, Protocol, Site, Tenant};

fn site() -> Site {
    let limits = "[limits]\ntime = \"50s\"\nfuel = \"9000G\"";
    Site::new()
        .tenant("bad", &Tenant::new("bad.localhost", "hostile").with(limits))
        .tenant("good", &Tenant::new("good.localhost", "echo"))
}

#[tokio::test]
async fn a_suspended_tenant_is_stopped_whatever_it_does() {
    let site = site();
    let gateway = Gateway::start(&site);
    let running: Vec<_> = ["/loop", "/sleep", "/drip", "/fill"]
        .map(|path| {
            let client = gateway.client(Protocol::H2);
            tokio::spawn(async move { client.get("bad.localhost", path).await })
        })
        .into();
    tests::until("four guests", async || (gateway.metric("tollgate_instances").await == 4.0).then_some(())).await;
    let (code, said) = gateway.tell(&site, &["tenant", "suspend", "bad"]);
    assert_eq!((code, said.as_str()), (Some(0), "bad suspended\n"));
    for task in running {
        let answer = task.await.unwrap();
        let record = gateway.record(&answer).await;
        assert_eq!(record["fault"], "suspended", "{record}");
        if record["path"] == "/drip" {
            assert!(answer.status == 200 && answer.torn.is_some(), "its head was sent: the stream is torn");
        } else {
            assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "suspended"), "{record}");
        }
    }
    gateway.quiet().await;
    let refused = gateway.get("bad.localhost", "/ok").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "suspended"));
    assert_eq!(gateway.tenant("bad").await["standing"], "suspended");
    assert_eq!(gateway.get("good.localhost", "/head").await.status.as_u16(), 200);

    let before = gateway.metric("tollgate_config_generation").await;
    gateway.signal("HUP");
    tests::until("the reload", async || (gateway.metric("tollgate_config_generation").await > before).then_some(()))
        .await;
    assert_eq!(gateway.get("bad.localhost", "/ok").await.problem(), "suspended", "a reload does not forget it");
    gateway.kill_9();
    let gateway = Gateway::start(&site);
    assert_eq!(gateway.get("bad.localhost", "/ok").await.problem(), "suspended", "nor does a restart");

    let (code, said) = gateway.tell(&site, &["tenant", "resume", "bad"]);
    assert_eq!((code, said.as_str()), (Some(0), "bad resumed\n"));
    assert_eq!(gateway.get("bad.localhost", "/ok").await.text(), "ok");
}

#[tokio::test]
async fn disabling_by_file_ends_running_guests_too() {
    let site = site();
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H1);
    let looping = tokio::spawn(async move { client.get("bad.localhost", "/loop").await });
    tests::until("the guest", async || (gateway.metric("tollgate_instances").await == 1.0).then_some(())).await;
    let file = std::fs::read_to_string(site.path("tenants/bad/tenant.toml")).unwrap();
    site.write("tenants/bad/tenant.toml", file.replace("schema = 1", "schema = 1\nenabled = false"));
    gateway.signal("HUP");
    let answer = looping.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "suspended"));
}

#[tokio::test]
async fn a_mistyped_tenant_name_changes_nothing() {
    let site = site();
    let gateway = Gateway::start(&site);
    let (code, said) = gateway.tell(&site, &["tenant", "suspend", "nobody"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("404 Not Found: there is no such tenant"), "{said}");
    let (code, said) = gateway.tell(&site, &["tenant", "suspend", "../bad"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is not a valid tenant name"), "{said}");
    let plain = tests::Client::plain(gateway.admin).call("POST", "localhost", "/v1/tenants/bad/suspend", "").await;
    assert_eq!(plain.status.as_u16(), 401, "a page in a browser could send this");
    assert_eq!(gateway.get("bad.localhost", "/ok").await.text(), "ok");
    let admin = gateway.admin;
    gateway.kill_9();
    let down = std::process::Command::new(tests::tollgate())
        .args(["tenant", "suspend", "bad", "--config"])
        .arg(site.config())
        .args(["--admin", &admin.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&down.stderr).into_owned();
    assert_eq!(down.status.code(), Some(1));
    assert!(said.contains("is it running?"), "{said}");
}
