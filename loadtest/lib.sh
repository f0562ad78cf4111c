# Sourced by the scripts beside it: starts servers on a core of their own and ends them by their id.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
out=$here/out
mkdir -p "$out"

# One core for the server, the others for the load; where there is one core only, the figures mean little.
cores=$(nproc)
# Only in the background: it takes the shell's place, so that the job's id is the server's.
on_server_core() { if [ "$cores" -gt 1 ]; then exec taskset -c 0 "$@"; else exec "$@"; fi; }
on_load_cores() { if [ "$cores" -gt 1 ]; then taskset -c "1-$((cores - 1))" "$@"; else "$@"; fi; }

pids=()
end_servers() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; }
trap end_servers EXIT

need() { command -v "$1" >/dev/null || { echo "$1 is needed: $2" >&2; exit 1; }; }

# start_tollgate STATE [ARGUMENTS …]: sets $tollgate to its HTTPS address.
start_tollgate() {
    local state=$1 said
    shift
    said=$(mktemp)
    on_server_core "$target/release/tollgate" serve --config "$top/config/gateway.toml" --state "$state" \
        --https 127.0.0.1:0 --http 127.0.0.1:0 --admin 127.0.0.1:0 "$@" >"$said" 2>"$out/tollgate.log" &
    pids+=($!)
    for _ in $(seq 300); do
        tollgate=$(sed -n 's/^https  *//p' "$said")
        if [ -n "$tollgate" ]; then rm -f "$said"; return; fi
        sleep 0.1
    done
    echo "tollgate did not start: see $out/tollgate.log" >&2
    exit 1
}
