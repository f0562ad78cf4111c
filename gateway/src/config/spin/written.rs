//! The table of Spin's keys as a person reads it: `gateway/docs/spin-manifest.md`.

use super::keys::{Here, In, KEYS, Key};

/// The text before the tables.
const HEAD: &str = "# Spin's manifests\n\n`tollgate config reference --manifest` writes this page. A test compares it with the code, and loads a \
     manifest with each key. `app = \"spin.toml\"` in a tenant's file loads manifests of versions 1 and 2 without a change. The tables list \
     every key of Spin 4.2's schema.\n\n| here | meaning |\n|---|---|\n| served | the key has the same meaning as in Spin |\n\
     | skipped | the value is checked, and has no effect |\n\
     | refused | the key causes the problem `E0401 not-served`, with its place, before anything is served |\n\n\
     A key that is in no table causes `E0102 unknown-key`.\n";

/// The text after the tables.
const FOOT: &str = "
## Routes

Routes work as in Spin 4.0.2.

| in a route | matches |
|---|---|
| `/exact` | this path |
| `:name` | one segment, or the part of a segment before its first dot (`/:id.json`) |
| `/...` or `/*` at the end | everything below, or nothing |

Slashes at the end of a route and of a path do not count. If several routes match, they are compared segment by segment from the left: a
literal wins over a name, and a name wins over `/...`. If two routes are equal so far, the shorter one wins. If two routes are written alike, the
later one answers, in the position of the earlier one. If two routes match the same paths and are written differently, the earlier one answers.
`W0406 shadowed-route` says which one. Before a path is matched, it is normalised (`%61` becomes `a`, other escapes get capital letters), which
Spin does not do. You may write a route either way.

The component gets these headers:

| header | value |
|---|---|
| `spin-matched-route` | the route (empty for `/`) |
| `spin-raw-component-route` | the route as it is written |
| `spin-component-route` | the route without `/...` |
| `spin-path-info` | the part of the path that `...` matched |
| `spin-path-match-NAME` | the value of `:NAME`; in the header name, letters are lower case and `_` is `-` |
| `spin-base-path` | `/` |
| `spin-full-url`, `spin-client-addr` | the full URL, the client's address |

## Grants

An entry of `allowed_outbound_hosts` is `SCHEME://HOST[:PORT]`.

| part | values |
|---|---|
| SCHEME | `http`, `https`, `redis`, or `*` for all three |
| HOST | a name; `*.NAME` (names below it, at any depth); an address; a network (`10.0.0.0/8`); `self` (the application's own paths, by a \
relative URL or `self.alt`); `NAME.spin.internal` (another component); or `*` for all of these |
| PORT | a number; `FIRST..END`, without END; or `*`. Without a port, the scheme's default port |

- An entry that is empty after its template is filled in is skipped.
- An address behind the gateway (loopback, private, link-local and so on) requires a grant of that address, or of a network that lies completely
  in such a range. A name alone, `*` and `0.0.0.0/0` do not grant it.
- All Redis addresses lead to the tenant's own keys. A pattern grants any of them. A manifest of version 1 without `allowed_outbound_hosts` grants
  any Redis address, as in Spin.
- Grants of other services (postgres, mysql, mqtt …) cause `W0407 without-effect`: the application loads, and each call of such a service is
  refused.

## Names

A store has the name that the manifest gives it. In keys of the backend, and only there, a byte other than `a-z`, `0-9` and `-` is written as `%`
and two digits: `my_store` is `tg:{TENANT}:kv:my%5Fstore`. Components keep their ids in logs, records and headers. `http://NAME.spin.internal` leads
to the component with that id. If there is none, it leads to the only component whose id differs in case, or has `_` for `-`.
";

/// Markdown of the whole page.
pub(crate) fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut table = None;
    for key in KEYS {
        if table != Some(key.table) {
            table = Some(key.table);
            text +=
                &format!("\n## {}\n\n| key | manifest | here | description |\n|---|---|---|---|\n", title(key.table));
        }
        text += &line(key);
    }
    text + FOOT
}

fn title(table: &str) -> String {
    if table.is_empty() { "Top level".to_owned() } else { format!("`{table}`") }
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
