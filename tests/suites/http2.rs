//! RFC 9113 and RFC 7541 from an independent client's view (`tests/clients/http2.py`): each MUST that can be tested on a
//! server, following h2spec's list.

use serde_json::json;
use tests::{Gateway, Site, Tenant, python};

#[tokio::test]
async fn each_check_of_the_two_rfcs_holds() {
    let site = Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"));
    let gateway = Gateway::start(&site);
    let ca = site.path("state/tls/ca.pem");
    let port = gateway.https.port();
    let order = json!({ "port": port, "ca": ca, "name": "echo.localhost", "streams": 100, "head_bytes": 16 << 10 });
    let out = python("http2.py", order).await;
    let checks = out["checks"].as_array().unwrap();
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] != true).map(ToString::to_string).collect();
    println!("{} checks, {} failed", checks.len(), failed.len());
    assert!(checks.len() >= 120, "{}", checks.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    gateway.quiet().await;
}
