//! The dashboard: the last hour, peaks, and the pictures of the documentation.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Gateway, Protocol, Site, Tenant, cache, python, request, tollgate, top, until};

/// The largest size of a picture of the documentation.
const IMAGE_BYTES_MAX: u64 = 120 * 1024;

fn site() -> Site {
    Site::new()
        .tenant("echo", &Tenant::new("echo.localhost", "echo"))
        .tenant("loud", &Tenant::new("loud.localhost", "hostile"))
}

fn sum(history: &Value, of: impl Fn(&Value) -> u64) -> u64 {
    history["steps"].as_array().unwrap().iter().map(of).sum()
}

fn class(digit: usize) -> impl Fn(&Value) -> u64 {
    move |step| step["requests_by_class"][digit - 1].as_u64().unwrap()
}

fn most(history: &Value, name: &str) -> u64 {
    history["steps"].as_array().unwrap().iter().map(|step| step[name].as_u64().unwrap()).max().unwrap_or(0)
}

/// Nobody watches while the requests run.
#[tokio::test]
async fn the_last_hour_agrees_with_the_counters() {
    let gateway = Gateway::start(&site());
    for _ in 0..7 {
        gateway.get("echo.localhost", "/head").await;
    }
    for _ in 0..3 {
        gateway.get("loud.localhost", "/trap").await;
    }
    let misdirected = request("GET", "nobody.localhost", "/").body(tests::empty()).unwrap();
    assert_eq!(gateway.client(Protocol::H2).send("echo.localhost", misdirected).await.status.as_u16(), 421);
    let history = until("a step with all of it", async || {
        let history = gateway.told("/v1/history").await;
        (sum(&history, class(4)) > 0 && sum(&history, class(5)) == 3).then_some(history)
    })
    .await;
    assert_eq!((&history["step_ms"], &history["steps_max"]), (&10_000.into(), &360.into()));
    assert_eq!((sum(&history, class(2)), sum(&history, class(4))), (7, 1), "{history:#}");
    assert!(sum(&history, |step| step["faults"].as_u64().unwrap()) >= 4, "{history:#}");
    let requests = gateway.metric("tollgate_requests_total{tenant=\"echo\",status=\"2xx\"} ").await;
    assert!((requests - 7.0).abs() < f64::EPSILON, "{requests}");
    // A tenant's history has its own requests only.
    let echo = gateway.told("/v1/tenants/echo/history").await;
    let loud = gateway.told("/v1/tenants/loud/history").await;
    assert_eq!((&echo["is_kept"], sum(&echo, class(2)), sum(&echo, class(5))), (&true.into(), 7, 0), "{echo:#}");
    assert_eq!((sum(&loud, class(2)), sum(&loud, class(5))), (0, 3), "{loud:#}");
    for (id, history) in [("echo", &echo), ("loud", &loud)] {
        let fuel = gateway.metric(&format!("tollgate_fuel_total{{tenant=\"{id}\"}} ")).await;
        #[expect(clippy::cast_precision_loss, reason = "the metric is written as one")]
        let kept = sum(history, |step| step["fuel"].as_u64().unwrap()) as f64;
        assert!((fuel - kept).abs() < f64::EPSILON && fuel > 0.0, "{id}: {fuel} {kept}");
    }
    let busy = echo["steps"].as_array().unwrap().iter().find(|step| class(2)(step) > 0).unwrap();
    assert!(busy["latency"]["p99_ms"].as_f64() >= busy["latency"]["p50_ms"].as_f64(), "{busy}");
    assert!(busy["latency"]["p50_ms"].as_f64() > Some(0.0), "{busy}");
    // `after_ms` leaves out steps that a client has already.
    let last = history["steps"].as_array().unwrap().last().unwrap()["at_ms"].as_u64().unwrap();
    let newer = gateway.told(&format!("/v1/history?after_ms={last}")).await;
    assert!(newer["steps"].as_array().unwrap().iter().all(|step| step["at_ms"].as_u64() > Some(last)), "{newer}");
    let nobody = gateway.operate("GET", "/v1/tenants/nobody/history", "").await;
    assert_eq!(nobody.status.as_u16(), 404);
}

