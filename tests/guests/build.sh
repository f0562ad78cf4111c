#!/usr/bin/env bash
# Builds every guest from source: `make guests`.
#
#   tests/guests/build.sh            into tests/guests/target/components/
#   tests/guests/build.sh --demos    and puts the demo tenants' components, with the hash of their source, into tenants/
#   tests/guests/build.sh --env      prints the environment in which cargo builds a component here, a variable a line
#   tests/guests/build.sh --hash DIR prints the source hash of one tenant's folder, as the record has it
#
# Either of two toolchains works; this script installs neither with rustup:
#   1. a wasm32-wasip2 target that is already installed (`rustup target add wasm32-wasip2`, on your own machine);
#   2. Debian's rustc-web with its library source and wasi-libc, unpacked into a cache folder; no root, nothing installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${TOLLGATE_GUEST_TOOLCHAIN:-${XDG_CACHE_HOME:-$HOME/.cache}/tollgate/guest-toolchain}
target=${TOLLGATE_GUEST_TARGET:-$here/target}
export CARGO_TARGET_DIR=$target RUSTUP_AUTO_INSTALL=0

# Hashes a tenant's source: each file in the folders below its own, with its name, in byte order of the names.
source_hash() (
    cd "$1"
    find . -mindepth 2 -type f -printf '%P\n' | LC_ALL=C sort | while read -r file; do sha256sum "$file"; done | sha256sum | cut -d' ' -f1
)

if [ "${1:-}" = --hash ]; then
    source_hash "$2"
    exit
fi

fail() {
    cat >&2 <<'TEXT'
make guests: no toolchain for wasm32-wasip2 was found. Either
  - run `rustup target add wasm32-wasip2` and try again, or
  - on Debian 12, run `apt-get update` and try again: apt-get and dpkg fetch what is needed into a cache folder.
Running the gateway (`make run`) needs neither: the demo tenants' components are in the repository.
TEXT
    [ $# -eq 0 ] || echo "The reason: $*" >&2
    exit 1
}

# Some of the guests need Rust 1.94.
rustc_minor_min=94

has_debian_toolchain() {
    local minor
    minor=$("$target/rustc" --version 2>/dev/null | cut -d. -f2) && [ "${minor:-0}" -ge "$rustc_minor_min" ]
}

fetch_debian_toolchain() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "neither the target nor apt-get is here"
    # The package lists of a fresh machine name an older version, which updates have since replaced.
    [ "$(id -u)" != 0 ] || apt-get update -qq || true
    local names
    names=$(apt-get install --print-uris --no-install-recommends -qq rustc-web rust-web-src wasi-libc 2>/dev/null | cut -d' ' -f2 | cut -d_ -f1 |
        grep -E '^(libllvm[0-9]+|libstd-rust-web-.*|rust-web-src|rustc-web|wasi-libc)$' || true)
    if ! grep -qx rustc-web <<<"$names"; then
        # They are installed already, or the package lists are missing.
        if dpkg -s rustc-web rust-web-src wasi-libc >/dev/null 2>&1; then rm -rf "$cache" && ln -s / "$cache" && has_debian_toolchain && return; fi
        fail "apt-get does not know rustc-web; its lists may be old"
    fi
    echo "make guests: fetching Debian's Rust for WebAssembly (about 140 MB) into $cache" >&2
    local work="$cache.new.$$"
    rm -rf "$work" && mkdir -p "$work/debs"
    # shellcheck disable=SC2086 # The list is words on purpose.
    (cd "$work/debs" && apt-get download -qq $names 2>&1 | grep -v unsandboxed || true)
    for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work"; done
    rm -rf "$work/debs" "$cache" && mv "$work" "$cache"
    has_debian_toolchain || fail "the packages were fetched, but their rustc is not there or older than 1.$rustc_minor_min (apt-get update, as root)"
}

sysroot=$(cd "$here" && rustc --print sysroot) || fail "there is no rustc"
host=$(cd "$here" && rustc -vV | sed -n 's/^host: //p')
extra=()
if [ -d "$sysroot/lib/rustlib/wasm32-wasip2/lib" ] && [ -z "${TOLLGATE_GUESTS_DEBIAN:-}" ]; then
    flags=""
    library="$sysroot/lib/rustlib/src/rust"
