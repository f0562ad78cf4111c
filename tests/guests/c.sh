#!/usr/bin/env bash
# Prints the environment that builds the template http-c here, one variable per line, and fetches what it needs: wit-bindgen
# from Cargo's registry, and on Debian its clang, unpacked into a cache folder; nothing is installed. If /opt/wasi-sdk
# exists, or WASI_SDK names a folder, it uses that.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${TOLLGATE_C_TOOLCHAIN:-${XDG_CACHE_HOME:-$HOME/.cache}/tollgate/c-toolchain}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target}/wit-bindgen

if ! [ -x "$cache/bin/wit-bindgen" ]; then
    (cd "$here" && cargo install wit-bindgen-cli@0.63.0 --locked --root "$cache" >&2)
fi
echo "WIT_BINDGEN=$cache/bin/wit-bindgen"
[ ! -x "${WASI_SDK:-/opt/wasi-sdk}/bin/clang" ] || exit 0

# wasi-libc and the linker's path to wasm-ld are those of the Rust guests.
path=$("$here/build.sh" --env | sed -n 's/^PATH=//p')
libc=${TOLLGATE_GUEST_TOOLCHAIN:-${XDG_CACHE_HOME:-$HOME/.cache}/tollgate/guest-toolchain}/usr
[ -d "$libc/include/wasm32-wasi" ] || { echo "c.sh: there is neither a WASI SDK nor Debian's wasi-libc in $libc" >&2; exit 1; }
llvm=$cache/usr/lib/llvm-14
if ! [ -x "$llvm/bin/clang" ]; then
    rm -rf "$cache/debs" && mkdir -p "$cache/debs"
    (cd "$cache/debs" && apt-get download -qq clang-14 libclang-rt-14-dev-wasm32 libclang-common-14-dev libllvm14 libclang-cpp14 >&2)
    for deb in "$cache"/debs/*.deb; do dpkg -x "$deb" "$cache"; done
    rm -rf "$cache/debs"
fi
linker=$(cd "$here" && rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/wasm-component-ld
echo "PATH=$path"
echo "LD_LIBRARY_PATH=$cache/usr/lib/x86_64-linux-gnu:$llvm/lib"
echo "CC=$llvm/bin/clang --target=wasm32-wasi --sysroot=$libc -isystem $libc/include/wasm32-wasi -fuse-ld=$linker"