#[tokio::test]
async fn peaks_include_requests_that_ended_between_two_samples() {
    let gateway = Gateway::start(&site());
    // All requests end before anything is read.
    let mut asked = tokio::task::JoinSet::new();
    for (host, path) in [("loud.localhost", "/ok"), ("echo.localhost", "/head")].repeat(8) {
        let client = gateway.client(Protocol::H2);
        asked.spawn(async move { client.get(host, path).await });
    }
    asked.join_all().await;
    until("the end of all instances", async || (gateway.metric("tollgate_instances ").await < 1.0).then_some(())).await;
    let peaks =
        ["tollgate_instances_peak ", "tollgate_requests_in_flight_peak ", "tollgate_instance_memory_peak_bytes "];
    for peak in peaks {
        until(peak, async || (gateway.metric(peak).await > 0.0).then_some(())).await;
    }
    let history = until("a step", async || {
        let history = gateway.told("/v1/history").await;
        (sum(&history, class(2)) > 8).then_some(history)
    })
    .await;
    for name in ["in_flight_peak", "instances_peak", "memory_peak"] {
        assert!(most(&history, name) > 0, "{name}: {history:#}");
    }
    assert!(most(&history, "instances_peak") <= 16, "{history:#}");
    let echo = gateway.told("/v1/tenants/echo/history").await;
    assert!(most(&echo, "in_flight_peak") > 0 && most(&echo, "memory_peak") > 65_536, "{echo:#}");
    assert!(most(&echo, "memory_peak") <= most(&history, "memory_peak"), "{echo:#} {history:#}");
    let now = gateway.status().await;
    assert_eq!((&now["instances"]["now"], &now["memory"]["now"]), (&0.into(), &0.into()), "a sample shows nothing");
}

/// The tenants in the pictures: name, host, guest, path, requests per second.
const TENANTS: [(&str, &str, &str, &str, f64); 7] = [
    ("city-library", "catalogue.city-library.example", "hello-site", "/", 14.0),
    ("corner-bakery", "corner-bakery.example", "echo", "/head", 11.0),
    ("harbour-radio", "harbour-radio.example", "plain-hello", "/", 9.0),
    ("mountain-guides", "tours.mountain-guides.example", "counter-site", "/", 6.0),
    ("night-school", "night-school.example", "links-site", "/", 5.0),
    ("tram-times", "tram-times.example", "hello-site", "/", 8.0),
    ("wine-cellar", "shop.wine-cellar.example", "hostile", "/ok", 3.0),
];

fn pictured() -> Site {
    TENANTS.iter().fold(Site::new(), |site, (id, host, guest, ..)| {
        let tenant = Tenant::new(host, guest);
        match *guest {
            "counter-site" => site.tenant(id, &tenant.stores(&["default"])),
            "links-site" => site.tenant(id, &tenant.stores(&["links", "hits"])),
            _ => site.tenant(id, &tenant),
        }
    })
}

