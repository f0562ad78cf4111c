//! Adds up what the settings allow the process to take, and compares it with the machine. `check` and the start only warn:
//! the limits fail only when everything happens at once.

use crate::config::files::boot::Boot;
use crate::config::problem::{Kind, Problem};
use crate::config::reader::units;
use crate::sandbox::Slots;

/// Bytes of buffers that one client connection may hold: TLS, hyper, and a piece of one response.
const CONNECTION_BYTES: u64 = 64 << 10;
/// The same for a kept connection to an origin.
const ORIGIN_BYTES: u64 = 64 << 10;
/// The page cache of the embedded store.
const STORE_BYTES: u64 = 64 << 20;
/// File descriptors for all but clients' connections and kept connections to origins: files, listeners, Redis, outbound
/// requests.
const DESCRIPTORS_BESIDE: u64 = 1000;

/// Resources of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    memory: u64,
    descriptors: u64,
    /// The area that pages may be swapped to.
    swap: Option<String>,
}

impl Machine {
    /// As the kernel reports them, or the control group if it allows less (proc_meminfo(5), cgroups(7)).
    pub(crate) fn here() -> Self {
        let memory = rustix::system::sysinfo();
        let of_machine = memory.totalram.saturating_mul(memory.mem_unit.into());
        let of_group = std::fs::read_to_string("/sys/fs/cgroup/memory.max");
        let of_group = of_group.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let swap = crate::sandbox::Machine::here().swap();
        Self { memory: of_machine.min(of_group), descriptors: descriptors.unwrap_or(u64::MAX), swap }
    }
}

/// How many file descriptors may be open at once.
pub(crate) fn descriptors(boot: &Boot) -> u64 {
    u64::from(boot.listen.connections) + beside(boot)
}

/// File descriptors for all but clients' connections.
fn beside(boot: &Boot) -> u64 {
    u64::from(boot.egress.kept.all) + DESCRIPTORS_BESIDE
}

/// For each bound its name, the key that sets it, and its maximum in bytes.
fn of(boot: &Boot) -> Vec<(&'static str, &'static str, u64)> {
    let connections = u64::from(boot.listen.connections);
    let mut bounds = boot.sandbox.memory_bounds().to_vec();
    bounds.push(("clients' connections", "listen.connections", connections * CONNECTION_BYTES));
    let kept = u64::from(boot.egress.kept.all);
    bounds.push(("connections to origins that are kept", "egress.kept", kept * ORIGIN_BYTES));
    bounds.push(("the store's pages", "storage.backend", STORE_BYTES));
    bounds
}

fn text(bytes: u64) -> String {
    let whole = if bytes >= 10 << 30 { 1 << 30 } else { 1 << 20 };
    units::bytes_text(bytes.next_multiple_of(whole))
}

/// One line for each bound, then the sum.
pub(crate) fn bounds(boot: &Boot, machine: &Machine) -> Vec<String> {
    let bounds = of(boot);
    let sum = bounds.iter().map(|(_, _, bytes)| bytes).sum();
    let mut lines: Vec<String> =
        bounds.iter().map(|(what, key, bytes)| format!("{:>9}  {what} ({key})", text(*bytes))).collect();
    lines.push(format!("{:>9}  in all; the machine has {}", text(sum), text(machine.memory)));
    lines
}

