//! Formats the details of one tenant for a person.

use serde_json::Value;

use super::client::text_of;

/// Rates and concurrent quotas in the order of the configuration: the API's name, the file's, and whether it counts bytes.
const USAGE: [(&str, &str, bool); 11] = [
    ("in_flight", "in_flight", false),
    ("connections", "connections", false),
    ("memory", "memory", true),
    ("requests", "requests", false),
    ("fuel", "fuel_per_second", false),
    ("body_bytes", "body_bytes", true),
    ("storage_ops", "storage_ops", false),
    ("storage_bytes", "storage_bytes", true),
    ("outbound", "outbound", false),
    ("outbound_in_flight", "outbound_in_flight", false),
    ("log_bytes", "log_bytes", true),
];

/// The output of `tollgate tenant show`.
pub(super) fn tenant(said: &Value) -> String {
    let list = |field: &str| said[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = format!("{}  {}\n", text_of(&said["id"]), text_of(&said["standing"]));
    let hosts: Vec<String> = list("hosts").iter().map(text_of).collect();
    text += &row("hosts", &hosts.join(" "));
    for (at, route) in list("routes").iter().enumerate() {
        let what = format!("{:24} {}", text_of(&route["path"]), text_of(&route["component"]));
        text += &row(if at == 0 { "routes" } else { "" }, &what);
    }
    text += &row(
        "requests",
        &format!(
            "{} since the start, {} a second; p50 {} ms, p99 {} ms",
            text_of(&said["requests"]),
            text_of(&said["requests_per_second"]),
            text_of(&said["latency"]["p50_ms"]),
            text_of(&said["latency"]["p99_ms"]),
        ),
    );
    for (at, fault) in list("faults").iter().enumerate() {
        let what = format!("{} {}", text_of(&fault["count"]), text_of(&fault["kind"]));
        text += &row(if at == 0 { "faults" } else { "" }, &what);
    }
    for (name, shown, is_bytes) in USAGE {
        if let Some(what) = used(&said["usage"][name], is_bytes) {
            text += &row(shown, &what);
        }
    }
    let stored = &said["stored"];
    if !stored.is_null() {
        let [bytes, bytes_max] = ["bytes", "bytes_max"].map(|field| amount(&stored[field], true));
        let [keys, keys_max] = ["keys", "keys_max"].map(|field| amount(&stored[field], false));
        text += &row("storage", &format!("{bytes} of {bytes_max}, {keys} of {keys_max} keys"));
    }
    if !said["cache"].is_null() {
        let [now, max] = ["now", "max"].map(|field| amount(&said["cache"][field], true));
        text += &row("cache", &format!("{now} of {max}"));
    }
    for (at, problem) in list("problems").iter().enumerate() {
        text += &row(if at == 0 { "in its files" } else { "" }, &text_of(problem));
    }
    text
}

fn row(name: &str, what: &str) -> String {
    format!("  {name:18} {what}\n")
}

/// The present use and the maximum, or what is left of a rate. Nothing if there is no limit.
fn used(usage: &Value, is_bytes: bool) -> Option<String> {
    if usage.get("left").is_some() {
        let seconds = usage["per_ms"].as_f64().unwrap_or_default() / 1000.0;
        let [left, burst, rate] = ["left", "burst", "amount"].map(|field| amount(&usage[field], is_bytes));
        return Some(format!("{left} of {burst} left, plus {rate} every {seconds} s"));
    }
    usage.get("max").map(|max| format!("{} of {}", amount(&usage["now"], is_bytes), amount(max, is_bytes)))
}

fn amount(value: &Value, is_bytes: bool) -> String {
    match value.as_u64() {
        Some(bytes) if is_bytes => indicatif::BinaryBytes(bytes).to_string(),
        _ => text_of(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_shown_in_lines_without_quotas_that_have_no_limit() {
        let said = serde_json::json!({
            "id": "hello", "standing": "serving", "hosts": ["a.example", "b.example"],
            "routes": [{ "path": "/...", "component": "site" }, { "path": "/b", "component": "other" }],
            "requests": 12, "requests_per_second": 0.0, "latency": { "p50_ms": 1.5, "p99_ms": null },
            "faults": [{ "kind": "trap", "count": 3 }],
            "usage": {
                "in_flight": { "now": 1, "max": 64 }, "memory": { "now": 1_048_576, "max": 4_194_304 },
                "requests": { "amount": 10, "per_ms": 1000, "burst": 20, "left": 19 }, "fuel": null,
            },
            "stored": { "bytes": 1024, "bytes_max": 2048, "keys": 1, "keys_max": 10 }, "cache": null,
            "problems": ["tenants/hello/tenant.toml:1:1: x [W0406 y]"],
        });
        let text = tenant(&said);
        for line in [
            "hello  serving",
            "  hosts              a.example b.example",
            "                     /b                       other",
            "  faults             3 trap",
            "  memory             1.00 MiB of 4.00 MiB",
            "  requests           19 of 20 left, plus 10 every 1 s",
            "  storage            1.00 KiB of 2.00 KiB, 1 of 10 keys",
            "  in its files       tenants/hello/tenant.toml:1:1: x [W0406 y]",
        ] {
            assert!(text.lines().any(|own| own == line), "{line:?} in {text}");
        }
        assert!(!text.contains("fuel_per_second") && !text.contains("cache"), "{text}");
    }
}
