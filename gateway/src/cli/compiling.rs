//! Processes that a gateway starts itself: the helper, and the compiling children.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::sandbox::{Begun, Work, compile_in_child};

/// The limits of compiling children.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Bounds {
    #[arg(long)]
    memory: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long, action = clap::ArgAction::Set)]
    metering: bool,
    #[arg(long, action = clap::ArgAction::Set)]
    confine: bool,
}

impl Bounds {
    fn work(self, dir: PathBuf) -> Work {
        let Self { memory, seconds, metering, confine } = self;
        Work { dir, memory, seconds, metering, confine, ..Work::default() }
    }
}

pub(super) fn help(dir: PathBuf, bounds: Bounds) -> ExitCode {
    crate::sandbox::help(bounds.work(dir)).map_or_else(|error| super::fail(&error), |()| ExitCode::SUCCESS)
}

pub(super) fn compile(out: &Path, bounds: Bounds, begun: Begun) -> ExitCode {
    match compile_in_child(out, &bounds.work(PathBuf::new()), begun) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => super::fail(&error),
    }
}
