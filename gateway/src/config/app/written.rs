//! The table of Spin's keys as a person reads it: `gateway/docs/spin-manifest.md`.

use super::keys::{Here, In, KEYS, Key};

/// What stands before the tables.
const HEAD: &str = "# Spin's manifests\n\nWritten by `tollgate config reference --manifest`; a test compares it with the code, and loads a manifest with \
     each key. `app = \"spin.toml\"` in a tenant's file takes manifests of versions 1 and 2 as they are. Here is every key of Spin 4.2's \
     schema. *Served* is what means the same as in Spin; *skipped* is looked at and changes nothing; *refused* is a problem with its place \
     (`E0401 not-served`), before anything is served. A key that is in no table is `E0102 unknown-key`.\n";

/// What stands behind them.
const FOOT: &str = "
## Routes

As Spin 4.0.2 has them. `/exact`; `:name` for a segment, or for what stands before the first dot of one (`/:id.json`); `/...` or `/*` at
the end for all that is below, or nothing. Slashes at the end of a route and of a path are nothing. Of several that match, a literal goes before
a name and a name before the rest, segment by segment from the left; of two that agree so far, the shorter one. Where two are written alike, the
later one answers, in the earlier one's place; where two match the same paths and are written otherwise, the earlier one:
`W0406 shadowed-route` says which. A path has one spelling before it is looked at (`%61` is `a`, other escapes are in capitals), which Spin leaves as
it is; a route may be written either way.

Components are told: `spin-matched-route`, the route (empty for `/`); `spin-raw-component-route`, as it is written; `spin-component-route`, without
`/...`; `spin-path-info`, what `...` stands for; `spin-path-match-NAME`, in small letters and with `-` for `_`; `spin-base-path`, `/`;
`spin-full-url` and `spin-client-addr`.

## Grants

`allowed_outbound_hosts` has `SCHEME://HOST[:PORT]`. HOST is a name, `*.NAME` (below it, at any depth), an address, a network (`10.0.0.0/8`), `self`
(the application's own paths, by a relative URL or `self.alt`), `NAME.spin.internal` (another component), or `*`, which is all of these. PORT is
a number, `FIRST..END` without its end, or `*`; without one, the scheme's own. `*` as SCHEME is http, https and redis. What a template leaves empty is
skipped. An address behind the gateway (loopback, private, link-local and so on) needs a grant of that address, or of a network that is
inside as a whole; a name alone, `*` or `0.0.0.0/0` does not lead there. Redis addresses all lead to the tenant's own keys; a pattern grants any. Version 1
without `allowed_outbound_hosts` grants any Redis address, as in Spin. Grants of other services (postgres, mysql, mqtt …) are `W0407 without-effect`: the
application loads, and a call of such a service is refused.

## Names

Stores are called what the manifest calls them. In keys of the backend, and nowhere else, a byte that is not `a-z`, `0-9` or `-` is `%` and two digits:
`my_store` is `tg:{TENANT}:kv:my%5Fstore`. Components keep their ids in logs, records and headers; `http://NAME.spin.internal` finds the
component of that id or, where there is none, the only one that differs in case or in `_` for `-`.
";

/// Markdown of all of it.
pub(crate) fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut table = None;
    for key in KEYS {
        if table != Some(key.table) {
            table = Some(key.table);
            text +=
                &format!("\n## {}\n\n| key | manifest | here | what it is |\n|---|---|---|---|\n", title(key.table));
        }
        text += &line(key);
    }
    text + FOOT
}

fn title(table: &str) -> String {
    if table.is_empty() { "At the top".to_owned() } else { format!("`{table}`") }
}

fn line(key: &Key) -> String {
    let versions = match key.versions {
        In::One => "1",
        In::Two => "2",
        In::Both => "1, 2",
    };
    let here = match key.here {
        Here::Served => "served".to_owned(),
        Here::Skipped(_) => "skipped".to_owned(),
        Here::Warned => "skipped, `W0407`".to_owned(),
        Here::Refused(instead) => format!("refused; instead: {}", instead.replace('|', "\\|")),
    };
    format!("| `{}` | {versions} | {here} | {}; `{}` |\n", key.name, key.says, key.example)
}
