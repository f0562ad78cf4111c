//! `gateway.toml`: every key of the machine's file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeValue;

use super::boot::{Boot, Ceilings, Operators, Overrides, Policy, SECRET_BYTES_MIN};
use super::limits::{LimitsRead, QuotaRead, merge_limits, merge_quota};
use super::{admin, defaults, front, join, middleware, schema, telemetry, tls, value};
use crate::config::problem::Kind;
use crate::config::reader::reference::{Reference, reference};
use crate::config::reader::{At, Reader, Section};
use crate::config::remote::{self, Registry};
use crate::store::{Prefix, Secret, Servers, Source, Topology};
use crate::{admission, host, sandbox, store};

/// Reads the whole file. `base` is its folder, which relative paths start from.
pub(crate) fn read(reader: &Reader, file: &Section<'_>, base: &Path, overrides: &Overrides) -> Boot {
    schema(reader, file);
    let state = file.string("state").map_or_else(|| defaults::STATE.to_owned(), |at| at.value);
    let state = overrides.state.clone().unwrap_or_else(|| join(base, &state));
    let (tenants_dir, watch) = tenants(file, base);
    let tls = tls::read(reader, file, base);
    let telemetry = telemetry::read(reader, file, base, &state);
    let sandbox = file.section("sandbox");
    let (http, requests_per_address) = front::http(file);
    let egress = egress(reader, file, base);
    let (slots, watch_isolation) = isolation(file);
    let boot = Boot {
        source: Arc::clone(&reader.source),
        tenants_dir,
        watch,
        listen: front::listen(file, overrides),
        http,
        requests_per_address,
        tls: tls.source,
        roots: tls.roots,
        default_pair: tls.default,
        acme: tls.acme,
        components: remote::Settings::new(registries(reader, file, base), state.join("components"), egress.ca.clone()),
        storage: storage(reader, file, base, &state, overrides),
        admission: admission(sandbox.as_ref()),
        sandbox: sandbox_settings(sandbox.as_ref(), base, &state, slots),
        watch_isolation,
        telemetry,
        operators: Operators { is_address_given: overrides.admin.is_some(), ..admin::read(reader, file, base) },
        middleware: middleware::layers(reader, file, base),
        egress,
        policy: policy(file),
        project: overrides.project.clone(),
        state,
    };
    if let Some(sandbox) = sandbox {
        sandbox.finish();
    }
    boot
}

/// The tenants' folder, and whether to watch their files.
fn tenants(file: &Section<'_>, base: &Path) -> (PathBuf, bool) {
    let section = file.section("tenants");
    let dir = section.as_ref().and_then(|section| section.string("dir"));
    let watch = section.as_ref().and_then(|section| section.boolean("watch"));
    if let Some(section) = section {
        section.finish();
    }
    (join(base, &value(dir, defaults::TENANTS.to_owned())), value(watch, true))
}

fn storage(reader: &Reader, file: &Section<'_>, base: &Path, state: &Path, overrides: &Overrides) -> store::Settings {
    let section = file.section("storage");
    let words = [
        ("embedded", None),
        ("redis", Some(Topology::Single)),
        ("redis-sentinel", Some(Topology::Sentinel)),
        ("redis-cluster", Some(Topology::Cluster)),
    ];
    let backend = section.as_ref().and_then(|s| s.word("backend", &words));
    let primary = section.as_ref().and_then(|s| s.string("primary"));
    let primary = value(primary, defaults::SENTINEL_PRIMARY.to_owned());
    let path = section.as_ref().and_then(|s| s.string("path"));
    let url = section.as_ref().and_then(|s| s.take("url", URL, reference));
    let prefix = section.as_ref().and_then(|s| {
        let wanted = "1 to 32 letters, digits, -, _ or .";
        s.take("prefix", wanted, |value| value.as_str().and_then(Prefix::parse))
    });
    let timeout = section.as_ref().and_then(|s| s.duration("timeout"));
    let share_rates = value(section.as_ref().and_then(|s| s.boolean("share_rates")), defaults::SHARE_RATES);
    let tenant_users =
        section.as_ref().and_then(|s| admin::secret(reader, s, "tenant_users", (TENANT_USERS, SECRET_BYTES_MIN), base));
    let embedded = store::Kind::Embedded(path.map_or_else(|| state.join("store"), |at| join(base, &at.value)));
    let tls = section.as_ref().map(|section| storage_tls(reader, section, base)).unwrap_or_default();
    let redis = |urls: String, topology, source| {
        store::Kind::Redis(Servers { urls: Secret(urls), topology, primary, user: None, tls: tls.clone(), source })
    };
    let kind = match (&overrides.storage, backend, url) {
        (Some(over), ..) if over == "embedded" => embedded,
        (Some(over), ..) => {
            let (topology, urls) = topology(over);
            redis(urls.to_owned(), topology, None)
        }
        (None, Some(At { value: Some(_), place }), None) => {
            let found = "no URL".to_owned();
            reader.bad(Kind::MissingKey, &place, "Redis requires `storage.url`".into(), found, URL);
            embedded
        }
        (None, Some(At { value: Some(topology), .. }), Some(url)) => {
            let read = url.value.read(base).map_err(|found| {
                reader.bad(Kind::Unreadable, &url.place, "the Redis URL cannot be read".into(), found, URL);
            });
            redis(read.unwrap_or_default(), topology, source_of(&url.value, base))
        }
        (None, ..) => embedded,
    };
    if let Some(section) = section {
        section.finish();
    }
    let prefix = prefix.map_or_else(Prefix::default, |at| at.value);
    store::Settings { kind, prefix, timeout: value(timeout, defaults::STORAGE_TIMEOUT), share_rates, tenant_users, tls }
}

