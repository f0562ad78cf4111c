//! Every world that the gateway serves, and which of its functions are not driven, with the reason.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use wit_parser::{CloneMaps, Resolve, WorldId};

/// Which export a component is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// By the handler of its own world: WASI's.
    ByItself,
    /// By the handler of wasi:http 0.2 or 0.3, which is added to the world.
    Two,
    Three,
}

/// One package at one version.
#[derive(Debug)]
pub(super) struct World {
    /// Folder below `gateway/wit`.
    pub(super) folder: &'static str,
    world: &'static str,
    called: Called,
    /// Calls in one request; more would exceed another limit on a request, which is not measured here.
    calls_max: Option<u32>,
}

const fn world(folder: &'static str, world: &'static str, called: Called) -> World {
    World { folder, world, called, calls_max: None }
}

pub(super) const WORLDS: [World; 13] = [
    world("wasi-0.2.12", "proxy", Called::ByItself),
    world("wasi-0.3.0", "proxy", Called::ByItself),
    world("wasi-2023-10-18", "proxy", Called::ByItself),
    world("wasi-2023-11-10", "proxy", Called::ByItself),
    world("wasi-keyvalue-0.2.0-draft", "imports", Called::Two),
    world("wasi-keyvalue-0.2.0-draft2", "imports", Called::Two),
    world("wasi-keyvalue-0.2.0-draft2-spin", "imports", Called::Two),
    world("wasi-config-0.2.0-draft-2024-09-27", "imports", Called::Two),
    world("wasi-config-0.2.0-rc.1", "imports", Called::Two),
    World { calls_max: Some(90), ..world("wasi-otel-0.2.0-rc.2", "imports", Called::Two) },
    world("fermyon-spin-1", "imports", Called::Two),
    world("fermyon-spin-2.0.0", "imports", Called::Two),
    world("spin-3.0.0", "imports", Called::Three),
];

/// Functions that are not driven: the name, its beginning or its end, and why. Other exceptions follow from types.
const EXCEPTED: [(&str, &str); 19] = [
    ("#exit", "it ends the instance"),
    ("#exit-with-code", "it ends the instance"),
    ("#[static]response-outparam.set", "a request is answered once"),
    ("#[static]response-outparam.send-informational", "it is not there"),
    ("#[method]incoming-request.consume", "a body is taken once"),
    ("[method]tcp-socket.", "nobody has a socket: making one is denied, and that is driven"),
    ("[method]udp-socket.", "nobody has a socket: making one is denied, and that is driven"),
    ("[method]incoming-datagram-stream.", "nobody has a socket"),
    ("[method]outgoing-datagram-stream.", "nobody has a socket"),
    ("[method]resolve-address-stream.", "nobody has one: looking a name up is denied, and that is driven"),
    ("[method]future-incoming-response.", "no request left: `outbound` measures those that do"),
    ("[method]incoming-response.", "no request left: `outbound` measures those that do"),
    ("[method]response.", "it is made with a future"),
    ("[method]incoming-body.", "a body is taken once"),
    ("[static]incoming-body.finish", "a body is taken once"),
    ("[method]future-trailers.", "a body is taken once"),
    ("[method]error.to-debug-string", "no stream fails here"),
    ("#filesystem-error-code", "no stream fails here"),
    ("#http-error-code", "no stream fails here"),
];

/// The reason for a function that another tenant with the same component drives.
pub(super) const ELSEWHERE: &str = "it is driven by another tenant";

/// Packages of the handler's world. The other worlds have them too, so that something can call them.
const HANDLER: [&str; 7] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Functions that a request calls less often than its fuel allows: the end of the name, and the number of calls.
const SELDOM: [(&str, u32); 5] = [
    // Each call waits for a tick of the clock, and we measure work.
    ("monotonic-clock@0.3.0#wait-for", 200),
    // What these calls create stays in the instance, whose memory is bounded.
    ("fields.append", 500),
    ("output-stream.forward", 1000),
    ("2023-10-18#[constructor]outgoing-response", 500),
    ("2023-10-18#[method]outgoing-response.write", 500),
];

/// Why a type cannot be made here, or why a result cannot be dropped.
#[cfg(test)]
const BY_TYPE: [&str; 5] = [
    "it answers with a stream or a future",
    "it takes a stream or a future",
    "nobody has a terminal-input here",
    "nobody has a terminal-output here",
    "a request arrives once",
];

/// All reasons.
#[cfg(test)]
pub(super) fn reasons() -> Vec<&'static str> {
    BY_TYPE.into_iter().chain(EXCEPTED.into_iter().map(|(_, why)| why)).collect()
}

impl World {
    pub(super) const fn name(&self) -> &'static str {
        self.folder
    }

    /// The name as a valid tenant id.
    pub(super) fn id(&self) -> String {
        self.folder.replace('.', "-")
    }

    /// Whether some of its functions work on files. Those calls cost more, so they get their own tenant.
    pub(super) fn has_files(&self) -> bool {
        self.called == Called::ByItself
    }

    /// Whether its cost depends on the tenant's storage backend.
    pub(super) fn is_of_storage(&self) -> bool {
        self.folder.contains("keyvalue") || self.folder.contains("spin")
    }

    /// Whether this function belongs to the world itself, and not to the handler that calls it.
    pub(super) fn is_own(&self, function: &str) -> bool {
        self.called == Called::ByItself || !HANDLER.iter().any(|package| function.starts_with(package))
    }

    pub(super) fn excepted(&self, function: &str) -> Option<&'static str> {
        let is_it = |part: &str| if part.ends_with('.') { function.contains(part) } else { function.ends_with(part) };
        EXCEPTED.iter().find(|(part, _)| is_it(part)).map(|(_, why)| *why)
    }

    /// How often a request may call this function; none if only its fuel limits it.
    pub(super) fn calls_max(&self, function: &str) -> Option<u32> {
        // It creates no span, of which a request may have only a few.
        if function.ends_with("#outer-span-context") {
            return None;
        }
        let seldom = SELDOM.iter().find(|(end, _)| function.ends_with(end)).map(|(_, calls)| *calls);
        seldom.or(self.calls_max)
    }

    fn path(folder: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/wit").join(folder)
    }

    /// The WIT, and the world with the handler that calls it.
    ///
    /// # Errors
    /// If the files are not those that this program expects.
    pub(super) fn resolve(&self) -> anyhow::Result<(Resolve, WorldId)> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(Self::path(self.folder)).with_context(|| self.folder)?;
        let world = resolve.select_world(&[package], Some(self.world))?;
        let handler = match self.called {
            Called::ByItself => return Ok((resolve, world)),
            Called::Two => "wasi-0.2.12",
            Called::Three => "wasi-0.3.0",
        };
        let (package, _) = resolve.push_dir(Self::path(handler)).context(handler)?;
        let into = resolve.select_world(&[package], Some("handler"))?;
        resolve.merge_worlds(world, into, &mut CloneMaps::default())?;
        Ok((resolve, into))
    }
}
