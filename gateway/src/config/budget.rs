//! What the settings allow the process to take, added up and held against the machine. Said by `check` and at the start; it
//! is no problem of a file, since nothing is wrong until it all happens at once.

use super::{Boot, units};

/// Bytes of buffers that one connection of a client may hold: TLS, hyper, one response's piece.
const CONNECTION_BYTES: u64 = 64 << 10;
/// Pages that the embedded store keeps.
const STORE_BYTES: u64 = 64 << 20;
/// Descriptors beside clients' connections: files, listeners, Redis, outbound requests.
const DESCRIPTORS_BESIDE: u64 = 1000;

/// What this machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    memory: u64,
    descriptors: u64,
}

impl Machine {
    /// As the kernel says, and the control group where it says less (proc_meminfo(5), cgroups(7)).
    pub(crate) fn here() -> Self {
        let memory = rustix::system::sysinfo();
        let of_machine = memory.totalram.saturating_mul(memory.mem_unit.into());
        let of_group = std::fs::read_to_string("/sys/fs/cgroup/memory.max");
        let of_group = of_group.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        Self { memory: of_machine.min(of_group), descriptors: descriptors.unwrap_or(u64::MAX) }
    }
}

/// One line a bound, then the sums; and what is more than the machine has.
pub(crate) fn lines(boot: &Boot, machine: Machine) -> (Vec<String>, Vec<String>) {
    let connections = u64::from(boot.listen.connections);
    let mut bounds = boot.sandbox.memory_bounds().to_vec();
    bounds.push(("clients' connections", "listen.connections", connections * CONNECTION_BYTES));
    bounds.push(("the store's pages", "storage.backend", STORE_BYTES));
    let sum: u64 = bounds.iter().map(|(_, _, bytes)| bytes).sum();
    let text = |bytes: u64| {
        let whole = if bytes >= 10 << 30 { 1 << 30 } else { 1 << 20 };
        units::bytes_text(bytes.next_multiple_of(whole))
    };
    let mut lines: Vec<String> =
        bounds.iter().map(|(what, key, bytes)| format!("{:>9}  {what} ({key})", text(*bytes))).collect();
    lines.push(format!("{:>9}  at the most, of the machine's {}", text(sum), text(machine.memory)));
    let mut over = Vec::new();
    if sum > machine.memory {
        let largest = bounds.iter().max_by_key(|(_, _, bytes)| bytes).map_or("", |(_, key, _)| key);
        over.push(format!(
            "memory: the bounds add up to {}, and the machine has {}; lower {largest} first",
            text(sum),
            text(machine.memory)
        ));
    }
    let descriptors = connections + DESCRIPTORS_BESIDE;
    if descriptors > machine.descriptors {
        over.push(format!(
            "descriptors: listen.connections = {connections} and {DESCRIPTORS_BESIDE} for the rest, and this process may \
             have {}; lower it, or raise the limit (ulimit -n, LimitNOFILE=)",
            machine.descriptors
        ));
    }
    (lines, over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_added_up_and_held_against_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gateway.toml"), "schema = 1").unwrap();
        let boot =
            super::super::gateway(&dir.path().join("gateway.toml"), &super::super::Overrides::default()).unwrap();
        let (shown, over) = lines(&boot, Machine { memory: 1 << 40, descriptors: 1 << 20 });
        assert_eq!(over, [""; 0]);
        assert!(
            shown[0].contains("4GiB  guests") && shown.last().unwrap().contains("of the machine's 1024GiB"),
            "{shown:?}"
        );
        let (_, over) = lines(&boot, Machine { memory: 1 << 30, descriptors: 1024 });
        assert!(over[0].contains("and the machine has 1GiB; lower sandbox."), "{over:?}");
        assert!(over[1].contains("listen.connections = 10000"), "{over:?}");
    }
}