/// Where to read a URL again on each use, which makes sense only for a file.
fn source_of(url: &Reference, base: &Path) -> Option<Source> {
    let path = base.join(url.path()?);
    let (url, base) = (url.clone(), base.to_owned());
    Some(Source::new(path, move || url.read(&base).map(Secret)))
}

fn topology(text: &str) -> (Topology, &str) {
    match text.split_once(':') {
        Some(("redis-cluster", urls)) => (Topology::Cluster, urls),
        Some(("redis-sentinel", urls)) => (Topology::Sentinel, urls),
        _ => (Topology::Single, text),
    }
}

/// The Redis that a text names, in the form of `--storage`; none if it names none.
pub(crate) fn redis_at(text: &str, tls: store::Tls) -> Option<store::Kind> {
    let (topology, urls) = topology(text);
    let is_redis = urls.split(',').all(|url| ["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme)));
    let primary = defaults::SENTINEL_PRIMARY.to_owned();
    is_redis.then(|| {
        let urls = Secret(urls.to_owned());
        store::Kind::Redis(Servers { urls, topology, primary, user: None, tls, source: None })
    })
}

/// `[storage.tls]`, for `rediss://`.
fn storage_tls(reader: &Reader, storage: &Section<'_>, base: &Path) -> store::Tls {
    let Some(section) = storage.section("tls") else { return store::Tls::default() };
    let file = |key: &'static str| {
        let at = section.string(key)?;
        let read = std::fs::read(base.join(&at.value));
        let unreadable = |error: std::io::Error| {
            let summary = format!("`storage.tls.{key}` cannot be read");
            reader.bad(Kind::Unreadable, &at.place, summary, error.to_string(), "a PEM file");
        };
        Some((at.place.clone(), read.map_err(unreadable).ok()?))
    };
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    section.finish();
    let pair = match (cert, key) {
        (Some((_, cert)), Some((_, key))) => Some((cert, key)),
        (Some((place, _)), None) | (None, Some((place, _))) => {
            let summary = "a certificate and its key are required together".to_owned();
            reader.bad(Kind::MissingKey, &place, summary, "one of them".to_owned(), "cert and key");
            None
        }
        (None, None) => None,
    };
    store::Tls { ca: ca.map(|(_, pem)| pem), pair }
}

const TENANT_USERS: &str = "{ file = \"path\" } or { env = \"NAME\" }, at least 32 random bytes";
const URL: &str = "\"redis://host:6379\" (several with commas between), { env = \"NAME\" } or { file = \"path\" }";

fn admission(section: Option<&Section<'_>>) -> admission::Settings {
    admission::Settings {
        instances: value(section.and_then(|s| s.count("instances")), defaults::INSTANCES),
        waiting: value(section.and_then(|s| s.count("waiting")), defaults::WAITING),
        wait: value(section.and_then(|s| s.duration("wait")), defaults::WAIT),
    }
}

/// How pool slots are cleared, and whether a canary checks what tenants leave behind.
fn isolation(file: &Section<'_>) -> (sandbox::Slots, bool) {
    let section = file.section("isolation");
    let words = [sandbox::Slots::Scanned, sandbox::Slots::Whole].map(|slots| (slots.name(), slots));
    let slots = section.as_ref().and_then(|section| section.word("slots", &words));
    let watch = section.as_ref().and_then(|section| section.boolean("watch"));
    if let Some(section) = section {
        section.finish();
    }
    (value(slots, sandbox::Slots::Scanned), value(watch, defaults::WATCH_ISOLATION))
}

fn sandbox_settings(
    section: Option<&Section<'_>>,
    base: &Path,
    state: &Path,
    slots: sandbox::Slots,
) -> sandbox::Settings {
    let compiled = section.and_then(|s| s.string("compiled"));
    let path = |text: &str| (!text.is_empty()).then(|| join(base, text));
    let readable = section.and_then(|s| s.list("confine_read", "a path, relative to this file", path));
    sandbox::Settings {
        instances: value(section.and_then(|s| s.count("instances")), defaults::INSTANCES),
        compiled: compiled.map_or_else(|| state.join("compiled"), |at| join(base, &at.value)),
        cache_bytes: value(section.and_then(|s| s.bytes("cache")), defaults::CACHE),
        cache_idle: value(section.and_then(|s| s.duration("cache_idle")), defaults::CACHE_IDLE),
        fair_turns: value(section.and_then(|s| s.boolean("fair_turns")), defaults::FAIR_TURNS),
        metering: value(section.and_then(|s| s.boolean("metering")), defaults::METERING),
        memory: value(section.and_then(|s| s.bytes("memory")), defaults::MEMORY),
        slots,
        compile_memory: value(section.and_then(|s| s.bytes("compile_memory")), defaults::COMPILE_MEMORY),
        compile_time: value(section.and_then(|s| s.duration("compile_time")), defaults::COMPILE_TIME),
        confine: value(section.and_then(|s| s.boolean("confine")), defaults::CONFINE),
        confine_read: readable.unwrap_or_default().into_iter().map(|at| at.value).collect(),
    }
}

/// The registries that components may be fetched from, with our login for each.
fn registries(reader: &Reader, file: &Section<'_>, base: &Path) -> Vec<Registry> {
    const WANTED: &str = "scheme, host and port, such as \"https://registry.example\"";
    let origin = |value: &DeValue<'_>| {
        let url: http::Uri = value.as_str()?.parse().ok()?;
        let is_origin =
            matches!(url.scheme_str(), Some("https" | "http")) && url.path() == "/" && url.query().is_none();
        (is_origin && !url.authority()?.as_str().contains('@')).then_some(url)
    };
    let read = |section: &Section<'_>| {
        let url = section.required("url", section.take("url", WANTED, origin), "url = \"https://registry.example\"");
        let user = section.string("user");
        let password = section.take("password", "a text, { env = \"NAME\" } or { file = \"path\" }", reference);
        if let (Some(at), None) = (&user, &password) {
            let summary = "`user` has no effect without `password`".to_owned();
            reader.bad(
                Kind::KeysDisagree,
                &at.place,
                summary,
                "no password".to_owned(),
                "password = { file = \"path\" }",
            );
        }
        let password = password.and_then(|at| match at.value.read(base) {
            Ok(password) => Some(Secret(password)),
            Err(found) => {
                reader.bad(Kind::Unreadable, &at.place, "the password cannot be read".to_owned(), found, "a text");
                None
            }
        });
        section.finish();
        Some(Registry { url: url?.value, login: user.map(|at| at.value).zip(password) })
    };
    file.sections("registry").iter().filter_map(read).collect()
}

