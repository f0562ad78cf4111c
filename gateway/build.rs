//! Assembles the gateway's own guests from `wat/`: what looks whether slots are clean, and the canary in its two kinds.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=wat");
    println!("cargo::rerun-if-changed=build.rs");
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
