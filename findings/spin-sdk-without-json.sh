#!/usr/bin/env bash
# spin-sdk 3.1.1 does not compile without its feature `json`.
#
# Version:   spin-sdk 3.1.1 (Cargo's registry), checked with Rust 1.95.0.
# Source:    src/http/conversions.rs imports `JsonBodyError` and `Json` without a condition; src/http.rs has both behind
#            `#[cfg(feature = "json")]`.
# Behaviour: `default-features = false` ends with E0432 (unresolved import). With the default features it compiles.
# Expected:  a crate with `default = ["export-sdk-language", "json"]` compiles without its defaults, as 2.1.0 and 5.2.0 of the
#            same crate do.
# Seen:      2026-12-01: error[E0432]: unresolved import `super::JsonBodyError`.
#
# Exits with 0 while this holds, and with 1 when it does not any more.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
echo '' >src/lib.rs
manifest() {
    printf '[package]\nname = "finding"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nspin-sdk = %s\n' "$1" >Cargo.toml
    rm -f Cargo.lock
}
export CARGO_TARGET_DIR="$work/target" RUSTUP_AUTO_INSTALL=0
manifest '{ version = "=3.1.1", default-features = false }'
if cargo check -q >without.log 2>&1; then
    echo "spin-sdk 3.1.1 compiles without its default features now" >&2
    exit 1
fi
grep -m1 'unresolved import `super::JsonBodyError`' without.log || { echo "another error than the one seen:" >&2; cat without.log >&2; exit 1; }
manifest '"=3.1.1"'
cargo check -q >with.log 2>&1 || { echo "spin-sdk 3.1.1 does not compile with its default features either:" >&2; cat with.log >&2; exit 1; }
echo "spin-sdk 3.1.1: default-features = false fails, the default compiles"
