//! The table itself, one line a key: rustfmt would make six of each.

use super::Default::{Is, Needed, Nothing};
use super::Shape::{Named, Table, Tables};
use super::Takes::{
    Around, Bool, Bytes, Count, Duration, Elsewhere, Fuel, Layers, List, Mounts, Origin, Parts, Rate, Reference, Space,
    Text, Word, Words,
};
use super::{Default, File, Key, Section, Takes};
use crate::config::front_file::FIELDS_MAX;
use crate::config::{defaults, units};
use crate::ids::{NAME_RULE, STORE_RULE};
use crate::store::SHARDS_MAX;

const ANY: Takes = Count(1, u32::MAX);
const NONE_OR_MORE: Takes = Count(0, u32::MAX);
const PATH: Takes = Text("a path, from this file's folder");

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

const SCHEMA: Key = key("schema", Count(1, 1), Needed, "the version of this format");

#[rustfmt::skip]
pub(super) const GATEWAY: File = File {
    name: "gateway",
    says: "The machine's file, `config/gateway.toml`. Flags win over `TOLLGATE_*` variables, those over the file. It takes a \
           restart (`tollgate serve --takeover` refuses nobody).",
    sections: &[
        section("", "", &[
            SCHEMA,
            key("state", PATH, text!(defaults::STATE), "what is kept: the embedded store, compiled components, the development CA, logs"),
        ]),
        section("listen", "Addresses.", &[
            key("https", List("an address and a port"), Is(|| format!("[{:?}]", defaults::HTTPS)), "where tenants are served"),
            key("http", List("an address and a port"), Is(|| format!("[{:?}]", defaults::HTTP)), "which only redirects, with 308"),
            key("admin", Text("an address and a port"), text!(defaults::ADMIN), "the operators' API and dashboard; never public"),
            key("public_https", Count(1, 65_535), Nothing, "the port at which clients reach `https`, for redirects and `Alt-Svc`, where something between maps ports; else the port of the first address"),
            key("quic", Bool, plain!(defaults::QUIC), "HTTP/3 too, on the addresses and ports of `https`"),
            key("connections", ANY, plain!(defaults::CONNECTIONS), "open at once; the next one is closed"),
            key("connections_per_address", ANY, Is(|| defaults::CONNECTIONS.div_ceil(2).to_string()), "of one client's address, an IPv6 client having its /64; half of all where it is not said"),
            key("proxy_protocol_from", List("a network or an address"), Is(|| "[]".to_owned()), "load balancers that must speak the PROXY protocol (1 or 2); nobody else may"),
            key("health", Text("a path"), Nothing, "answered on the clients' listeners for hosts that no tenant has and for requests without `Host`: 200, or 503 while it loads or is about to drain"),
            key("unhealthy", Duration, Nothing, "how long health checks fail before a drain begins, while everybody is still served; 5s where `health` is said, else not at all"),
            key("drain", Duration, time!(defaults::DRAIN), "how long SIGTERM waits for what is in flight"),
        ]),
        section("admin", "Who may come to the operators' listener. Without a word of it, whoever can read `admin.token` in the state folder.", &[
            key("token", Elsewhere, Nothing, "of who may do all, in the place of the one in the state folder; 32 bytes at least"),
            key("read_token", Elsewhere, Nothing, "of who may look, change nothing, and see no tenant's data: for Prometheus, for a screen on the wall"),
            key("socket", PATH, Nothing, "a Unix socket that serves the same, for its own user alone; `tollgate` uses it where it is said"),
        ]),
        section("tls", "Where certificates come from.", &[
            key("roots", PATH, Nothing, "PEM roots that tenants' clients have beside the public ones, so that certificates of these CAs are not warned of"),
            key("default_cert", PATH, Nothing, "a PEM chain for names that nobody has and clients that name nobody, with `default_key`; without it, one of the development CA's that names `localhost`"),
            key("default_key", PATH, Nothing, "of `default_cert`"),
            key("certificates", Word(&["dev", "files", "acme"]), Is(|| "\"dev\"".to_owned()), "a local CA made on the first run; `[tls]` of each tenant's file; a CA's, by ACME"),
        ]),
        section("tls.acme", "With `certificates = \"acme\"`, for tenants without files.", &[
            key("agree_to_terms", Bool, Needed, "to the CA's terms of service"),
            key("directory", Text("an https URL"), Is(|| "\"https://acme-v02.api.letsencrypt.org/directory\"".to_owned()), "of the CA"),
            key("contacts", List("mailto:ADDRESS"), Is(|| "[]".to_owned()), "whom the CA writes to"),
            key("challenges", Words(&["tls-alpn-01", "http-01"]), Is(|| "[\"tls-alpn-01\", \"http-01\"]".to_owned()), "tried in turn"),
            key("eab_kid", Text("a name"), Nothing, "by which the CA knows the account (external account binding), with `eab_key`"),
            key("eab_key", Elsewhere, Nothing, "the MAC key that the CA gave for it, in base64url"),
            key("ca", PATH, Nothing, "PEM roots to trust for the directory"),
        ]),
        section("tenants", "Where the tenants' folders are.", &[
            key("dir", PATH, text!(defaults::TENANTS), "one folder a tenant, each with a `tenant.toml`"),
            key("watch", Bool, Is(|| "true".to_owned()), "load by itself what changes there; SIGHUP loads all"),
        ]),
        Section { name: "registry", shape: Tables, says: "From where components that are named by digest may be fetched.", keys: &[
            key("url", Text("scheme, host and port"), Needed, "of a registry of images, or of a server"),
            key("user", Text("a name"), Nothing, "where it asks for one"),
            key("password", Reference, Nothing, "beside `user`"),
        ] },
        section("gateway", "What stands before every tenant.", &[
            key("middleware", Layers, Nothing, "around every component that answers HTTP, from the outermost on (docs/composing.md)"),
        ]),
        section("storage", "Where tenants' data is.", &[
            key("backend", Word(&["embedded", "redis", "redis-sentinel", "redis-cluster"]), Is(|| "\"embedded\"".to_owned()), "what keeps it"),
            key("url", Reference, Nothing, "of Redis, several with commas between; needed for it"),
            key("primary", Text("a name"), text!(defaults::SENTINEL_PRIMARY), "what the sentinels call it"),
            key("path", PATH, Is(|| "\"../state/store\"".to_owned()), "of the embedded backend"),
            key("prefix", Text("1 to 32 letters, digits, -, _ or ."), Is(|| format!("{:?}", crate::store::Prefix::default().as_str())), "what every key begins with"),
            key("timeout", Duration, time!(defaults::STORAGE_TIMEOUT), "by when one call must have answered"),
            key("tenant_users", Elsewhere, Nothing, "a secret; each tenant asks Redis as a user of its own (`tollgate redis acl`)"),
            key("share_rates", Bool, plain!(defaults::SHARE_RATES), "tenants' rates hold for all gateways on one Redis together"),
        ]),
        section("storage.tls", "For `rediss://`.", &[
            key("ca", PATH, Nothing, "PEM roots to trust"),
            key("cert", PATH, Nothing, "who we are there, with `key`"),
            key("key", PATH, Nothing, "of `cert`"),
        ]),
        section("sandbox", "Where guests run.", &[
            key("instances", ANY, plain!(defaults::INSTANCES), "running at once; each reserves 18 GiB of address space, so some 5,000 fit"),
            key("memory", Bytes, bytes!(defaults::MEMORY), "of all guests together; one that asks for more gets 503"),
            key("fair_turns", Bool, plain!(defaults::FAIR_TURNS), "false: guests run in order of arrival, to compare with"),
            key("metering", Bool, plain!(defaults::METERING), "false: no fuel, no turns, no fuel quotas, to measure what they cost"),
            key("waiting", ANY, plain!(defaults::WAITING), "requests that may wait for an instance"),
            key("wait", Duration, time!(defaults::WAIT), "for how long, before 503"),
            key("compiled", PATH, Is(|| "\"../state/compiled\"".to_owned()), "native code; must be writable by this user only"),
            key("cache", Bytes, bytes!(defaults::CACHE), "of compiled code that stays mapped"),
            key("cache_idle", Duration, time!(defaults::CACHE_IDLE), "after which it is let go"),
            key("compile_memory", Bytes, bytes!(defaults::COMPILE_MEMORY), "what compiling one component may take"),
            key("compile_time", Duration, time!(defaults::COMPILE_TIME), "the same in processor time, which a busy machine does not use up"),
            key("confine", Bool, plain!(defaults::CONFINE), "the gateway and its compiling children give up what they do not need of the kernel (docs/explanation/isolation.md); false: they keep it"),
            key("confine_read", List("a path, from this file's folder"), Is(|| "[]".to_owned()), "folders that the gateway may read then beside what its files name when it starts"),
        ]),
        section("isolation", "Whether what keeps tenants apart does so, which the gateway looks at from time to time.", &[
            key("watch", Bool, plain!(defaults::WATCH_ISOLATION), "a pair of the gateway's own tenants, a few times a minute: one leaves secrets wherever a guest can, the other looks for them; what it finds ends everything that runs, and is alarmed"),
            key("slots", Word(&["scanned", "whole"]), Is(|| "\"scanned\"".to_owned()), "how an instance's memory and tables are put back for the next one: what the kernel says was written, or all of it, which costs each request and is done anyway where the former is not safe (docs/explanation/isolation.md)"),
        ]),
        section("http", "What a client may take.", &[
            key("head_time", Duration, time!(defaults::HEAD_TIME), "for a request's head, from its first byte"),
            key("handshake_time", Duration, time!(defaults::HANDSHAKE_TIME), "for TLS"),
            key("body_idle", Duration, time!(defaults::BODY_IDLE), "between two pieces of a request's body, or for too little of it"),
            key("idle", Duration, time!(defaults::IDLE), "without a request"),
            key("write_stall", Duration, time!(defaults::WRITE_STALL), "in which a client takes nothing, or too little"),
            key("rate_min", Bytes, bytes!(defaults::RATE_MIN), "what a client must give of a body, or take, a second on the whole, while it is waited for"),
            key("head_bytes", Bytes, bytes!(defaults::HEAD_BYTES), "of a request's head"),
            key("fields", Count(1, FIELDS_MAX), plain!(defaults::FIELDS), "header fields of a request; with HTTP/2 and 3, whose clients may send each cookie apart, all cookies are one"),
            key("streams", ANY, plain!(defaults::STREAMS), "of one connection of HTTP/2 or HTTP/3"),
            key("requests_per_address", Rate(&ANY), Nothing, "requests of one client's address for all tenants together, an IPv6 client having its /64; not bounded where nothing is said"),
            key("trusted_proxies", List("a network or an address"), Is(|| "[]".to_owned()), "whose X-Forwarded-For and X-Forwarded-Proto are believed"),
        ]),
        section("egress", "What guests' own requests may take; each tenant's file grants where to.", &[
            key("connect", Duration, time!(defaults::EGRESS_CONNECT), "to resolve a name, connect and shake hands"),
            key("idle", Duration, time!(defaults::EGRESS_IDLE), "for a response's head, and between two pieces of its body"),
            key("response", Bytes, bytes!(defaults::EGRESS_RESPONSE), "of one response's body"),
            key("ca", PATH, Nothing, "PEM certificates to trust beside the public ones"),
            key("kept", NONE_OR_MORE, plain!(defaults::EGRESS_KEPT), "connections to origins that wait for another request, of all tenants; with 0 each request has a connection of its own"),
            key("kept_per_tenant", NONE_OR_MORE, plain!(defaults::EGRESS_KEPT_PER_TENANT), "of one tenant; its oldest goes first"),
            key("kept_idle", Duration, time!(defaults::EGRESS_KEPT_IDLE), "after which one that waits is closed"),
            key("kept_life", Duration, time!(defaults::EGRESS_KEPT_LIFE), "after which one takes no more requests, however busy it is"),
        ]),
        section("telemetry", "What the gateway says about itself.", &[
            key("format", Word(&["json", "text"]), Is(|| "\"json\"".to_owned()), "of log lines on standard error"),
            key("log", Text("a filter"), text!(defaults::LOG), "in `tracing`'s words, such as \"info,access=off\""),
            key("metrics_tenants", ANY, plain!(defaults::METRICS_TENANTS), "so many tenants have series of their own in metrics; the others share the label `+`"),
        ]),
        section("telemetry.access", "Where the access log goes.", &[
            key("to", Word(&["log", "stdout", "file", "tenants"]), Is(|| "\"log\"".to_owned()), "with the other lines, to standard output, to one file, or to a file a tenant"),
            key("format", Text("a text with names of fields in braces"), Nothing, "such as `\"{method} {host}{path} {status} {duration_us}\"`; JSON with all fields where nothing is said"),
            key("path", PATH, Nothing, "of the file (`state/access.log` where nothing is said), or of the tenants' folder (`state/access`)"),
            key("file_bytes", Bytes, bytes!(defaults::ACCESS_FILE_BYTES), "at which the file is set aside"),
            key("files", ANY, plain!(defaults::ACCESS_FILES), "of those, so many are kept"),
            key("client", Bool, Is(|| "false".to_owned()), "show the client's address, wherever the lines go; a `format` that names `{client}` asks for it too"),
            key("user_agent", Bool, Is(|| "false".to_owned()), "show what the client calls itself; a `format` that names `{user_agent}` asks for it too"),
        ]),
        section("telemetry.otlp", "Where traces, metrics and logs are sent (OTLP); nowhere where this section is not.", &[
            key("endpoint", Text("scheme, host and port"), Needed, "of the collector"),
            key("protocol", Word(&["grpc", "http/protobuf"]), Is(|| "\"grpc\"".to_owned()), "by which it is asked"),
            key("traces", Text("\"all\", \"none\" or \"10%\""), Is(|| format!("\"{}%\"", defaults::OTLP_TRACES_PER_MILLION / 10_000)), "which part of the requests has spans; all, where the collector chooses"),
            key("follow_client", Bool, Is(|| "false".to_owned()), "trace whatever a client's `traceparent` says is sampled"),
            key("metrics", Bool, Is(|| "true".to_owned()), "send those of /metrics"),
            key("logs", Bool, Is(|| "true".to_owned()), "send log lines"),
            key("access_log", Bool, Is(|| "false".to_owned()), "those of the access log too (not where `telemetry.access` sends them elsewhere): a tenth fewer requests a second"),
            key("interval", Duration, time!(defaults::OTLP_INTERVAL), "between two readings of metrics"),
            key("timeout", Duration, time!(defaults::OTLP_TIMEOUT), "for one delivery"),
            key("authorization", Elsewhere, Nothing, "the value of the header, such as `Bearer …`"),
        ]),
        section("defaults.limits", "For tenants that say nothing of it: of any one request.", LIMITS),
        section("defaults.quota", "The same: of a tenant as a whole.", QUOTA),
        section("ceilings.limits", "What a tenant's file may say at most; what is not here is not bounded.", LIMITS),
        section("ceilings.quota", "The same: of a tenant as a whole.", QUOTA),
    ],
};

