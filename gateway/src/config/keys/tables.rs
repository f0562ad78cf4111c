//! The table itself, one line per key: rustfmt would split each into six.

use super::Default::{Is, Needed, Nothing};
use super::Shape::{Named, Table, Tables};
use super::Takes::{
    Around, Bool, Bytes, Count, Duration, Elsewhere, Fuel, Layers, List, Mounts, Origin, Parts, Rate, Reference, Space,
    Text, Word, Words,
};
use super::{Default, File, Key, Section, Takes};
use crate::config::files::defaults;
use crate::config::files::front::FIELDS_MAX;
use crate::config::reader::units;
use crate::ids::{NAME_RULE, STORE_RULE};
use crate::store::SHARDS_MAX;

const ANY: Takes = Count(1, u32::MAX);
const NONE_OR_MORE: Takes = Count(0, u32::MAX);
const PATH: Takes = Text("a path, relative to this file");

const fn key(name: &'static str, takes: Takes, default: Default, says: &'static str) -> Key {
    Key { name, takes, default, says }
}

const fn section(name: &'static str, says: &'static str, keys: &'static [Key]) -> Section {
    Section { name, shape: Table, says, keys }
}

macro_rules! text {
    ($value:expr) => {
        Is(|| format!("{:?}", $value))
    };
}
macro_rules! plain {
    ($value:expr) => {
        Is(|| $value.to_string())
    };
}
macro_rules! time {
    ($value:expr) => {
        Is(|| format!("{:?}", units::duration_text($value)))
    };
}
macro_rules! bytes {
    ($value:expr) => {
        Is(|| format!("{:?}", units::bytes_text($value)))
    };
}

const SCHEMA: Key = key("schema", Count(1, 1), Needed, "The version of this file format.");

