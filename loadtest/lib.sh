# The scripts beside this file source it. It starts servers on their own core, and ends them by their process ids.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
out=$here/out
mkdir -p "$out"
# With this set, programs that contain Wasmtime are a tenth slower.
unset RUST_BACKTRACE

# The server has one core, and the load has the others. With one core only, the figures mean little.
cores=$(nproc)
# Use it in the background only: it replaces the shell, so that the job's id is the server's.
on_server_core() { if [ "$cores" -gt 1 ]; then exec taskset -c 0 "$@"; else exec "$@"; fi; }
load_cores=()
[ "$cores" -gt 1 ] && load_cores=(taskset -c "1-$((cores - 1))")

pids=()
end_servers() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; }
trap end_servers EXIT

need() { command -v "$1" >/dev/null || { echo "$1 is needed: $2" >&2; exit 1; }; }

# operators PATH: prints the answer of the operators' API of the gateway that was started last.
operators() { curl -s -H "Authorization: Bearer $(cat "$admin_token")" "http://$admin$1"; }

# start_tollgate STATE [ARGUMENTS …]: starts a gateway. Sets $tollgate to its HTTPS address, $admin to its admin address and
# $server to its process id. SITE may name a folder with config/gateway.toml in it; the default is the repository.
start_tollgate() {
    local state=$1 said
    shift
    said=$(mktemp)
    on_server_core "$target/release/tollgate" serve --config "${SITE:-$top}/config/gateway.toml" --state "$state" \
        --https 127.0.0.1:0 --http 127.0.0.1:0 --admin 127.0.0.1:0 "$@" >"$said" 2>"$state.log" &
    server=$!
    pids+=("$server")
    for _ in $(seq 3000); do
        tollgate=$(sed -n 's/^https  *//p' "$said")
        if [ -n "$tollgate" ]; then
            admin=$(sed -n 's/^admin  *//p' "$said") admin_token=$state/admin.token
            # The gateway listens before all components are compiled.
            until curl -sf -o /dev/null "http://$admin/readyz"; do kill -0 "$server" && sleep 0.1; done
            rm -f "$said"
            return
        fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    echo "tollgate did not start: see $state.log" >&2
    exit 1
}

# site DIR [LINES OF THE GATEWAY'S FILE]: makes a folder with a gateway's file, for scenarios with their own tenants.
guests=${TOLLGATE_GUESTS:-$top/tests/guests/target/components}
site() {
    rm -rf "$1" && mkdir -p "$1/config" "$1/tenants"
    printf 'schema = 1\n[telemetry]\nformat = "json"\n%s\n' "${2:-}" >"$1/config/gateway.toml"
}

# tenant DIR ID GUEST [LINES BEFORE THE COMPONENT]: adds a tenant to that folder.
tenant() {
    [ -f "$guests/$3.wasm" ] || { echo "$guests/$3.wasm is missing: run make guests" >&2; exit 1; }
    mkdir -p "$1/tenants/$2"
    printf 'schema = 1\nhosts = ["%s.localhost"]\n%s\n[[component]]\nname = "site"\nsource = "%s"\nstores = ["default"]\n[[route]]\npath = "/..."\ncomponent = "site"\n' \
        "$2" "${4:-}" "$guests/$3.wasm" >"$1/tenants/$2/tenant.toml"
}

# send ADDRESS HOST PATH [OHA'S ARGUMENTS …]: one bounded run of oha. Prints its report in JSON, or in the format $report.
send() {
    local address=$1 host=$2 path=$3
    shift 3
    "${load_cores[@]}" oha --no-tui --insecure --output-format "${report:-json}" --connect-to "$host:443:$address" "$@" "https://$host$path"
}