else
    bin="$sysroot/lib/rustlib/$host/bin"
    [ -x "$bin/wasm-component-ld" ] || fail "$bin has no wasm-component-ld"
    mkdir -p "$target"
    # Cargo runs this wrapper: Debian's compiler with the libraries beside it. It is moved into place in one step, because
    # another run of this script may be executing the present one.
    cat >"$target/rustc.$$" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH="$cache/usr/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" exec "$cache/usr/bin/rustc" "\$@"
WRAPPER
    chmod +x "$target/rustc.$$"
    if cmp -s "$target/rustc.$$" "$target/rustc"; then rm "$target/rustc.$$"; else mv "$target/rustc.$$" "$target/rustc"; fi
    has_debian_toolchain || fetch_debian_toolchain
    export RUSTC="$target/rustc" RUSTC_BOOTSTRAP=1 PATH="$PATH:$bin/gcc-ld"
    export CARGO_TARGET_WASM32_WASIP2_LINKER="$bin/wasm-component-ld" CARGO_TARGET_WASM32_WASIP1_LINKER="$bin/rust-lld"
    flags="-L native=$cache/usr/lib/wasm32-wasi"
    library="$("$RUSTC" --print sysroot)/lib/rustlib/src/rust"
    extra=(-Zbuild-std=std,panic_abort)
fi

# No path of this machine may appear in a component: the same source gives the same bytes with the same toolchain. If
# several prefixes match, rustc takes the last.
for pair in "$HOME=/home" "$top=/tollgate" "$target=/target" "${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    "$(readlink -f "$library")=/rust" "$library=/rust"; do
    flags+=" --remap-path-prefix=$pair"
done
export CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS="$flags" CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$flags"

if [ "${1:-}" = --env ]; then
    [ ${#extra[@]} -eq 0 ] || export CARGO_UNSTABLE_BUILD_STD=std,panic_abort
    env | grep -E '^(CARGO_TARGET_|CARGO_UNSTABLE_|RUSTC|RUSTUP_AUTO_INSTALL|PATH)'
    exit
fi

(cd "$here" && cargo build --release --locked --target wasm32-wasip2 "${extra[@]}" --workspace --exclude 'spin-0*')
(cd "$top/tenants" && cargo build --release --locked --target wasm32-wasip2 "${extra[@]}")

# Core modules, as SDKs and templates made them before the target wasm32-wasip2 existed. Those of Spin 0.5 and 1.x have no
# component beside them.
modules=(spin-0-http spin-0-redis spin-sdk-2 spin-sdk-3 spin-sdk-5 messages-2 messages-3 messages-5)
(cd "$here" && cargo build --release --locked --target wasm32-wasip1 "${extra[@]}" "${modules[@]/#/-p}")

mkdir -p "$target/components"
for module in "${modules[@]}"; do
    cp "$target/wasm32-wasip1/release/${module//-/_}.wasm" "$target/components/$module-module.wasm"
done
for wasm in "$target"/wasm32-wasip2/release/*.wasm; do
    name=$(basename "$wasm" .wasm)
    cp "$wasm" "$target/components/${name//_/-}.wasm"
done

if [ "${1:-}" = --demos ]; then
    while read -r tenant component package; do
        cp "$target/components/$package.wasm" "$top/tenants/$tenant/$component.wasm"
        source_hash "$top/tenants/$tenant" >"$top/tenants/$tenant/source.sha256"
    done <<'LIST'
hello site hello-site
counter site counter-site
links site links-site
rps rock rps-rock
rps paper rps-paper
rps scissors rps-scissors
LIST
    template=$top/gateway/templates/static-fileserver
    cp "$target/components/static-fileserver.wasm" "$template/fileserver.wasm"
    sha256sum <"$top/gateway/templates/static-files/lib.rs.in" | cut -d' ' -f1 >"$template/source.sha256"
fi
ls -l "$target/components" | awk 'NR > 1 { printf "%9d  %s\n", $5, $9 }'