#[rustfmt::skip]
pub(super) const GATEWAY: File = File {
    name: "gateway",
    says: "The machine's file, `config/gateway.toml`. Command line flags override `TOLLGATE_*` variables, and these override the file. \
           A change takes effect at the next start; `tollgate serve --takeover` restarts without refusing a request.",
    sections: &[
        section("", "", &[
            SCHEMA,
            key("state", PATH, text!(defaults::STATE), "The folder for everything that must outlive a restart: the embedded store, compiled components, the development CA, logs."),
        ]),
        section("listen", "Addresses on which the gateway listens.", &[
            key("https", List("an address with a port"), Is(|| format!("[{:?}]", defaults::HTTPS)), "Addresses on which the gateway serves tenants."),
            key("http", List("an address with a port"), Is(|| format!("[{:?}]", defaults::HTTP)), "Addresses on which the gateway only redirects to HTTPS, with 308."),
            key("admin", Text("an address with a port"), text!(defaults::ADMIN), "Address of the operators' API and dashboard. Never make it public."),
            key("public_https", Count(1, 65_535), Nothing, "The port at which clients reach `https`, for redirects and `Alt-Svc`, if a container or a load balancer maps ports. If you omit it, the gateway uses the port of the first address."),
            key("quic", Bool, plain!(defaults::QUIC), "Whether HTTP/3 is served as well, on the addresses and ports of `https`."),
            key("connections", ANY, plain!(defaults::CONNECTIONS), "Maximum number of open client connections. Above it, the gateway closes each new connection at once."),
            key("connections_per_address", ANY, Is(|| defaults::CONNECTIONS.div_ceil(2).to_string()), "Maximum number of open connections of one client address. Above it, the gateway closes each new connection of that address. An IPv6 client counts with its whole /64. If you omit it, it is half of `connections`."),
            key("proxy_protocol_from", List("a network or an address"), Is(|| "[]".to_owned()), "Load balancers that must send the PROXY protocol (version 1 or 2). Nobody else may send it."),
            key("health", Text("a path"), Nothing, "Path of the health check. The gateway answers it on the clients' listeners, for hosts that no tenant has and for requests without `Host`: with 200, or with 503 while it loads or is about to drain."),
            key("unhealthy", Duration, Nothing, "How long health checks fail before a drain begins. Requests are still served during this time. If you omit it, it is 5s with `health`, and zero without."),
            key("drain", Duration, time!(defaults::DRAIN), "How long the gateway waits after SIGTERM for requests in flight. Then it aborts them."),
        ]),
        section("admin", "Access to the operators' listener. If you omit this section, everyone who can read `admin.token` in the state folder has full access.", &[
            key("token", Elsewhere, Nothing, "Token with full access, at least 32 bytes. It replaces the token in the state folder."),
            key("read_token", Elsewhere, Nothing, "Token with read access and no access to tenants' data, for example for Prometheus or a wall display."),
            key("socket", PATH, Nothing, "A Unix socket that serves the same API. Only the gateway's own user may open it. If it is set, `tollgate` commands use it."),
        ]),
        section("tls", "Certificates for TLS.", &[
            key("roots", PATH, Nothing, "PEM root certificates that tenants' clients trust beside the public ones. Certificates issued by these CAs cause no warning."),
            key("default_cert", PATH, Nothing, "PEM certificate chain for server names that no tenant has, and for clients that send no server name. Needs `default_key`. If you omit it, the gateway uses a certificate of the development CA for `localhost`."),
            key("default_key", PATH, Nothing, "PEM private key of `default_cert`."),
            key("certificates", Word(&["dev", "files", "acme"]), Is(|| "\"dev\"".to_owned()), "Where tenants' certificates come from. `\"dev\"`: a local CA, which is created on the first run. `\"files\"`: `[tls]` in each tenant's file. `\"acme\"`: a CA, by ACME."),
        ]),
        section("tls.acme", "The CA for `certificates = \"acme\"`. It issues certificates for tenants that have no certificate files.", &[
            key("agree_to_terms", Bool, Needed, "Whether you agree to the CA's terms of service."),
            key("directory", Text("an https URL"), Is(|| "\"https://acme-v02.api.letsencrypt.org/directory\"".to_owned()), "URL of the CA's ACME directory."),
            key("contacts", List("mailto:ADDRESS"), Is(|| "[]".to_owned()), "Addresses to which the CA sends notices."),
            key("challenges", Words(&["tls-alpn-01", "http-01"]), Is(|| "[\"tls-alpn-01\", \"http-01\"]".to_owned()), "Challenge types that the gateway tries, in this order."),
            key("eab_kid", Text("a name"), Nothing, "Identifier of your account at the CA (external account binding). Needs `eab_key`."),
            key("eab_key", Elsewhere, Nothing, "The MAC key that the CA issued for `eab_kid`, in base64url."),
            key("ca", PATH, Nothing, "PEM root certificates to trust for connections to the directory."),
        ]),
        section("tenants", "The tenants' folders.", &[
            key("dir", PATH, text!(defaults::TENANTS), "The folder that holds one folder for each tenant, each with a `tenant.toml`."),
            key("watch", Bool, Is(|| "true".to_owned()), "Whether the gateway reloads changed files there by itself. SIGHUP reloads all files in any case."),
        ]),
        Section { name: "registry", shape: Tables, says: "A server from which the gateway may fetch components that a tenant names by digest. You can have several.", keys: &[
            key("url", Text("scheme, host and port"), Needed, "Address of the image registry, or of the web server."),
            key("user", Text("a name"), Nothing, "User name, if the registry requires one."),
            key("password", Reference, Nothing, "Password of `user`."),
        ] },
        section("gateway", "What applies to the requests of every tenant.", &[
            key("middleware", Layers, Nothing, "Components that wrap every component that answers HTTP, the outermost first (docs/composing.md)."),
        ]),
        section("storage", "The backend that stores tenants' data.", &[
            key("backend", Word(&["embedded", "redis", "redis-sentinel", "redis-cluster"]), Is(|| "\"embedded\"".to_owned()), "The storage backend."),
            key("url", Reference, Nothing, "URL of Redis; separate several URLs by commas. The three Redis backends require it."),
            key("primary", Text("a name"), text!(defaults::SENTINEL_PRIMARY), "Name of the primary, as the sentinels know it."),
            key("path", PATH, Is(|| "\"../state/store\"".to_owned()), "Folder of the embedded store."),
            key("prefix", Text("1 to 32 letters, digits, -, _ or ."), Is(|| format!("{:?}", crate::store::Prefix::default().as_str())), "First part of every key in the backend."),
            key("timeout", Duration, time!(defaults::STORAGE_TIMEOUT), "Maximum duration of one call to the backend. A call that takes longer fails."),
            key("tenant_users", Elsewhere, Nothing, "A secret from which each tenant's Redis password is derived. With it, the gateway accesses each tenant's data as that tenant's own Redis user (`tollgate redis acl`)."),
            key("share_rates", Bool, plain!(defaults::SHARE_RATES), "Whether all gateways on one Redis enforce tenants' rates together. If false, each gateway enforces them by itself."),
        ]),
        section("storage.tls", "TLS for `rediss://` URLs.", &[
            key("ca", PATH, Nothing, "PEM root certificates to trust."),
            key("cert", PATH, Nothing, "PEM client certificate of the gateway. Needs `key`."),
            key("key", PATH, Nothing, "PEM private key of `cert`."),
        ]),
        section("sandbox", "How components run, and compile.", &[
            key("instances", ANY, plain!(defaults::INSTANCES), "Maximum number of running instances. Each reserves 18 GiB of address space, so that about 5,000 fit."),
            key("memory", Bytes, bytes!(defaults::MEMORY), "Maximum memory of all instances together. An instance that grows beyond it fails with 503 (`overload`)."),
            key("fair_turns", Bool, plain!(defaults::FAIR_TURNS), "If false, instances run in order of arrival, not in turns by tenant. For comparisons only."),
            key("metering", Bool, plain!(defaults::METERING), "If false, there is no fuel, no turns and no fuel quotas. To measure their cost only."),
            key("waiting", ANY, plain!(defaults::WAITING), "Maximum number of requests that wait for an instance. If the queue is full, the tenant with the most waiting requests loses its newest one, with 503 (`overload`)."),
            key("wait", Duration, time!(defaults::WAIT), "Maximum time that a request waits for an instance. Then it gets 503 (`overload`)."),
            key("compiled", PATH, Is(|| "\"../state/compiled\"".to_owned()), "Folder for compiled components (native code). Only the gateway's own user may have write access."),
            key("cache", Bytes, bytes!(defaults::CACHE), "Maximum size of the compiled code in memory. Above it, the code that was not used for longest is evicted."),
            key("cache_idle", Duration, time!(defaults::CACHE_IDLE), "Idle timeout after which compiled code is evicted from memory."),
            key("compile_memory", Bytes, bytes!(defaults::COMPILE_MEMORY), "Maximum memory for compiling one component. Compiling fails above it."),
            key("compile_time", Duration, time!(defaults::COMPILE_TIME), "Maximum processor time for compiling one component. Compiling fails above it. Time in which a busy machine runs something else does not count."),
            key("confine", Bool, plain!(defaults::CONFINE), "Whether the gateway and its compiler processes give up the kernel features that they do not need (docs/explanation/isolation.md)."),
            key("confine_read", List("a path, relative to this file"), Is(|| "[]".to_owned()), "More folders that the confined gateway may read, beside the folders of all files that the configuration names at the start."),
        ]),
        section("isolation", "How the gateway verifies that tenants are isolated from each other.", &[
            key("watch", Bool, plain!(defaults::WATCH_ISOLATION), "Whether the gateway tests the isolation of tenants with two tenants of its own, several times a minute. One leaves secrets wherever a component can, and the other looks for them. If it finds one, the gateway ends everything that runs and raises an alert."),
            key("slots", Word(&["scanned", "whole"]), Is(|| "\"scanned\"".to_owned()), "How the gateway clears an instance's memory and tables for the next instance. `\"scanned\"`: only what was written, as the kernel reports it. `\"whole\"`: everything, which makes each request slower. Where `\"scanned\"` is not safe, the gateway clears everything anyway (docs/explanation/isolation.md)."),
        ]),
        section("http", "Limits for clients.", &[
            key("head_time", Duration, time!(defaults::HEAD_TIME), "Maximum time for a request's head to arrive, from its first byte. A slower client gets 408."),
            key("handshake_time", Duration, time!(defaults::HANDSHAKE_TIME), "Maximum duration of a TLS handshake. Then the gateway closes the connection."),
            key("body_idle", Duration, time!(defaults::BODY_IDLE), "Maximum pause between two parts of a request's body, and the grace period for bodies slower than `rate_min`. A slower client gets 408."),
            key("idle", Duration, time!(defaults::IDLE), "Idle timeout of a connection without a request in flight."),
            key("write_stall", Duration, time!(defaults::WRITE_STALL), "Closes the connection if the client reads nothing, or too slowly, for this long."),
            key("rate_min", Bytes, bytes!(defaults::RATE_MIN), "Minimum average transfer rate in bytes per second, for request and response bodies, while the gateway waits for the client. A slower client is cut off after the grace period (`body_idle` or `write_stall`)."),
            key("head_bytes", Bytes, bytes!(defaults::HEAD_BYTES), "Maximum size of a request's head. A larger one gets 431."),
            key("fields", Count(1, FIELDS_MAX), plain!(defaults::FIELDS), "Maximum number of header fields of a request. A request with more gets 431. In HTTP/2 and HTTP/3, where clients may send each cookie in a field of its own, all cookies count as one field."),
            key("streams", ANY, plain!(defaults::STREAMS), "Maximum number of concurrent streams on one HTTP/2 or HTTP/3 connection."),
            key("requests_per_address", Rate(&ANY), Nothing, "Rate limit for the requests of one client address, to all tenants together. Requests above it get 429. An IPv6 client counts with its whole /64. If you omit it, there is no limit."),
            key("trusted_proxies", List("a network or an address"), Is(|| "[]".to_owned()), "Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` the gateway trusts."),
        ]),
        section("egress", "Limits for components' outbound requests. Each tenant's file grants the origins.", &[
            key("connect", Duration, time!(defaults::EGRESS_CONNECT), "Maximum time to resolve the name, connect and complete the TLS handshake. Then the request fails with `connection-timeout`."),
            key("idle", Duration, time!(defaults::EGRESS_IDLE), "Maximum time to wait for the response's head, and between two parts of its body. Then the request fails."),
            key("response", Bytes, bytes!(defaults::EGRESS_RESPONSE), "Maximum size of one response's body. Above it, the body fails with `HTTP-response-body-size`."),
            key("ca", PATH, Nothing, "PEM certificates to trust beside the public ones."),
            key("kept", NONE_OR_MORE, plain!(defaults::EGRESS_KEPT), "Maximum number of idle connections to origins that are kept for later requests, of all tenants together. With 0, each request opens a connection of its own."),
            key("kept_per_tenant", NONE_OR_MORE, plain!(defaults::EGRESS_KEPT_PER_TENANT), "Maximum number of idle connections of one tenant. Above it, the tenant's oldest one is closed."),
            key("kept_idle", Duration, time!(defaults::EGRESS_KEPT_IDLE), "Idle timeout of a kept connection."),
            key("kept_life", Duration, time!(defaults::EGRESS_KEPT_LIFE), "Maximum age of a connection. An older one takes no further request, even if it is busy."),
        ]),
        section("telemetry", "Logs and metrics of the gateway.", &[
            key("format", Word(&["json", "text"]), Is(|| "\"json\"".to_owned()), "Format of log lines on standard error."),
            key("log", Text("a filter"), text!(defaults::LOG), "Filter for log lines, in the syntax of the crate `tracing`, such as \"info,access=off\"."),
            key("metrics_tenants", ANY, plain!(defaults::METRICS_TENANTS), "Maximum number of tenants with series of their own in metrics. All further tenants share the label `+`."),
        ]),
        section("telemetry.access", "The access log.", &[
            key("to", Word(&["log", "stdout", "file", "tenants"]), Is(|| "\"log\"".to_owned()), "Destination of the access log: the gateway's log, standard output, one file, or one file for each tenant."),
            key("format", Text("a text with names of fields in braces"), Nothing, "Format of a line, such as `\"{method} {host}{path} {status} {duration_us}\"`. If you omit it, lines are JSON with all fields."),
            key("path", PATH, Nothing, "Path of the file (by default `state/access.log`), or of the folder of the tenants' files (by default `state/access`)."),
            key("file_bytes", Bytes, bytes!(defaults::ACCESS_FILE_BYTES), "Size at which the file is rotated."),
            key("files", ANY, plain!(defaults::ACCESS_FILES), "Number of rotated files to keep. The oldest one above it is deleted."),
            key("client", Bool, Is(|| "false".to_owned()), "Whether lines show the client's address, in every destination. A `format` with `{client}` has the same effect."),
            key("user_agent", Bool, Is(|| "false".to_owned()), "Whether lines show the client's `User-Agent`, in every destination. A `format` with `{user_agent}` has the same effect."),
        ]),
        section("telemetry.otlp", "The collector to which the gateway sends traces, metrics and logs (OTLP). If you omit this section, it sends nothing.", &[
            key("endpoint", Text("scheme, host and port"), Needed, "Address of the collector."),
            key("protocol", Word(&["grpc", "http/protobuf"]), Is(|| "\"grpc\"".to_owned()), "Protocol of the collector."),
            key("traces", Text("\"all\", \"none\" or \"10%\""), Is(|| format!("\"{}%\"", defaults::OTLP_TRACES_PER_MILLION / 10_000)), "Part of the requests that get traces. Use `\"all\"` if the collector samples."),
            key("follow_client", Bool, Is(|| "false".to_owned()), "Whether requests are always traced if the client's `traceparent` says that it sampled them."),
            key("metrics", Bool, Is(|| "true".to_owned()), "Whether the metrics of `/metrics` are sent."),
            key("logs", Bool, Is(|| "true".to_owned()), "Whether log lines are sent."),
            key("access_log", Bool, Is(|| "false".to_owned()), "Whether access records are sent as well (unless `telemetry.access` sends them elsewhere). This costs about a tenth of the requests per second."),
            key("interval", Duration, time!(defaults::OTLP_INTERVAL), "Time between two exports of metrics."),
            key("timeout", Duration, time!(defaults::OTLP_TIMEOUT), "Maximum duration of one export."),
            key("authorization", Elsewhere, Nothing, "Value of the `Authorization` header, such as `Bearer …`."),
        ]),
        section("defaults.limits", "Default limits of one request. They apply to tenants that do not set a value of their own.", LIMITS),
        section("defaults.quota", "Default quotas of a tenant as a whole. They apply to tenants that do not set a value of their own.", QUOTA),
        section("ceilings.limits", "The highest values that a tenant's file may set for one request. Values you omit have no ceiling.", LIMITS),
        section("ceilings.quota", "The highest values that a tenant's file may set for the tenant as a whole. Values you omit have no ceiling.", QUOTA),
    ],
};

