//! What the pools require of the machine: the kernel must not swap their pages out.
//!
//! Security: Wasmtime 48 asks the kernel for pages that are present *and* written, and resets those. A page in swap is
//! neither, so that a slot would be reused with a previous guest's data in it.

use std::path::{Path, PathBuf};

/// Tests name a folder here that stands for the machine's root: `proc/swaps`, `proc/self/cgroup`, `sys/fs/cgroup`. Two
/// files in it make a check find something: `unclean` the next check of slots, `plant` the next one of the canaries. Nobody
/// else sets it.
const STAND_IN: &str = "TOLLGATE_TEST_MACHINE";

/// The machine, or what a test puts in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    root: PathBuf,
    is_real: bool,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let stand_in = Self::stand_in();
        Self { is_real: stand_in.is_none(), root: stand_in.unwrap_or_else(|| PathBuf::from("/")) }
    }

    /// The folder that a test names, if one does, so that a gateway that confines itself can reach it. Release builds
    /// ignore it.
    pub(crate) fn stand_in() -> Option<PathBuf> {
        std::env::var_os(STAND_IN).filter(|_| cfg!(debug_assertions)).map(PathBuf::from)
    }

    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), is_real: false }
    }

    /// Whether this is the real machine. A test's stand-in does not wait for minutes.
    pub(crate) const fn is_real(&self) -> bool {
        self.is_real
    }

    /// Where pages of this process may be swapped to (`/proc/swaps`, proc(5); `memory.swap.max`, cgroups(7)). Nothing if
    /// they cannot be swapped. A control group whose limit cannot be read counts as unlimited.
    pub(crate) fn swap(&self) -> Option<String> {
        let areas = std::fs::read_to_string(self.root.join("proc/swaps")).unwrap_or_default();
        let area = areas.lines().skip(1).find_map(|line| line.split_whitespace().next())?.to_owned();
        (!self.is_kept_from_swap()).then_some(area)
    }

    /// Whether our control group, or one of its ancestors, forbids swap.
    fn is_kept_from_swap(&self) -> bool {
        let groups = std::fs::read_to_string(self.root.join("proc/self/cgroup")).unwrap_or_default();
        let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::")) else { return false };
        let all = self.root.join("sys/fs/cgroup");
        let own = all.join(own.trim_start_matches('/'));
        let swaps_nothing = |group: &Path| {
            let max = std::fs::read_to_string(group.join("memory.swap.max"));
            max.is_ok_and(|max| max.trim() == "0")
        };
        own.ancestors().take_while(|group| group.starts_with(&all)).any(swaps_nothing)
    }

    /// Whether a test wants the check of slots to find an unclean one.
    pub(super) fn has_unclean_slots(&self) -> bool {
        !self.is_real && self.root.join("unclean").exists()
    }

    /// Whether a test wants the canaries to find something, once.
    pub(crate) fn plants(&self) -> bool {
        !self.is_real && std::fs::remove_file(self.root.join("plant")).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_counts_unless_a_control_group_forbids_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let swap = || Machine::at(dir.path()).swap();
        assert_eq!(swap(), None, "nothing is known of any");
        write("proc/swaps", "Filename\t\tType\t\tSize\t\tUsed\t\tPriority\n");
        assert_eq!(swap(), None, "there is none");
        write("proc/swaps", "Filename\t\tType\t\tSize\n/dev/dm-1   partition\t1\n");
        assert_eq!(swap().as_deref(), Some("/dev/dm-1"));
        write("proc/self/cgroup", "4:memory:/old\n0::/system.slice/tollgate.service\n");
        assert!(swap().is_some(), "no group says anything");
        write("sys/fs/cgroup/system.slice/tollgate.service/memory.swap.max", "max\n");
        write("sys/fs/cgroup/memory.swap.max", "1024\n");
        assert!(swap().is_some(), "none forbids it");
        write("sys/fs/cgroup/system.slice/memory.swap.max", "0\n");
        assert_eq!(swap(), None, "a group around ours does");
        write("proc/self/cgroup", "4:memory:/old\n0::/user.slice\n");
        assert!(swap().is_some(), "which is not ours any more");
        write("proc/self/cgroup", "4:memory:/old\n");
        assert!(swap().is_some(), "of the first version of control groups nothing is known");
    }
}
