//! Rules of landlock: which files may be opened, and for what.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

/// The newest interface that these rules were tried with. A newer kernel refuses nothing more by itself.
const TRIED: ABI = ABI::V6;

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Read,
    /// Without looking what there is.
    ReadFiles,
    /// Devices, to read and to write.
    Use,
    /// Make, change and remove.
    Change,
    /// Read, and start as a program.
    Execute,
}

impl Rights {
    fn flags(self) -> BitFlags<AccessFs> {
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        match self {
            Self::Read => read,
            Self::ReadFiles => AccessFs::ReadFile.into(),
            Self::Use => make_bitflags!(AccessFs::{ReadFile | WriteFile}),
            // No device is made in it, and no program is started from it.
            Self::Change => {
                AccessFs::from_all(TRIED)
                    & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeFifo | IoctlDev})
            }
            Self::Execute => read | AccessFs::Execute,
        }
    }
}

/// What is left of files and ports. What does not exist has no rule.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) files: Vec<(Rights, Vec<PathBuf>)>,
    /// Those that may be listened on.
    pub(super) ports: Option<Vec<u16>>,
    /// Whether connections, and whatever newer kernels know, are forbidden too.
    pub(super) whole: bool,
}

/// Restricts this thread and what comes from it. Returns the version of the kernel's interface.
///
/// # Errors
/// In words for the operator: there is no landlock here.
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