#[rustfmt::skip]
const LIMITS: &[Key] = &[
    key("fuel", Fuel, Is(|| format!("{:?}", units::fuel_text(defaults::LIMITS.fuel))), "Maximum fuel of one request: about one unit for each WebAssembly instruction, plus the gateway's work for it (docs/hosts.md). Above it, the request fails with 502 (`fuel-exhausted`)."),
    key("memory", Bytes, bytes!(defaults::LIMITS.memory), "Maximum memory of one request: all linear memories and tables, and what the gateway keeps for the instance. Above it, the request fails with 502 (`memory-exhausted`)."),
    key("time", Duration, time!(defaults::LIMITS.time), "Maximum duration of one request, from the start of the instance to the last byte of the response. Then it fails with 504 (`deadline`)."),
    key("request_body", Bytes, bytes!(defaults::LIMITS.request_body), "Maximum size of the request's body. A larger one gets 413."),
    key("response_head", Bytes, bytes!(defaults::LIMITS.response_head), "Maximum size of the response's head. With a larger one, the request fails with 502 (`bad-response`)."),
    key("storage_ops", ANY, plain!(defaults::LIMITS.storage_ops), "Maximum number of keys that one request reads or writes. Above it, the call fails with `quota-exceeded`."),
    key("outbound", ANY, plain!(defaults::LIMITS.outbound), "Maximum number of outbound requests that one request sends. Further ones fail with `connection-limit-reached`."),
];

