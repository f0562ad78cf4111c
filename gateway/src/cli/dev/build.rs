//! `tollgate build`: runs each component's own command, and says what to do if one fails.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::note;
use super::project::{Component, Project};

/// A shell's exit code if the program does not exist.
const NOT_FOUND: i32 = 127;

/// Builds all components, or the named ones. Returns whether all succeeded.
///
/// # Errors
/// A named component does not exist, or there is no shell.
pub(super) fn build(project: &Project, only: &[String]) -> anyhow::Result<bool> {
    if let Some(unknown) = only.iter().find(|name| project.components.iter().all(|one| one.id != **name)) {
        let known: Vec<_> = project.components.iter().map(|component| component.id.as_str()).collect();
        bail!("{} has no component {unknown:?}; its components are {}", project.manifest.display(), known.join(", "));
    }
    for component in project.components.iter().filter(|one| only.is_empty() || only.contains(&one.id)) {
        if component.commands.is_empty() {
            note(&format!("{} has no build command", component.id));
        }
        for command in &component.commands {
            if !run(component, command)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn run(component: &Component, command: &str) -> anyhow::Result<bool> {
    note(&format!("building {}: {command}", component.id));
    if !component.workdir.is_dir() {
        bail!("the workdir of {} does not exist: {}", component.id, component.workdir.display());
    }
    let status = Command::new("sh").arg("-c").arg(command).current_dir(&component.workdir).status();
    let status = status.context("cannot run sh")?;
    if status.success() {
        return Ok(true);
    }
    note(&format!("{} was not built: the build command ended with {status}", component.id));
    if let Some(hint) = hint(command, status.code(), &component.workdir) {
        note(&hint);
    }
    Ok(false)
}

/// What to do, if the cause can be determined from outside.
fn hint(command: &str, code: Option<i32>, workdir: &Path) -> Option<String> {
    if code == Some(NOT_FOUND) {
        let how = command.split([' ', '&', ';']).filter(|word| !is_here(word)).find_map(|word| {
            let known = GET.iter().find(|(program, _)| *program == word);
            known.map(|(program, how)| format!("{program} is not installed: {how}"))
        });
        return Some(how.unwrap_or_else(|| "a program that the command calls is not installed".to_owned()));
    }
    if !command.starts_with("cargo ") {
        return None;
    }
    let target = command.split_whitespace().skip_while(|word| *word != "--target").nth(1);
    let target = target.or_else(|| command.split_whitespace().find_map(|word| word.strip_prefix("--target=")))?;
    if target == "wasm32-wasi" {
        return Some("Rust 1.84 and later call this target wasm32-wasip1; wasm32-wasip2 builds components".to_owned());
    }
    let asked = ["--print", "target-libdir", "--target", target];
    let library = Command::new("rustc").args(asked).current_dir(workdir).output();
    let library = library.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let is_missing = library.is_none_or(|path| !Path::new(path.trim()).is_dir());
    is_missing.then(|| format!("Rust's target {target} is not installed: rustup target add {target}"))
}

/// Where to get the programs that templates call.
const GET: [(&str, &str); 8] = [
    ("cargo", "https://rustup.rs"),
    ("go", "https://go.dev/dl"),
    ("npm", "it comes with Node.js, https://nodejs.org"),
    ("npx", "it comes with Node.js, https://nodejs.org"),
    ("python3", "https://www.python.org"),
    ("componentize-py", "pip install componentize-py"),
    ("make", "it comes with your system's build tools (build-essential, Xcode)"),
    ("wasm-tools", "cargo install wasm-tools --locked"),
];

fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_says_what_is_missing() {
        let here = Path::new(".");
        let of = |command: &str, code: i32| hint(command, Some(code), here).unwrap_or_default();
        assert!(of("componentize-py -w x", 127).contains("pip install componentize-py"));
        if !is_here("go") {
            assert!(of("go run ./component", 127).contains("https://go.dev/dl"));
        }
        assert!(of("nobody-has-this", 127).contains("a program that the command calls is not installed"));
        assert!(of("cargo build --target wasm32-wasi", 101).contains("wasm32-wasip1"));
        assert!(of("cargo build --target=no-such-target", 101).contains("rustup target add no-such-target"));
        assert_eq!(of("make", 2), "");
    }
}
