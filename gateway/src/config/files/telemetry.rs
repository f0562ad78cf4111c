//! `[telemetry]` of the machine's file: what the gateway reports about itself, and where it sends that.

use std::path::Path;

use toml::de::DeValue;

use super::{admin, defaults, join, value};
use crate::config::problem::Kind;
use crate::config::reader::{Reader, Section};
use crate::telemetry::{
    ACCESS_NAMES, AccessFormat, AccessSettings, AccessShows, AccessTo, Format, OtlpSettings, Settings, Transport,
};

const ENDPOINT: &str = "scheme, host and port, such as \"http://127.0.0.1:4317\"";
const TRACES: &str = "\"all\", \"none\", or a part such as \"10%\" or \"0.1%\"";
const AUTHORIZATION: &str = "{ file = \"path\" } or { env = \"NAME\" }, with the value of the header, such as Bearer …";

pub(crate) fn read(reader: &Reader, file: &Section<'_>, base: &Path, state: &Path) -> Settings {
    let section = file.section("telemetry");
    let words = [("json", Format::Json), ("text", Format::Text)];
    let format = section.as_ref().and_then(|section| section.word("format", &words));
    let log = section.as_ref().and_then(|section| section.string("log"));
    let tenants = section.as_ref().and_then(|section| section.count("metrics_tenants"));
    let access = section
        .as_ref()
        .and_then(|section| section.section("access"))
        .map(|section| access(reader, &section, base, state));
    let (access, access_shows) = access.unwrap_or_default();
    let otlp =
        section.as_ref().and_then(|section| section.section("otlp")).and_then(|section| otlp(reader, &section, base));
    if let Some(section) = section {
        section.finish();
    }
    Settings {
        format: value(format, Format::Json),
        log: value(log, defaults::LOG.to_owned()),
        metrics_tenants: usize::try_from(value(tenants, defaults::METRICS_TENANTS)).unwrap_or(usize::MAX),
        access,
        access_shows,
        otlp,
    }
}

/// `[telemetry.access]`: its settings, or none if the access log goes with the other lines; and what it shows of clients.
fn access(reader: &Reader, section: &Section<'_>, base: &Path, state: &Path) -> (Option<AccessSettings>, AccessShows) {
    let words = [("log", 0), ("stdout", 1), ("file", 2), ("tenants", 3)];
    let to = section.word("to", &words);
    let wanted = format!("a text with names of fields in braces, of {}", ACCESS_NAMES.join(", "));
    let format = section.take("format", &wanted, |value| AccessFormat::parse(value.as_str()?));
    let path = section.string("path").map(|at| join(base, &at.value));
    let asked = |key| section.boolean(key).is_some_and(|at| at.value);
    let shows = AccessShows { client: asked("client"), user_agent: asked("user_agent") };
    let shows = shows.and_of(format.as_ref().map(|at| &at.value));
    let (bytes_max, kept_max) = (section.bytes("file_bytes"), section.count("files"));
    let is_log = to.as_ref().is_none_or(|to| to.value == 0);
    if let (true, Some(_)) = (is_log, &format) {
        let (place, summary) = (section.place(), "`format` has no effect on lines in the gateway's log".to_owned());
        let wanted = "to = \"stdout\", \"file\" or \"tenants\" beside it";
        reader.bad(Kind::KeysDisagree, &place, summary, "to = \"log\"".to_owned(), wanted);
    }
    section.finish();
    let to = match value(to, 0) {
        1 => AccessTo::Stdout,
        2 => AccessTo::File {
            path: path.unwrap_or_else(|| state.join("access.log")),
            bytes_max: value(bytes_max, defaults::ACCESS_FILE_BYTES),
            kept_max: value(kept_max, defaults::ACCESS_FILES),
        },
        3 => AccessTo::Tenants(path.unwrap_or_else(|| state.join("access"))),
        _ => return (None, shows),
    };
    (Some(AccessSettings { to, format: format.map(|at| at.value) }), shows)
}

fn otlp(reader: &Reader, section: &Section<'_>, base: &Path) -> Option<OtlpSettings> {
    let url = |value: &DeValue<'_>| {
        let url: http::Uri = value.as_str()?.parse().ok()?;
        (matches!(url.scheme_str(), Some("http" | "https")) && url.path() == "/" && url.query().is_none())
            .then_some(url)
    };
    let endpoint =
        section.required("endpoint", section.take("endpoint", ENDPOINT, url), "endpoint = \"http://127.0.0.1:4317\"");
    let words = [("grpc", Transport::Grpc), ("http/protobuf", Transport::HttpProtobuf)];
    let transport = section.word("protocol", &words);
    let traces = section.take("traces", TRACES, |value| per_million(value.as_str()?));
    let follows_client = section.boolean("follow_client");
    let (metrics, logs, access_log) =
        (section.boolean("metrics"), section.boolean("logs"), section.boolean("access_log"));
    let (interval, timeout) = (section.duration("interval"), section.duration("timeout"));
    let authorization = admin::secret(reader, section, "authorization", (AUTHORIZATION, 1), base);
    section.finish();
    Some(OtlpSettings {
        endpoint: endpoint?.value,
        transport: value(transport, Transport::Grpc),
        traces_per_million: value(traces, defaults::OTLP_TRACES_PER_MILLION),
        follows_client: value(follows_client, false),
        metrics: value(metrics, true),
        logs: value(logs, true),
        access_log: value(access_log, false),
        interval: value(interval, defaults::OTLP_INTERVAL),
        timeout: value(timeout, defaults::OTLP_TIMEOUT),
        authorization: authorization.map(|secret| secret.0),
    })
}

/// `all`, `none`, or a percentage with up to four decimals.
fn per_million(text: &str) -> Option<u32> {
    let part = match text {
        "all" => return Some(1_000_000),
        "none" => return Some(0),
        _ => text.strip_suffix('%')?,
    };
    let (whole, behind) = part.split_once('.').unwrap_or((part, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || behind.len() > 4 || !are_digits(whole) || !are_digits(behind) {
        return None;
    }
    let million: u32 = format!("{whole}{behind:0<4}").parse().ok()?;
    (million <= 1_000_000).then_some(million)
}

#[cfg(test)]
mod tests {
    use super::per_million;

    #[test]
    fn the_share_of_traced_requests_is_read_as_a_percentage() {
        let read = ["all", "none", "10%", "0.1%", "100%", "0.0001%"].map(per_million);
        assert_eq!(read, [Some(1_000_000), Some(0), Some(100_000), Some(1000), Some(1_000_000), Some(1)]);
        for bad in ["", "%", "10", "101%", "1.23456%", "-1%", ".5%", "1e2%"] {
            assert_eq!(per_million(bad), None, "{bad}");
        }
    }
}