fn egress(reader: &Reader, file: &Section<'_>, base: &Path) -> host::Settings {
    let section = file.section("egress");
    let time = |key, default| value(section.as_ref().and_then(|s| s.duration(key)), default);
    let count = |key, default| value(section.as_ref().and_then(|s| s.count_or_none(key)), default);
    let ca = section.as_ref().and_then(|s| s.string("ca")).and_then(|at| {
        let read = std::fs::read(base.join(&at.value));
        let unreadable = |error: std::io::Error| {
            let summary = "the certificates to trust cannot be read".to_owned();
            reader.bad(Kind::Unreadable, &at.place, summary, error.to_string(), "a PEM file");
        };
        read.map_err(unreadable).ok()
    });
    let settings = host::Settings {
        connect: time("connect", defaults::EGRESS_CONNECT),
        idle: time("idle", defaults::EGRESS_IDLE),
        response_bytes: value(section.as_ref().and_then(|s| s.bytes("response")), defaults::EGRESS_RESPONSE),
        kept: host::Kept {
            all: count("kept", defaults::EGRESS_KEPT),
            of_tenant: count("kept_per_tenant", defaults::EGRESS_KEPT_PER_TENANT),
            idle: time("kept_idle", defaults::EGRESS_KEPT_IDLE),
            life: time("kept_life", defaults::EGRESS_KEPT_LIFE),
        },
        ca,
    };
    if let Some(section) = section {
        section.finish();
    }
    settings
}

fn policy(file: &Section<'_>) -> Policy {
    let (limits, quota) = limits_and_quota(file, "defaults");
    let (ceilings, quota_max) = limits_and_quota(file, "ceilings");
    Policy {
        limits: merge_limits(&defaults::LIMITS, &limits),
        quota: merge_quota(&defaults::QUOTA, &quota),
        ceilings: Ceilings { limits: ceilings, quota: quota_max },
    }
}

fn limits_and_quota(file: &Section<'_>, key: &'static str) -> (LimitsRead, QuotaRead) {
    let Some(section) = file.section(key) else { return Default::default() };
    let read = (section.limits("limits"), section.quota());
    section.finish();
    read
}