#[rustfmt::skip]
const QUOTA: &[Key] = &[
    key("weight", ANY, plain!(defaults::QUOTA.weight), "The tenant's share of processors and instances, relative to other tenants, when they are short."),
    key("in_flight", ANY, plain!(defaults::QUOTA.in_flight), "Maximum number of requests in flight, including those that wait for an instance. As many instances again may continue after their response is complete. Above it, requests wait (`waiting`)."),
    key("connections", ANY, plain!(defaults::QUOTA.connections), "Maximum number of open connections for the tenant's hosts. Above it, the gateway closes each new one during the TLS handshake."),
    key("waiting", NONE_OR_MORE, plain!(defaults::QUOTA.waiting), "Maximum number of requests that wait for a place within `in_flight`, and also of requests that wait for an instance. Each waits for at most `sandbox.wait`. Requests above it get 429. With 0, no request waits."),
    key("memory", Bytes, bytes!(defaults::QUOTA.memory), "Maximum memory of all the tenant's instances together, and of the compression of its responses. Requests that need more wait or get 429 (`quota-memory`)."),
    key("requests", Rate(&ANY), Nothing, "Rate limit for requests. Requests above it get 429. If you omit it, there is no limit."),
    key("requests_per_address", Rate(&ANY), Nothing, "Rate limit for the requests of one client address to this tenant. Requests above it get 429. An IPv6 client counts with its whole /64. Each gateway counts by itself."),
    key("fuel_per_second", Fuel, Nothing, "Rate limit for fuel. A request that burns more leaves a debt, and the next requests get 429 until the debt is paid."),
    key("fuel_burst", Fuel, Nothing, "Burst of `fuel_per_second`. If you omit it, it is the fuel of two seconds."),
    key("body_bytes", Rate(&Bytes), Nothing, "Rate limit for bytes of request and response bodies. Requests above it get 429."),
    key("storage_ops", Rate(&ANY), Nothing, "Rate limit for keys that are read or written. Calls above it fail with `quota-exceeded`."),
    key("storage", Space, Nothing, "Maximum size and number of keys that the tenant has in the store. Writes above it fail with `quota-exceeded`; deletes are always allowed."),
    key("cache", Bytes, Nothing, "Maximum size of the tenant's kept responses, which are those that allow it by their headers. If you omit it, no response is kept."),
    key("shards", Count(1, SHARDS_MAX), plain!(defaults::QUOTA.shards), "Number of slots of a Redis Cluster over which the tenant's data is spread."),
    key("storage_bytes", Rate(&Bytes), Nothing, "Rate limit for bytes of keys and values that are read or written. Calls above it fail with `quota-exceeded`."),
    key("outbound", Rate(&ANY), Nothing, "Rate limit for outbound requests. Requests above it fail."),
    key("outbound_in_flight", ANY, plain!(defaults::QUOTA.outbound_in_flight), "Maximum number of outbound requests at once. Further ones wait (`outbound_waiting`)."),
    key("outbound_waiting", NONE_OR_MORE, plain!(defaults::QUOTA.outbound_waiting), "Maximum number of outbound requests that wait until another one ends. Further ones fail with `connection-limit-reached`. With 0, no request waits."),
    key("messages_at_once", ANY, plain!(defaults::QUOTA.messages_at_once), "Maximum number of messages of one channel that are handled at once. With 1, messages are handled in order."),
    key("log_bytes", Rate(&Bytes), Is(|| "{ rate = \"1MiB\", per = \"1s\", burst = \"8MiB\" }".to_owned()), "Rate limit for what the tenant's components print. Lines above it are dropped."),
];

