//! `tenant.toml`: every key of one tenant's file.

use std::time::Duration;

use toml::de::DeValue;

use super::component::{self, ComponentRead};
use super::limits::{LimitsRead, QuotaRead};
use super::{parts, schema};
use crate::config::problem::{Kind, Place};
use crate::config::reader::reference::Reference;
use crate::config::reader::{At, Reader, Section, units};
use crate::domain::Pattern;
use crate::host::is_variable;
use crate::ids::{ComponentName, StoreName};
use crate::route::{Expression, Fixed, PathPattern};
use crate::store::KEY_BYTES_MAX;
use crate::tenant::{Coding, Grant, GrantedHost};

/// What the file says, before references are resolved and defaults filled in.
pub(crate) struct TenantFile {
    pub(crate) hosts: Vec<At<Pattern>>,
    pub(crate) enabled: bool,
    pub(crate) tls: Option<TlsRead>,
    pub(crate) compress: Vec<Coding>,
    pub(crate) quota: QuotaRead,
    pub(crate) limits: LimitsRead,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) secrets: Vec<(At<String>, Reference)>,
    pub(crate) egress: Vec<Grant>,
    pub(crate) store_ttl: Vec<(At<StoreName>, Duration)>,
    /// A Spin manifest, which defines components and routes instead.
    pub(crate) app: Option<At<String>>,
    /// The profile of it.
    pub(crate) app_profile: Option<At<String>>,
    /// Variables that components may read by name.
    pub(crate) variables: Vec<(At<String>, Reference)>,
    pub(crate) components: Vec<ComponentRead>,
    pub(crate) routes: Vec<RouteRead>,
    pub(crate) fixed: Vec<FixedRead>,
    pub(crate) subscriptions: Vec<SubscriptionRead>,
    /// So far, only a manifest can set these.
    pub(crate) schedules: Vec<ScheduleRead>,
}

pub(crate) struct TlsRead {
    /// The second one has another kind of key, for clients that do not support the first.
    pub(crate) pairs: Vec<PairRead>,
    pub(crate) clients: Option<ClientsRead>,
}

/// The files of a certificate of the tenant.
pub(crate) struct PairRead {
    pub(crate) cert: At<String>,
    pub(crate) key: At<String>,
}

/// The certificates of its clients.
pub(crate) struct ClientsRead {
    pub(crate) ca: At<String>,
    pub(crate) revoked: Option<At<String>>,
    pub(crate) is_required: bool,
}

/// A channel whose messages start a component.
pub(crate) struct SubscriptionRead {
    pub(crate) channel: At<String>,
    /// Where the file asks to keep a message until one gateway has handled it.
    pub(crate) once: Option<Place>,
    pub(crate) component: At<String>,
}

/// Times at which a component is started.
pub(crate) struct ScheduleRead {
    pub(crate) expression: At<Expression>,
    pub(crate) component: At<String>,
}

/// A path with a fixed answer.
pub(crate) struct FixedRead {
    pub(crate) path: At<PathPattern>,
    pub(crate) answer: Fixed,
}

pub(crate) struct RouteRead {
    pub(crate) place: Place,
    pub(crate) path: At<PathPattern>,
    pub(crate) component: At<String>,
    pub(crate) limits: LimitsRead,
}