#[rustfmt::skip]
const LIMITS: &[Key] = &[
    key("fuel", Fuel, Is(|| format!("{:?}", units::fuel_text(defaults::LIMITS.fuel))), "about one a wasm instruction, and the host's work by the table in docs/hosts.md"),
    key("memory", Bytes, bytes!(defaults::LIMITS.memory), "all linear memories and tables, and what the gateway keeps for it, together"),
    key("time", Duration, time!(defaults::LIMITS.time), "from instantiation to the last byte"),
    key("request_body", Bytes, bytes!(defaults::LIMITS.request_body), "of the client's"),
    key("response_head", Bytes, bytes!(defaults::LIMITS.response_head), "of the response's header section"),
    key("storage_ops", ANY, plain!(defaults::LIMITS.storage_ops), "keys read or written"),
    key("outbound", ANY, plain!(defaults::LIMITS.outbound), "requests that it sends"),
];

#[rustfmt::skip]
const QUOTA: &[Key] = &[
    key("weight", ANY, plain!(defaults::QUOTA.weight), "its share of processors and instances when they are short"),
    key("in_flight", ANY, plain!(defaults::QUOTA.in_flight), "requests answered at once, those included that wait for an instance; as many guests may work on after their response is out"),
    key("connections", ANY, plain!(defaults::QUOTA.connections), "open connections that asked for one of its hosts"),
    key("waiting", NONE_OR_MORE, plain!(defaults::QUOTA.waiting), "requests that wait, each for `sandbox.wait`, for a place among `in_flight`, and as many for an instance; with 0 they are refused at once"),
    key("memory", Bytes, bytes!(defaults::QUOTA.memory), "of all its instances together, and of what compresses its responses"),
    key("requests", Rate(&ANY), Nothing, "requests; not bounded where nothing is said"),
    key("requests_per_address", Rate(&ANY), Nothing, "the same of one client's address, an IPv6 client having its /64; each gateway counts for itself"),
    key("fuel_per_second", Fuel, Nothing, "what its requests may burn; more is owed, and paid before the next one is let in"),
    key("fuel_burst", Fuel, Nothing, "of fuel at once; two seconds' worth where it is not said"),
    key("body_bytes", Rate(&Bytes), Nothing, "bytes of bodies, in and out"),
    key("storage_ops", Rate(&ANY), Nothing, "keys read or written"),
    key("storage", Space, Nothing, "what it may have in the store"),
    key("cache", Bytes, Nothing, "of its responses that are kept, where they say that they may be; none where nothing is said"),
    key("shards", Count(1, SHARDS_MAX), plain!(defaults::QUOTA.shards), "over how many slots of a Redis Cluster its data is spread"),
    key("storage_bytes", Rate(&Bytes), Nothing, "bytes of keys and values, in and out"),
    key("outbound", Rate(&ANY), Nothing, "requests that it sends"),
    key("outbound_in_flight", ANY, plain!(defaults::QUOTA.outbound_in_flight), "of those, at once"),
    key("outbound_waiting", NONE_OR_MORE, plain!(defaults::QUOTA.outbound_waiting), "those over that which wait until one ends; with 0 they fail at once"),
    key("messages_at_once", ANY, plain!(defaults::QUOTA.messages_at_once), "of one channel; with one they are handled in their order"),
    key("log_bytes", Rate(&Bytes), Is(|| "{ rate = \"1MiB\", per = \"1s\", burst = \"8MiB\" }".to_owned()), "of what its guests print"),
];

