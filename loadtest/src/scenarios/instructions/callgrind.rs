//! Runs a process under valgrind's callgrind: resets its counters, asks for a dump, and reads it.
//!
//! Source: valgrind's manual, "Callgrind Format Specification". Limit: on a processor with AVX-512, code is compiled for
//! it, which valgrind does not support; we have not tried that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

pub(super) struct Callgrind {
    /// Name of the dumps; callgrind appends a number.
    out: PathBuf,
}

impl Callgrind {
    /// None if valgrind is not installed.
    pub(super) fn here(dir: &Path) -> Option<Self> {
        let found = Command::new("callgrind_control").arg("--version").stdout(Stdio::null()).status();
        found.is_ok_and(|status| status.success()).then(|| Self { out: dir.join("callgrind") })
    }

    /// The command that a program is started with.
    pub(super) fn command(&self) -> Vec<String> {
        let out = format!("--callgrind-out-file={}", self.out.display());
        let options =
            ["valgrind", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no", "--error-limit=no"];
        options.map(str::to_owned).into_iter().chain([out]).collect()
    }

    fn control(process: u32, order: &str) -> anyhow::Result<()> {
        let done = Command::new("callgrind_control").args([order, &process.to_string()]).output()?;
        let said = String::from_utf8_lossy(&done.stdout);
        anyhow::ensure!(done.status.success() && said.contains("OK"), "callgrind_control {order} says {said}");
        Ok(())
    }

    /// Resets the counters.
    pub(super) fn zero(&self, process: u32) -> anyhow::Result<()> {
        Self::control(process, "--zero")
    }

    /// Instructions since then, by room.
    pub(super) fn counted(&self, process: u32) -> anyhow::Result<BTreeMap<String, u64>> {
        Self::control(process, "--dump")?;
        let dir = self.out.parent().context("nowhere")?;
        let mut dumps = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("callgrind.")) {
                dumps.push(path);
            }
        }
        let [dump] = dumps.as_slice() else { anyhow::bail!("{} dumps in {}", dumps.len(), dir.display()) };
        let rooms = read(&std::fs::read_to_string(dump)?);
        std::fs::remove_file(dump)?;
        Ok(rooms)
    }
}

/// Each function's own instructions, by room. The line after `calls=` counts for the callee, and so is left out.
fn read(dump: &str) -> BTreeMap<String, u64> {
    let mut rooms = BTreeMap::new();
    let (mut object, mut function, mut is_call) = ("", "", false);
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = name;
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if let (false, Some(cost)) = (is_call, cost) {
                *rooms.entry(room(object, function)).or_default() += cost;
            }
            is_call = false;
        }
    }
    rooms
}

/// Crates that form one room, if they are not the gateway's own.
const ROOMS: [(&str, &[&str]); 5] = [
    ("wasmtime", &["wasmtime", "wiggle", "cap_std", "system_interface", "cranelift", "io_lifetimes"]),
    ("hyper", &["hyper", "h2", "http", "httparse", "httpdate", "atomic_waker", "want"]),
    ("rustls and aws-lc", &["rustls", "aws_lc", "tokio_rustls", "untrusted", "zeroize", "webpki"]),
    ("tokio", &["tokio", "mio", "socket2", "parking_lot"]),
    ("the standard library", &["core", "alloc", "std", "hashbrown", "__rustc", "bytes", "memchr", "arc_swap"]),
];

/// The room of a function, as far as its name and its object tell.
fn room(object: &str, function: &str) -> String {
    if object == "???" || function.starts_with("0x") || function == "???" {
        return "guest".to_owned();
    }
    if object.contains("/libc") || object.contains("/ld-linux") {
        return "libc".to_owned();
    }
    if function.starts_with("mi_") || function.starts_with("_mi_") {
        return "allocator".to_owned();
    }
    if !function.contains("::") {
        // C and assembly: all that we link of those is cryptography.
        return "rustls and aws-lc".to_owned();
    }
    let mut path = names(function);
    let first = path.next().unwrap_or_default();
    if first == "tollgate" {
        return format!("tollgate: {}", path.next().unwrap_or_default());
    }
    let known = ROOMS.iter().find(|(_, crates)| crates.iter().any(|name| is_part(first, name)));
    known.map_or("other crates", |(room, _)| room).to_owned()
}

/// `wasmtime_wasi` is a part of `wasmtime`.
fn is_part(name: &str, of: &str) -> bool {
    name.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The names in a function's path. For a method this begins with its type, for `drop_in_place` with the dropped type.
fn names(function: &str) -> impl Iterator<Item = &str> {
    let function = function.strip_prefix("core::ptr::drop_in_place").unwrap_or(function);
    let names = function.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    names.filter(|name| !["", "mut", "dyn", "const", "impl", "as"].contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_own_instructions_count_for_its_crate() {
        let dump = "version: 1\nevents: Ir\n\nob=/usr/bin/tollgate\nfl=a.rs\nfn=<tollgate::http::Body as http_body::Body>::poll\n\
                    10 7\ncfn=hyper::poll\ncalls=3 0\n10 4000\n11 2\n\nfn=core::ptr::drop_in_place<wasmtime_wasi::Ctx>\n0 5\n\n\
                    ob=???\nfn=0x00007f00\n0 11\n";
        let rooms = read(dump);
        let rooms: Vec<(&str, u64)> = rooms.iter().map(|(room, count)| (room.as_str(), *count)).collect();
        assert_eq!(rooms, [("guest", 11), ("tollgate: http", 9), ("wasmtime", 5)]);
    }
}