/// Reads the whole file. None if a key that the rest depends on is missing or wrong.
pub(crate) fn read(reader: &Reader, file: &Section<'_>) -> Option<TenantFile> {
    schema(reader, file);
    let hosts = hosts(reader, file);
    let enabled = file.boolean("enabled").is_none_or(|at| at.value);
    let tls = file.section("tls").map(|section| tls(&section));
    let coding = |name: &str| Coding::ALL.into_iter().find(|coding| coding.name() == name);
    let compress = file.list("compress", "zstd, br or gzip", coding);
    let quota = file.quota();
    let limits = file.limits("limits");
    let env = env(file);
    let secrets = secrets(file);
    let egress = egress(file);
    let store_ttl = store_ttl(file);
    let variables = variables(file);
    let app = file.string("app");
    let app_profile = file.string("app_profile");
    if let (Some(profile), None) = (&app_profile, &app) {
        let summary = "`app_profile` has no effect without `app`".to_owned();
        reader.bad(
            Kind::KeysDisagree,
            &profile.place,
            summary,
            format!("{:?}", profile.value),
            "app = \"spin.toml\" beside it",
        );
    }
    let components: Vec<_> =
        file.sections("component").iter().map(|section| component::read(reader, section)).collect();
    let routes: Vec<_> = file.sections("route").iter().map(route).collect();
    let subscriptions: Vec<_> = file.sections("subscription").iter().map(subscription).collect();
    let starts = routes.len() + subscriptions.len();
    for (count, what, example) in [
        (components.len(), "component", "[[component]] with name and source"),
        (starts, "route", "[[route]] with path and component"),
    ] {
        if let (Some(app), true) = (&app, count > 0) {
            let summary = format!("`app` and [[{what}]] exclude each other");
            reader.bad(Kind::KeysDisagree, &app.place, summary, format!("{count} [[{what}]] beside it"), "one of them");
        } else if count == 0 && app.is_none() {
            let summary = format!("there is no [[{what}]]");
            reader.bad(Kind::MissingKey, &file.place(), summary, "none".to_owned(), example);
        }
    }
    let mut components: Vec<_> = components.into_iter().collect::<Option<_>>()?;
    let routes: Vec<_> = routes.into_iter().collect::<Option<_>>()?;
    let subscriptions: Vec<_> = subscriptions.into_iter().collect::<Option<_>>()?;
    let starts = routes.iter().map(|of: &RouteRead| &of.component);
    let starts: Vec<_> = starts.chain(subscriptions.iter().map(|of: &SubscriptionRead| &of.component)).collect();
    let is_started = |name: &ComponentName| starts.iter().any(|start| start.value == name.as_str());
    parts::settle(reader, &mut components, is_started);
    Some(TenantFile {
        hosts: hosts?,
        enabled,
        tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
        compress: compress.into_iter().flatten().map(|at| at.value).collect(),
        quota,
        limits,
        env,
        secrets,
        egress,
        store_ttl,
        app,
        app_profile,
        variables,
        components,
        routes,
        fixed: Vec::new(),
        subscriptions,
        schedules: Vec::new(),
    })
}

fn hosts(reader: &Reader, file: &Section<'_>) -> Option<Vec<At<Pattern>>> {
    const WANTED: &str = "a host name without port, such as \"shop.example.org\", or \"*.example.org\"";
    let hosts = file.list("hosts", WANTED, Pattern::parse);
    let Some(hosts) = hosts.filter(|hosts| !hosts.is_empty()) else {
        let summary = "`hosts` lists no host name".to_owned();
        let wanted = "hosts = [\"shop.example.org\"], at least one";
        reader.bad(Kind::MissingKey, &file.place(), summary, "no host".to_owned(), wanted);
        return None;
    };
    Some(hosts)
}

fn env(file: &Section<'_>) -> Vec<(String, String)> {
    let Some(section) = file.section("env") else { return Vec::new() };
    let text = |_: &str, value: &DeValue<'_>| value.as_str().filter(|text| !text.contains('\0')).map(str::to_owned);
    section.entries("a text", text).into_iter().map(|(name, text)| (name.value, text)).collect()
}

/// Secrets are in their own files. The gateway's environment variables are not offered: they belong to the operator.
fn secrets(file: &Section<'_>) -> Vec<(At<String>, Reference)> {
    let Some(section) = file.section("secrets") else { return Vec::new() };
    let reference = |_: &str, value: &DeValue<'_>| {
        let table = value.as_table().filter(|table| table.len() == 1)?;
        Some(Reference::File(table.get("file")?.get_ref().as_str()?.to_owned()))
    };
    section.entries("{ file = \"path\" }; a secret must not be in this file", reference)
}

/// Texts, or files that contain them.
fn variables(file: &Section<'_>) -> Vec<(At<String>, Reference)> {
    let Some(section) = file.section("variables") else { return Vec::new() };
    let reference = |name: &str, value: &DeValue<'_>| {
        let text = value.as_str().map(|text| Reference::Text(text.to_owned()));
        let file = || Some(Reference::File(value.as_table()?.get("file")?.get_ref().as_str()?.to_owned()));
        text.or_else(file).filter(|_| is_variable(name))
    };
    section.entries("a text or { file = \"path\" }, under a name of a-z, 0-9 and _", reference)
}

fn store_ttl(file: &Section<'_>) -> Vec<(At<StoreName>, Duration)> {
    let Some(section) = file.section("store_ttl") else { return Vec::new() };
    let read = |name: &str, value: &DeValue<'_>| {
        let ttl = units::duration(value.as_str()?).filter(|ttl| *ttl >= Duration::from_millis(1))?;
        Some((StoreName::parse(name)?, ttl))
    };
    let wanted = "the name of a store and the lifetime of its values, such as \"30m\"";
    let named = |(at, (value, ttl)): (At<String>, (StoreName, Duration))| (At { value, place: at.place }, ttl);
    section.entries(wanted, read).into_iter().map(named).collect()
}

