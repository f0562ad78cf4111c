//! Landlock rules: which files may be opened, and for what.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

/// The newest landlock ABI that these rules were tested with. A newer kernel does not refuse more by itself.
const TRIED: ABI = ABI::V6;

/// What is allowed below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Read,
    /// Reading files, without listing folders.
    ReadFiles,
    /// Reading and writing devices.
    Use,
    /// Creating, changing and removing files.
    Change,
    /// Reading files and executing them.
    Execute,
}

impl Rights {
    fn flags(self) -> BitFlags<AccessFs> {
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        match self {
            Self::Read => read,
            Self::ReadFiles => AccessFs::ReadFile.into(),
            Self::Use => make_bitflags!(AccessFs::{ReadFile | WriteFile}),
            // No device can be created there, and no program can be executed from there.
            Self::Change => {
                AccessFs::from_all(TRIED)
                    & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeFifo | IoctlDev})
            }
            Self::Execute => read | AccessFs::Execute,
        }
    }
}

/// The files and ports that stay reachable. A path that does not exist gets no rule.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) files: Vec<(Rights, Vec<PathBuf>)>,
    /// Ports that may be listened on.
    pub(super) ports: Option<Vec<u16>>,
    /// Whether connections, and whatever newer kernels can restrict, are forbidden too.
    pub(super) whole: bool,
}

/// Restricts this thread and its descendants. Returns the version of the kernel's landlock ABI.
///
/// # Errors
/// In words for the operator: the kernel has no landlock.
pub(super) fn restrict(rules: &Rules) -> Result<u32, String> {
    let restricted = || {
        let known = if rules.whole { ABI::V10 } else { TRIED };
        let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(known))?;
        if rules.whole {
            ruleset = ruleset.handle_access(AccessNet::from_all(known))?;
        } else if rules.ports.is_some() {
            ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
        }
        let mut ruleset = ruleset.scope(Scope::from_all(known))?.create()?;
        for (rights, paths) in &rules.files {
            ruleset = ruleset.add_rules(path_beneath_rules(paths, rights.flags()))?;
        }
        for port in rules.ports.iter().flatten() {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
        ruleset.restrict_self()
    };
    let status = restricted().map_err(|error: landlock::RulesetError| error.to_string())?;
    match (status.landlock, status.ruleset) {
        (LandlockStatus::NotImplemented, _) => Err("the kernel does not have it, or a container forbids it".to_owned()),
        (LandlockStatus::NotEnabled, _) => Err("it is not active: the kernel's lsm= does not list it".to_owned()),
        (LandlockStatus::Available { .. }, RulesetStatus::NotEnforced) => {
            Err("the kernel applied no part of it".to_owned())
        }
        (LandlockStatus::Available { effective_abi, kernel_abi }, _) => {
            Ok(kernel_abi.and_then(|abi| u32::try_from(abi).ok()).unwrap_or(effective_abi as u32))
        }
    }
}
