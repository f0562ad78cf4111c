#!/usr/bin/env bash
# Starts a gateway with nothing compiled on a busy machine: LOOPS endless loops run beside it. It has the demo tenants and one component
# each in JavaScript and Python. Each component has to be served in the end, as soon as it is ready, and none may be refused.
#
# The times that it prints are for reading. It fails if a component is refused, or is not served within LIMIT seconds. TOLLGATE names the
# program. JS and PY name components that exist already; otherwise templates are built, from npm and PyPI.
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need curl "any version"
loops=${LOOPS:-8} limit=${LIMIT:-1800}
[ "$loops" -le 32 ] && [ "$limit" -le 3600 ] || { echo "too much" >&2; exit 2; }
program=${TOLLGATE:-$target/release/tollgate}
[ -x "$program" ] || (cd "$top" && cargo build --release --locked -p gateway --bin tollgate)

dir=$out/busy
rm -rf "$dir"
mkdir -p "$dir/config" "$dir/tenants"
cp -r "$top"/tenants/*/ "$dir/tenants/"
printf 'schema = 1\nstate = "../state"\n[tenants]\ndir = "../tenants"\n' >"$dir/config/gateway.toml"
# interpreted ID TEMPLATE COMPONENT: a tenant with a component that brings an engine.
interpreted() {
    mkdir -p "$dir/tenants/$1"
    if [ -n "$3" ]; then
        cp "$3" "$dir/tenants/$1/$1.wasm"
    else
        (cd "$dir" && "$program" new "$2" "$1" && cd "$1" && "$program" build && cp "$1.wasm" "$dir/tenants/$1/")
    fi
    printf 'schema = 1\nhosts = ["%s.localhost"]\n[limits]\nfuel = "10G"\nmemory = "128MiB"\ntime = "60s"\n[[component]]\nname = "site"\nsource = "%s.wasm"\n[[route]]\npath = "/..."\ncomponent = "site"\n' \
        "$1" "$1" >"$dir/tenants/$1/tenant.toml"
}
interpreted script http-js "${JS:-}"
interpreted snake http-python "${PY:-}"
waiting=()
for tenant in "$dir"/tenants/*/tenant.toml; do waiting+=("$(basename "$(dirname "$tenant")")"); done

for _ in $(seq "$loops"); do
    # Bounded, in case this script is killed in a way that its trap cannot catch.
    timeout $((limit + 120)) sh -c 'while :; do :; done' &
    pids+=("$!")
done
"$program" serve --config "$dir/config/gateway.toml" --https 127.0.0.1:0 --http 127.0.0.1:0 --admin 127.0.0.1:0 >"$dir/said" 2>"$dir/log" &
server=$!
pids+=("$server")
began=$SECONDS
since() { echo "$((SECONDS - began)) s"; }
until address=$(sed -n 's/^https  *//p' "$dir/said") && [ -n "$address" ]; do
    kill -0 "$server" && [ $((SECONDS - began)) -lt "$limit" ] || { tail "$dir/log" >&2; exit 1; }
    sleep 0.2
done
echo "$(since): it listens, with $loops endless loops beside it on $cores processors; $(uptime | sed 's/.*load/load/')"
ask() { curl -s -o "$dir/answer" -w '%{http_code}' --max-time 30 --cacert "$dir/state/tls/ca.pem" --resolve "*:${address##*:}:127.0.0.1" "https://$1.localhost:${address##*:}/" || true; }
declare -A said
while [ ${#waiting[@]} -gt 0 ]; do
    [ $((SECONDS - began)) -lt "$limit" ] || { echo "not served within $limit s: ${waiting[*]}" >&2; exit 1; }
    still=()
    for id in "${waiting[@]}"; do
        status=$(ask "$id")
        # Not every demo tenant has a page at `/`; a 404 comes from its active configuration.
        if [ "$status" = 200 ] || [ "$status" = 303 ] || [ "$status" = 404 ]; then
            echo "$(since): $id is served ($status)"
            continue
        fi
        still+=("$id")
        now="$status $(grep -o 'problem:[a-z-]*' "$dir/answer" 2>/dev/null || true)"
        [ "${said[$id]:-}" = "$now" ] || { said[$id]=$now; echo "$(since): $id has to wait: $now"; }
    done
    waiting=("${still[@]}")
    [ ${#waiting[@]} -eq 0 ] || sleep 1
done
echo "$(since): all are served"
grep -c 'begun anew' "$dir/log" | sed 's/$/ compilers were starved, and begun anew/' || true
if grep -E 'E03(09|10)' "$dir/log" || ls "$dir"/state/compiled/*.refused 2>/dev/null; then
    echo "a component was refused" >&2
    exit 1
fi