#[rustfmt::skip]
pub(super) const TENANT: File = File {
    name: "tenant",
    says: "A tenant's file, `tenants/ID/tenant.toml`. The name of the folder is the tenant's identity. The gateway reloads the file when it \
           changes.",
    sections: &[
        section("", "", &[
            SCHEMA,
            key("hosts", List("a host name, or `*.` and a host name"), Needed, "Host names that the tenant serves, and wildcards of one label. Case, a trailing dot and the form of international names do not matter. An exact name wins over a wildcard."),
            key("enabled", Bool, Is(|| "true".to_owned()), "If false, the tenant is suspended: requests get 503, and what runs is ended."),
            key("compress", Words(&["zstd", "br", "gzip"]), Is(|| "[]".to_owned()), "Encodings for compressing the tenant's text responses, the preferred one first."),
            key("app", Text("a path, relative to this file"), Nothing, "A Spin manifest, of version 1 or 2. It replaces `[[component]]`, `[[route]]` and `[[subscription]]`."),
            key("app_profile", Text("a name"), Nothing, "Name of the manifest's profile (`[component.ID.profile.NAME]`) to use."),
        ]),
        section("tls", "The tenant's certificate. `tls.certificates = \"files\"` in the gateway's file requires it.", &[
            key("cert", PATH, Nothing, "PEM certificate chain, the leaf first. Needs `key`. You may omit both if there is only `[tls.clients]`."),
            key("key", PATH, Nothing, "PEM private key of `cert`."),
            key("other_cert", PATH, Nothing, "PEM certificate chain with another kind of key (such as RSA beside ECDSA), for clients that do not support the first. Needs `other_key`."),
            key("other_key", PATH, Nothing, "PEM private key of `other_cert`."),
        ]),
        section("tls.clients", "Client certificates.", &[
            key("ca", PATH, Needed, "PEM certificates of the CAs that issue the clients' certificates."),
            key("revoked", PATH, Nothing, "Lists of revoked certificates (CRLs), one for each issuer."),
            key("required", Bool, Is(|| "true".to_owned()), "If false, clients without a certificate are allowed in and are anonymous."),
        ]),
        section("limits", "Limits of one request, together with all requests that it sends to its own tenant. Values you omit use the gateway's `[defaults.limits]`.", LIMITS),
        section("quota", "Quotas of the tenant as a whole. Values you omit use the gateway's `[defaults.quota]`.", QUOTA),
        Section { name: "env", shape: Named, says: "Environment variables of the components.", keys: &[
            key("NAME", Text("a text"), Nothing, "Value of the variable."),
        ] },
        Section { name: "secrets", shape: Named, says: "Environment variables whose values come from files, so that this file holds no secret.", keys: &[
            key("NAME", Elsewhere, Nothing, "Source of the value, such as `{ file = \"path\" }`."),
        ] },
        Section { name: "variables", shape: Named, says: "Variables that components can read by name.", keys: &[
            key("NAME", Reference, Nothing, "Value, or its source, such as `{ file = \"path\" }`."),
        ] },
        section("egress", "Outbound requests. With `app`, these grants apply to all components, in addition to those of the manifest.", &[
            key("allow", List("an origin, such as https://api.example.org"), Is(|| "[]".to_owned()), "Origins to which components may send requests, such as `https://*.example.org` or `http://10.0.0.5:8080`."),
        ]),
        Section { name: "store_ttl", shape: Named, says: "Lifetime of values, for each store. Values in other stores do not expire.", keys: &[
            key("NAME", Duration, Nothing, "Lifetime of the values in the store of this name."),
        ] },
        Section { name: "component", shape: Tables, says: "A component of the tenant.", keys: &[
            key("name", Text(NAME_RULE), Needed, "Name of the component, for routes and subscriptions."),
            key("source", Origin, Needed, "Where the component comes from: a `.wasm` file, an image, or a URL with its digest."),
            key("reuse", ANY, Is(|| "1".to_owned()), "Maximum number of requests that one instance answers, one after the other. Values above 1 work with wasi:http 0.3 only."),
            key("handler", Word(&["0.2", "0.3"]), Nothing, "Version of wasi:http by which the component is called, if it exports both. By default 0.2."),
            key("stores", List(STORE_RULE), Is(|| "[]".to_owned()), "Key-value stores that the component may open."),
            key("redis", List("an address"), Is(|| "[]".to_owned()), "Addresses that the component may open with `fermyon:spin/redis`, as the component writes them. Every address leads to the tenant's own keys."),
            key("files", Mounts, Is(|| "[]".to_owned()), "Files that the component may read, below `/`."),
            key("exclude_files", List("a pattern"), Is(|| "[]".to_owned()), "Patterns of files to leave out of `files`."),
            key("dependencies", Parts, Nothing, "Components that provide imports of this component (docs/composing.md)."),
            key("dependencies_inherit_configuration", Bool, Is(|| "false".to_owned()), "If true, each dependency has all permissions and values of this component."),
            key("middleware", Around, Nothing, "Components that wrap this component's HTTP handler, the outermost first."),
        ] },
        Section { name: "route", shape: Tables, says: "A route from a path to a component. The most specific route wins.", keys: &[
            key("path", Text("/exact, /users/:id or /files/..."), Needed, "Path, or pattern of paths, that the route matches."),
            key("component", Text(NAME_RULE), Needed, "Name of the component that answers."),
        ] },
        section("route.limits", "Limits of requests on this route only.", LIMITS),
        Section { name: "subscription", shape: Tables, says: "A channel whose messages start a component.", keys: &[
            key("channel", Text("1 to 1024 bytes"), Needed, "Name of the channel, which belongs to the tenant."),
            key("component", Text(NAME_RULE), Needed, "Name of the component that handles the messages."),
            key("delivery", Word(&["all", "once"]), Is(|| "\"all\"".to_owned()), "`\"all\"`: every gateway handles each message. `\"once\"`: a message is kept until one gateway has handled it (on Redis)."),
        ] },
    ],
};