/// Sends requests to each tenant, at a rate that rises and falls, until its task is aborted.
fn load(gateway: &Gateway) -> Vec<tokio::task::JoinHandle<()>> {
    let begun = Instant::now();
    let of = |(at, (_, host, _, path, rate)): (u32, &(&'static str, &'static str, &str, &'static str, f64))| {
        let (client, host, path, rate) = (gateway.client(Protocol::H2), *host, *path, *rate);
        tokio::spawn(async move {
            let mut connection = client.connect(host).await;
            for number in 0_u64.. {
                // One request in nine of this tenant fails.
                let path = if path == "/ok" && number % 9 == 8 { "/trap" } else { path };
                let asked = request("GET", host, path).body(tests::empty()).unwrap();
                if let Ok(response) = connection.send(asked).await {
                    tests::read(response).await;
                }
                let swing = (begun.elapsed().as_secs_f64() / (17.0 + 5.0 * f64::from(at))).sin();
                tokio::time::sleep(Duration::from_secs_f64(1.0 / (rate * (1.0 + 0.6 * swing)))).await;
            }
        })
    };
    (0..).zip(&TENANTS).map(of).collect()
}

/// Returns the screen of `tollgate top` after this many seconds, cell by cell.
async fn screen(site: &Site, gateway: &Gateway, seconds: u64) -> Value {
    let config = site.config().display().to_string();
    let words = [&tollgate().display().to_string(), "top", "--config", &config, "--admin", &gateway.admin.to_string()];
    let order = json!({ "words": words, "keys": [[seconds, "q"]], "rows": 21, "columns": 118, "cells": true });
    let said = python("terminal.py", order).await;
    assert_eq!(said["code"], 0, "{}", said["screen"]);
    said["cells"].clone()
}

/// With `TOLLGATE_IMAGES=write`, the test writes to `gateway/docs/images`, after five minutes of load (or `TOLLGATE_IMAGES_SECONDS`).
#[tokio::test]
async fn the_pictures_of_the_documentation_show_tenants_under_load() {
    let site = pictured();
    let gateway = Gateway::start(&site);
    let load = load(&gateway);
    let is_written = std::env::var_os("TOLLGATE_IMAGES").is_some_and(|word| word == "write");
    let seconds = std::env::var("TOLLGATE_IMAGES_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let seconds: u64 = seconds.unwrap_or(if is_written { 310 } else { 12 });
    let folder = tempfile::tempdir().unwrap();
    let images = if is_written { top().join("gateway/docs/images") } else { folder.path().to_owned() };
    let top_seconds = seconds.min(45);
    tokio::time::sleep(Duration::from_secs(seconds - top_seconds)).await;
    let top = screen(&site, &gateway, top_seconds).await;
    let found = pictures(&gateway, &images, if seconds > 600 { "1h" } else { "5m" }, top).await;
    for task in load {
        task.abort();
    }
    for name in ["dashboard", "dashboard-tenant", "top"] {
        let picture = &found["pictures"][name];
        let bytes = std::fs::metadata(images.join(format!("{name}.png"))).unwrap().len();
        assert!(bytes < IMAGE_BYTES_MAX, "{name}: {bytes} bytes");
        // A blank picture has few colours, and one of them nearly everywhere.
        assert!(picture["colours"].as_u64() > Some(24), "{name}: {picture}");
        assert!(picture["ground"].as_f64() < Some(0.97), "{name}: {picture}");
    }
    for (name, part) in [("dashboard", "city-library"), ("dashboard-tenant", "corner-bakery"), ("top", "city-library")]
    {
        assert!(found["text"][name].as_str().unwrap().contains(part), "{name}: {found:#}");
    }
    // The charts show values of the time before the page was opened.
    assert_eq!(found["charts"], json!(4), "{found:#}");
    for (chart, value) in found["newest"].as_object().unwrap() {
        assert!(!value.as_str().unwrap().starts_with('0'), "{chart}: {value} while tenants are asked");
    }
    assert_eq!(found["errors"], json!([]), "{found:#}");
}

async fn pictures(gateway: &Gateway, folder: &std::path::Path, span: &str, top: Value) -> Value {
    let url = format!("http://{}/", gateway.admin);
    let order = json!({
        "url": url, "token": gateway.token, "tenant": "corner-bakery", "folder": folder, "span": span, "top": top,
    });
    let script: PathBuf = tests::top().join("tests/clients/dashboard/pictures.mjs");
    let run = move || {
        let mut child = Command::new("node")
            .arg(script)
            .env("TOLLGATE_DASHBOARD_MODULES", cache().join("dashboard"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}