#[rustfmt::skip]
pub(super) const TENANT: File = File {
    name: "tenant",
    says: "A tenant's file, `tenants/ID/tenant.toml`; the folder's name is its identity. It is loaded by itself when it changes.",
    sections: &[
        section("", "", &[
            SCHEMA,
            key("hosts", List("a host name, or *. and one"), Needed, "names and wildcards of one label; case, a trailing dot and IDNA do not matter, exact names win"),
            key("enabled", Bool, Is(|| "true".to_owned()), "false: 503, and what runs is ended"),
            key("compress", Words(&["zstd", "br", "gzip"]), Is(|| "[]".to_owned()), "what its text may be compressed with, the best first"),
            key("app", Text("a path, from this file's folder"), Nothing, "a Spin manifest, of version 1 or 2, instead of components, routes and subscriptions"),
            key("app_profile", Text("a name"), Nothing, "which of the manifest's `[component.ID.profile.NAME]`"),
        ]),
        section("tls", "Its certificate; needed with `tls.certificates = \"files\"`.", &[
            key("cert", PATH, Nothing, "a PEM chain, the leaf first; with `key`, unless `[tls.clients]` stands alone"),
            key("key", PATH, Nothing, "its PEM private key"),
            key("other_cert", PATH, Nothing, "a chain of another kind (RSA beside ECDSA), for clients that cannot take the first; with `other_key`"),
            key("other_key", PATH, Nothing, "its PEM private key"),
        ]),
        section("tls.clients", "Whose certificates its clients have.", &[
            key("ca", PATH, Needed, "PEM certificates of CAs"),
            key("revoked", PATH, Nothing, "their lists of revoked certificates (CRLs, of each issuer)"),
            key("required", Bool, Is(|| "true".to_owned()), "false: anybody else comes in as nobody"),
        ]),
        section("limits", "Of any one request with all that it asks of its own tenant; what is not here comes from the gateway's `[defaults.limits]`.", LIMITS),
        section("quota", "Of the tenant as a whole; what is not here comes from the gateway's `[defaults.quota]`.", QUOTA),
        Section { name: "env", shape: Named, says: "Texts for the guest's environment.", keys: &[
            key("NAME", Text("a text"), Nothing, "its value"),
        ] },
        Section { name: "secrets", shape: Named, says: "The same from files, so that no secret stands here.", keys: &[
            key("NAME", Elsewhere, Nothing, "`{ file = \"path\" }`"),
        ] },
        Section { name: "variables", shape: Named, says: "What components may ask for by name.", keys: &[
            key("NAME", Reference, Nothing, "a text, or `{ file = \"path\" }`"),
        ] },
        section("egress", "Its own requests; beside `app`, those of all its components, added to what the manifest says.", &[
            key("allow", List("an origin, such as https://api.example.org"), Is(|| "[]".to_owned()), "where it may send them; `https://*.example.org` and `http://10.0.0.5:8080` will do as well"),
        ]),
        Section { name: "store_ttl", shape: Named, says: "How long what is set in a store lasts; for ever in the others.", keys: &[
            key("NAME", Duration, Nothing, "of that store"),
        ] },
        Section { name: "component", shape: Tables, says: "What answers.", keys: &[
            key("name", Text(NAME_RULE), Needed, "what routes call it"),
            key("source", Origin, Needed, "a `.wasm` file, an image, or a URL with its digest"),
            key("reuse", ANY, Is(|| "1".to_owned()), "requests that one instance may answer, one after the other; more than 1 for wasi:http 0.3 alone"),
            key("handler", Word(&["0.2", "0.3"]), Nothing, "by which of wasi:http's handlers it is called, where it exports both; 0.2's where nothing is said"),
            key("stores", List(STORE_RULE), Is(|| "[]".to_owned()), "key-value stores that it may open"),
            key("redis", List("an address"), Is(|| "[]".to_owned()), "that it may open with `fermyon:spin/redis`, as it writes them; whichever it opens, it gets the tenant's own keys"),
            key("files", Mounts, Is(|| "[]".to_owned()), "that it finds below `/`, to read"),
            key("exclude_files", List("a pattern"), Is(|| "[]".to_owned()), "of those, not these"),
            key("dependencies", Parts, Nothing, "which components stand in the place of its imports (docs/composing.md)"),
            key("dependencies_inherit_configuration", Bool, Is(|| "false".to_owned()), "true: each dependency has all that the component has"),
            key("middleware", Around, Nothing, "what is around its handler, from the outermost on"),
        ] },
        Section { name: "route", shape: Tables, says: "Which paths start a component; the most specific wins.", keys: &[
            key("path", Text("/exact, /users/:id or /files/..."), Needed, "of the request"),
            key("component", Text(NAME_RULE), Needed, "which answers"),
        ] },
        section("route.limits", "Of requests by this route alone.", LIMITS),
        Section { name: "subscription", shape: Tables, says: "Which messages start a component.", keys: &[
            key("channel", Text("1 to 1024 bytes"), Needed, "of the tenant's"),
            key("component", Text(NAME_RULE), Needed, "which handles them"),
            key("delivery", Word(&["all", "once"]), Is(|| "\"all\"".to_owned()), "once: a message is kept until one gateway of all handled it (on Redis)"),
        ] },
    ],
};