/// Warns if the settings allow more than the machine has, and about settings that expose data.
pub(crate) fn warnings(boot: &Boot, machine: &Machine) -> Vec<Problem> {
    let warning = |kind, key: &str, texts: [&str; 3], hint: &str| {
        let [summary, found, wanted] = texts.map(str::to_owned);
        let (place, hint) = (boot.source.place_of(key), Some(hint.to_owned()));
        Problem { kind, tenant: None, place, summary, found, wanted, hint, also: None }
    };
    let bounds = of(boot);
    let sum: u64 = bounds.iter().map(|(_, _, bytes)| bytes).sum();
    let mut over = Vec::new();
    if sum > machine.memory {
        let largest = bounds.iter().max_by_key(|(_, _, bytes)| bytes).map_or("", |(_, key, _)| key);
        let (found, has) =
            (format!("{} in all", text(sum)), format!("at most {}, the memory of this machine", text(machine.memory)));
        let summary = "the memory limits add up to more than this machine has";
        let hint = format!("lower {largest} first; `tollgate check --json` lists each bound");
        over.push(warning(Kind::MemoryBudget, largest, [summary, &found, &has], &hint));
    }
    if descriptors(boot) > machine.descriptors {
        let found = format!("{} for connections, and {} for everything else", boot.listen.connections, beside(boot));
        let wanted = format!("at most {}, the limit of this process", machine.descriptors);
        let texts = ["there are fewer file descriptors than connections may need", found.as_str(), wanted.as_str()];
        let hint = "lower listen.connections, or raise the limit (ulimit -n, LimitNOFILE=)";
        over.push(warning(Kind::DescriptorBudget, "listen.connections", texts, hint));
    }
    if let Some(area) = machine.swap.as_ref().filter(|_| boot.sandbox.slots == Slots::Scanned) {
        let summary =
            "memory of components may be swapped out, so slots are cleared completely, which makes each request slower";
        let texts = [
            summary,
            &format!("swap at {area}"),
            "no swap for this process: memory.swap.max of its control group is 0",
        ];
        let hint = "set MemorySwapMax=0 in the systemd unit, or --memory-swap equal to --memory for a container, or \
            run swapoff; slots = \"whole\" accepts the cost and ends this warning";
        over.push(warning(Kind::Swap, "isolation.slots", texts, hint));
    }
    if !boot.listen.admin.ip().is_loopback() {
        let found = format!("{}, which is not a loopback address", boot.listen.admin);
        let texts = [
            "the operators' listener can be reached from other machines",
            &found,
            "a loopback address such as 127.0.0.1:9443",
        ];
        let hint = "clients send its token without TLS: put a tunnel or a TLS proxy in front of it, and a firewall";
        over.push(warning(Kind::AdminExposed, "listen.admin", texts, hint));
    }
    over
}

/// Warns which parts of the confinement this kernel does not support.
pub(crate) fn unconfined(boot: &Boot, missing: String) -> Problem {
    Problem {
        kind: Kind::NotConfined,
        tenant: None,
        place: boot.source.place_of("sandbox.confine"),
        summary: "this kernel supports only part of the gateway's confinement".to_owned(),
        found: missing,
        wanted: "Linux 6.12 or newer, with landlock and seccomp".to_owned(),
        hint: Some("`sandbox.confine = false` turns confinement off, and this warning".to_owned()),
        also: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_added_up_and_compared_with_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gateway.toml"), "schema = 1").unwrap();
        let boot = crate::config::load::gateway(&dir.path().join("gateway.toml"), &crate::config::Overrides::default())
            .unwrap();
        let enough = Machine { memory: 1 << 40, descriptors: 1 << 20, swap: None };
        let shown = bounds(&boot, &enough);
        assert_eq!(warnings(&boot, &enough), []);
        assert!(
            shown[0].contains("4GiB  components") && shown.last().unwrap().contains("the machine has 1024GiB"),
            "{shown:?}"
        );
        let over = warnings(&boot, &Machine { memory: 1 << 30, descriptors: 1024, swap: Some("/dev/vda2".to_owned()) });
        assert_eq!(over.iter().map(|warning| warning.kind.code()).collect::<Vec<_>>(), ["W0501", "W0502", "W0504"]);
        assert_eq!(over[2].found, "swap at /dev/vda2");
        assert_eq!(over[0].wanted, "at most 1GiB, the memory of this machine");
        assert_eq!(over[1].found, "10000 for connections, and 2000 for everything else");
    }
}
