//! `tollgate completions` and `tollgate man`: shell completions and manual pages, generated from the command line's own
//! description.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Arguments;

pub(super) fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tollgate", &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes one page for each command into a folder, or the first one to standard output.
pub(super) fn man(out: Option<&Path>) -> anyhow::Result<ExitCode> {
    let command = Arguments::command();
    match out {
        Some(dir) => {
            clap_mangen::generate_to(command, dir).with_context(|| format!("cannot write to {}", dir.display()))?
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            std::io::stdout().lock().write_all(&page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
