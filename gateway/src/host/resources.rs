//! Every resource that a component may hold: what the host keeps for it, and where that is bounded. docs/hosts.md shows it.
//!
//! A test reads the WIT of everything that is served, and fails for a resource that is missing here.

use std::fmt::Write as _;

use super::kept::{AUTHORITY_BYTES_MAX, METHOD_BYTES_MAX, PATH_BYTES_MAX, SCHEME_BYTES_MAX};
use super::sizes::{INCOMING_BODY_BYTES, OUTGOING_BODY_BYTES};
use super::table::{CONCURRENT_BYTES, FILES_OPEN_MAX, HANDLE_BYTES, RESOURCES_MAX};
use super::weight::{FILE_STREAM_BYTES, FOLDER_BYTES};

/// A resource, by its interface without a version.
pub(crate) struct Row {
    pub(crate) interface: &'static str,
    pub(crate) resource: &'static str,
    kept: Kept,
}

/// What the host keeps for a resource beside its handle, and how it counts as the instance's memory.
enum Kept {
    /// Nothing that grows.
    Nothing,
    /// Texts and bytes, each counted with its length.
    Counted(&'static str),
    /// At most this many bytes, all counted from the start.
    Flat(&'static str, u64),
    /// No component ever gets one.
    Never(&'static str),
}

use Kept::{Counted, Flat, Never, Nothing};

const fn row(interface: &'static str, resource: &'static str, kept: Kept) -> Row {
    Row { interface, resource, kept }
}

const SOCKETS: &str = "sockets are denied";
const REQUEST: &str = "its fields, method, scheme, authority and path";

pub(crate) const RESOURCES: [Row; 36] = [
    row("wasi:http/types", "fields", Counted("names and values, up to 48 KiB")),
    row(
        "wasi:http/types",
        "incoming-request",
        Counted("the client's head, up to `http.head_bytes`; one for each instance"),
    ),
    row(
        "wasi:http/types",
        "outgoing-request",
        Counted("its fields, method, scheme, authority and path, and a part of its body"),
    ),
    row("wasi:http/types", "request-options", Nothing),
    row("wasi:http/types", "response-outparam", Nothing),
    row(
        "wasi:http/types",
        "incoming-response",
        Counted("its fields, and 64 KiB for its body until the component takes the body"),
    ),
    row("wasi:http/types", "incoming-body", Flat("the part that was read last", INCOMING_BODY_BYTES)),
    row(
        "wasi:http/types",
        "future-trailers",
        Flat("a part of the body until the body is read to its end, then fields", INCOMING_BODY_BYTES),
    ),
    row("wasi:http/types", "outgoing-response", Counted("its fields, and a part of its body")),
    row("wasi:http/types", "outgoing-body", Nothing),
    row("wasi:http/types", "future-incoming-response", Counted("a request in flight (below)")),
    row("wasi:http/types", "request", Counted(REQUEST)),
    row("wasi:http/types", "response", Counted("its fields")),
    row("wasi:io/error", "error", Nothing),
    row("wasi:io/streams", "error", Nothing),
    row("wasi:io/poll", "pollable", Nothing),
    row(
        "wasi:io/streams",
        "input-stream",
        Flat("for a file, the bytes that are read ahead; for a body, see `incoming-body`", FILE_STREAM_BYTES),
    ),
    row("wasi:io/streams", "output-stream", Nothing),
    row("wasi:cli/terminal-input", "terminal-input", Nothing),
    row("wasi:cli/terminal-output", "terminal-output", Nothing),
    row("wasi:filesystem/types", "descriptor", Flat("an open file", 4 << 10)),
    row("wasi:filesystem/types", "directory-entry-stream", Flat("all names of a folder", FOLDER_BYTES)),
    row("wasi:sockets/network", "network", Nothing),
    row("wasi:sockets/tcp", "tcp-socket", Never(SOCKETS)),
    row("wasi:sockets/udp", "udp-socket", Never(SOCKETS)),
    row("wasi:sockets/udp", "incoming-datagram-stream", Never(SOCKETS)),
    row("wasi:sockets/udp", "outgoing-datagram-stream", Never(SOCKETS)),
    row("wasi:sockets/ip-name-lookup", "resolve-address-stream", Never(SOCKETS)),
    row("wasi:sockets/types", "tcp-socket", Never(SOCKETS)),
    row("wasi:sockets/types", "udp-socket", Never(SOCKETS)),
    row("wasi:keyvalue/store", "bucket", Nothing),
    row("wasi:keyvalue/atomics", "cas", Counted("its key, and the value that was read")),
    row("fermyon:spin/key-value", "store", Nothing),
    row("fermyon:spin/redis", "connection", Nothing),
    row("spin:key-value/key-value", "store", Nothing),
    row("spin:redis/redis", "connection", Nothing),
];

/// What is kept without a resource, and how it counts.
fn beside() -> [(&'static str, String); 10] {
    let on_its_way = OUTGOING_BODY_BYTES + INCOMING_BODY_BYTES;
    [
        (
            "an outbound request in flight, until the last byte of its response",
            format!("both heads, and {on_its_way} bytes of bodies"),
        ),
        ("a call of `spin:key-value` or `spin:redis` 3.0.0 in progress", "its data, and 2048 bytes".to_owned()),
        ("a page of keys that `get-keys` of `spin:key-value` 3.0.0 has read in advance", "its keys".to_owned()),
        (
            "a call of WASI 0.3 in progress, and an end of a stream or a future",
            format!("{CONCURRENT_BYTES} bytes each, for the highest number at one time"),
        ),
        (
            "a stream of a file of wasi:filesystem 0.3, and a list of file names",
            format!("{FILE_STREAM_BYTES} and {FOLDER_BYTES} bytes, and an open file"),
        ),
        ("a request or response of Spin 1's HTTP, in or out", "head and body".to_owned()),
        ("spans of wasi:otel", "their texts, up to 16 KiB for each of 100".to_owned()),
        ("cursors of `wasi:keyvalue@0.2.0-draft`", "their texts; 64 are kept".to_owned()),
        ("an unfinished line on standard output or error", "not counted: up to 4 KiB of each".to_owned()),
        ("data passed to `denied` resources", "nothing is kept".to_owned()),
    ]
}

/// The table for the documentation.
pub(crate) fn table() -> String {
    let mut text = format!(
        "Data that the gateway keeps for an instance counts as memory of the instance (`limits.memory`), and so in `quota.memory` and \
         `sandbox.memory`. `memory_peak` of the access record includes it.\n\n\
         - A handle counts {HANDLE_BYTES} bytes, for the highest number of handles at one time. An instance may have {RESOURCES_MAX} handles.\n\
         - The memory of other data is released with its resource.\n\
         - If there is no memory for a call, the call returns the interface's own error. If that error has no text, the component is ended.\n\
         - An authority may have {AUTHORITY_BYTES_MAX} bytes, a path {PATH_BYTES_MAX}, a method {METHOD_BYTES_MAX}, and a scheme \
         {SCHEME_BYTES_MAX}.\n\
         - {FILES_OPEN_MAX} files may be open, including streams of files.\n\n| interface | resource | keeps | counts |\n|---|---|---|---|\n"
    );
    for Row { interface, resource, kept } in RESOURCES {
        let (what, counts) = match kept {
            Nothing => ("nothing more", "the handle".to_owned()),
            Counted(what) => (what, "its bytes".to_owned()),
            Flat(what, bytes) => (what, format!("{bytes} bytes")),
            Never(why) => (why, "never created".to_owned()),
        };
        let _infallible = writeln!(text, "| `{interface}` | `{resource}` | {what} | {counts} |");
    }
    text += "\n| other data | counts |\n|---|---|\n";
    for (what, counts) in beside() {
        let _infallible = writeln!(text, "| {what} | {counts} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use wasm_encoder as encoder;
    use wasmtime::component::Component;
    use wit_parser::{Resolve, TypeDefKind};

    use super::RESOURCES;
    use crate::host::{Linkers, Standing, standing};

    /// Folders with the WIT that Wasmtime's crates serve.
    fn of_wasmtime() -> Vec<PathBuf> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--offline", "--format-version", "1"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let told = cargo.output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        let folder = |name: &str| {
            let packages = told["packages"].as_array().unwrap().iter();
            let mut found = packages.filter(|package| package["name"] == name);
            let manifest = found.next().unwrap()["manifest_path"].as_str().unwrap();
            Path::new(manifest).parent().unwrap().to_owned()
        };
        let (wasi, http) = (folder("wasmtime-wasi"), folder("wasmtime-wasi-http"));
        vec![wasi.join("src/p2/wit"), wasi.join("src/p3/wit"), http.join("wit"), http.join("src/p3/wit")]
    }

    /// Each resource of each served interface, with the name under which a component imports the interface.
    fn served() -> BTreeSet<(String, String)> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
        let own = std::fs::read_dir(own).unwrap().map(|entry| entry.unwrap().path());
        let mut found = BTreeSet::new();
        for folder in own.chain(of_wasmtime()) {
            let mut resolve = Resolve::default();
            resolve.push_dir(&folder).unwrap_or_else(|error| panic!("{}: {error:#}", folder.display()));
            for (_, kind) in resolve.types.iter().filter(|(_, kind)| matches!(kind.kind, TypeDefKind::Resource)) {
                let wit_parser::TypeOwner::Interface(interface) = kind.owner else { continue };
                let name = resolve.id_of(interface).unwrap();
                if standing(&name) == Standing::Served {
                    found.insert((name, kind.name.clone().unwrap()));
                }
            }
        }
        found
    }

    #[test]
    fn the_table_lists_exactly_the_served_resources() {
        let plain = |name: &str| name.split('@').next().unwrap().to_owned();
        let served: BTreeSet<_> = served().into_iter().map(|(name, resource)| (plain(&name), resource)).collect();
        let table = RESOURCES.iter().map(|row| (row.interface.to_owned(), row.resource.to_owned()));
        let table: BTreeSet<_> = table.collect();
        assert_eq!(table.len(), RESOURCES.len(), "twice");
        let missing: Vec<_> = served.difference(&table).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
        let unknown: Vec<_> = table.difference(&served).collect();
        assert!(unknown.is_empty(), "nobody serves: {unknown:?}");
    }

    /// A component that imports one resource.
    fn importer(interface: &str, resource: &str) -> Vec<u8> {
        let mut instance = encoder::InstanceType::new();
        instance.export(resource, encoder::ComponentTypeRef::Type(encoder::TypeBounds::SubResource));
        let (mut types, mut imports) = (encoder::ComponentTypeSection::new(), encoder::ComponentImportSection::new());
        types.instance(&instance);
        imports.import(interface, encoder::ComponentTypeRef::Instance(0));
        let mut component = encoder::Component::new();
        component.section(&types).section(&imports);
        component.finish()
    }

    #[test]
    fn the_linker_serves_each_resource() {
        let mut config = wasmtime::Config::new();
        config.wasm_component_model_async(true).concurrency_support(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let linkers = Linkers::new(&engine, true).unwrap();
        let mut count = 0;
        for (interface, resource) in served() {
            let component = Component::new(&engine, importer(&interface, &resource)).unwrap();
            if let Err(error) = linkers.link(&component) {
                panic!("{interface} {resource}: {error:#}");
            }
            count += 1;
        }
        assert!(count > 60, "{count}");
    }
}
