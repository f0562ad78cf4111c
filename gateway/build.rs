//! Assembles the gateway's own guests from `wat/`: the slot probe, which checks whether pool slots are clean, and both
//! kinds of the canary. Finds out whether a profile orders the code of the binary.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=wat");
    println!("cargo::rerun-if-changed=build.rs");
    // The commit is not determined here: each time this build script runs again, cargo compiles the whole crate again.
    println!("cargo::rerun-if-env-changed=RUSTFLAGS");
    if let Some(profile) = profile(&std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default()) {
        println!("cargo::rustc-env=TOLLGATE_PROFILE={profile}");
    }
    let out = std::env::var("OUT_DIR")?;
    let read = |name: &str| std::fs::read_to_string(Path::new("wat").join(name));
    let write = |name: &str, text: &str| -> Result<(), Box<dyn std::error::Error>> {
        Ok(std::fs::write(Path::new(&out).join(name), wat::parse_str(text)?)?)
    };
    write("slot.wasm", &read("slot.wat")?)?;
    let canary = read("canary.wat")?;
    for kind in ["canary-single", "canary-concurrent"] {
        let head = read(&format!("{kind}.wat"))?;
        write(&format!("{kind}.wasm"), &format!("(component\n{canary}{head})"))?;
    }
    Ok(())
}

/// Name of the profile in rustc's flags, without its folder and extension. `make pgo` names a profile by its digest.
fn profile(flags: &str) -> Option<String> {
    let path = flags.split('\x1f').find_map(|flag| flag.split_once("profile-use=").map(|(_, path)| path))?;
    Some(Path::new(path).file_stem()?.to_string_lossy().into_owned())
}