fn egress(file: &Section<'_>) -> Vec<Grant> {
    const WANTED: &str = "an origin without a path, such as \"https://api.example.org\", \"https://*.example.org\" or \"http://10.0.0.5:8080\"";
    let Some(section) = file.section("egress") else { return Vec::new() };
    let grants = section.list("allow", WANTED, origin).unwrap_or_default();
    section.finish();
    grants.into_iter().map(|at| at.value).collect()
}

/// `scheme://host` or `scheme://host:port` and nothing more.
fn origin(text: &str) -> Option<Grant> {
    let (https, rest) = match text.split_once("://")? {
        ("https", rest) => (true, rest),
        ("http", rest) => (false, rest),
        _ => return None,
    };
    let (host, port) = match host_and_port(rest) {
        (host, Some(port)) => (host, port.parse::<u16>().ok().filter(|port| *port > 0)?),
        (host, None) => (host, standard_port(https)),
    };
    Some(Grant { https, host: granted_host(host)?, port: Some(port.into()) })
}

/// The host, and the port as written, if there is one.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The colons of a bare IPv6 address do not separate a port.
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

pub(crate) const fn standard_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// An address, a name, or a name with a wildcard.
fn granted_host(host: &str) -> Option<GrantedHost> {
    let address = host.trim_matches(['[', ']']).parse();
    address.map_or_else(|_no_address| Pattern::parse(host).map(GrantedHost::Name), |ip| Some(GrantedHost::Address(ip)))
}

fn subscription(section: &Section<'_>) -> Option<SubscriptionRead> {
    let channel =
        section.take("channel", CHANNEL, |value| value.as_str().filter(|name| is_channel(name)).map(str::to_owned));
    let channel = section.required("channel", channel, "channel = \"orders\"");
    let component = section.required("component", section.string("component"), "component = \"site\"");
    let once = once(section);
    section.finish();
    Some(SubscriptionRead { channel: channel?, once, component: component? })
}

/// Returns the place of `delivery = "once"`; the alternative is `"all"`.
pub(crate) fn once(section: &Section<'_>) -> Option<Place> {
    section.word("delivery", &[("all", false), ("once", true)]).filter(|delivery| delivery.value).map(|at| at.place)
}

pub(crate) const CHANNEL: &str = "the name of a channel, 1 to 1024 bytes";

pub(crate) const fn is_channel(name: &str) -> bool {
    !name.is_empty() && name.len() <= KEY_BYTES_MAX
}

fn route(section: &Section<'_>) -> Option<RouteRead> {
    const WANTED: &str = "a path such as \"/exact\", \"/users/:id\" or \"/files/...\"";
    let path = section.take("path", WANTED, |value| PathPattern::parse(value.as_str()?).ok());
    let path = section.required("path", path, "path = \"/...\"");
    let component = section.required("component", section.string("component"), "component = \"site\"");
    let limits = section.limits("limits");
    section.finish();
    Some(RouteRead { place: section.place(), path: path?, component: component?, limits })
}

/// None if a key that the rest depends on is missing.
fn tls(section: &Section<'_>) -> Option<TlsRead> {
    let clients = section.section("clients").map(|section| {
        let ca = section.required("ca", section.string("ca"), "ca = \"path\", PEM certificates of CAs");
        let revoked = section.string("revoked");
        let is_required = section.boolean("required").is_none_or(|at| at.value);
        section.finish();
        Some(ClientsRead { ca: ca?, revoked, is_required })
    });
    let pair = |names: [&'static str; 2], is_needed: bool| {
        let [cert, key] = names.map(|name| section.string(name));
        if !is_needed && cert.is_none() && key.is_none() {
            return Some(None);
        }
        let [cert_name, key_name] = names;
        let cert = section.required(cert_name, cert, "cert = \"path\", a PEM chain, leaf first");
        let key = section.required(key_name, key, "key = \"path\", a PEM private key");
        Some(Some(PairRead { cert: cert?, key: key? }))
    };
    let second = pair(["other_cert", "other_key"], false);
    let is_needed = clients.is_none() || matches!(second, Some(Some(_)));
    let first = pair(["cert", "key"], is_needed);
    section.finish();
    let pairs = [first?, second?].into_iter().flatten().collect();
    Some(TlsRead { pairs, clients: clients.map_or(Some(None), |clients| clients.map(Some))? })
}
