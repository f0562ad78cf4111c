#!/usr/bin/env bash
# Measures what storage costs a guest: one get or one set for each request, through the gateway and through a bare hyper + rustls + redis
# program with as many connections to the same Redis, in turn. It repeats the sets with a quota of data, whose sums are kept with each
# write, and runs redis-benchmark for scale. The server has one core; load and Redis have the rest.
# You can set SECONDS_EACH and ROUNDS; both are bounded.
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need oha "cargo install --locked oha"
need redis-server "Debian's package redis-server"
seconds=${SECONDS_EACH:-3} rounds=${ROUNDS:-3}
[ "$seconds" -le 60 ] && [ "$rounds" -le 10 ] || { echo "too long" >&2; exit 2; }
(cd "$top" && cargo build --release --locked -p gateway -p loadtest --bin bare && cargo build --release --locked -p gateway --bin tollgate)

dir=$out/storage
quota=$'[quota]\nin_flight = 1000\nwaiting = 1000'
site "$dir" $'[storage]\ntimeout = "5s"'
tenant "$dir" plain kv "$quota"
tenant "$dir" counted kv "$quota"$'\nstorage = { bytes = "1GiB", keys = 1000000 }'
port=$((20000 + RANDOM % 20000))
"${load_cores[@]}" redis-server --port "$port" --save "" --dir "$dir" >/dev/null &
pids+=($!)
sleep 1
SITE=$dir start_tollgate "$dir/state" --storage "redis://127.0.0.1:$port"
bare_said=$(mktemp)
on_server_core "$target/release/bare" 127.0.0.1:0 "redis://127.0.0.1:$port" >"$bare_said" &
pids+=($!)
for _ in $(seq 100); do bare=$(head -n1 "$bare_said"); [ -n "$bare" ] && break; sleep 0.1; done
value=$(printf 'x%.0s' $(seq 100))
results=$(mktemp)
# row NAME CALL CONNECTIONS ADDRESS HOST PATH …: one run.
row() {
    local name=$1 call=$2 connections=$3
    shift 3
    send "$@" -z "${seconds}s" -c "$connections" >"$out/row.json"
    python3 - "$out/row.json" "$name" "$call" "$connections" >>"$results" <<'PY'
import json, sys
run = json.load(open(sys.argv[1])); codes = run["statusCodeDistribution"]
assert set(codes) == {"200"}, codes
print(*sys.argv[2:], run["summary"]["requestsPerSec"], run["latencyPercentiles"]["p50"] * 1e6, run["latencyPercentiles"]["p99"] * 1e6)
PY
}
for tenant in plain counted; do send "$tollgate" $tenant.localhost /-/set/k -m POST -d "$value" -n 50 -c 5 >/dev/null; done
for _ in $(seq "$rounds"); do
    for c in 1 32 256; do
        row bare get $c "$bare" localhost /
        row gateway get $c "$tollgate" plain.localhost /-/get/k
        row bare set $c "$bare" localhost / -m POST -d "$value"
        row gateway set $c "$tollgate" plain.localhost /-/set/k -m POST -d "$value"
        row counted set $c "$tollgate" counted.localhost /-/set/k -m POST -d "$value"
    done
done
python3 - "$results" <<'PY'
import collections, statistics, sys
rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    name, call, connections, *figures = line.split()
    rows[call, int(connections), name].append([float(figure) for figure in figures])
print(f"{'call':4} {'connections':>11} {'through':8} {'requests/s':>10} {'p50 µs':>8} {'p99 µs':>8} {'of bare':>8} {'p50 added µs':>13}")
for (call, connections, name), runs in sorted(rows.items()):
    rate, p50, p99 = (statistics.median(column) for column in zip(*runs))
    bare = rows[call, connections, "bare"]
    bare_rate, bare_p50 = statistics.median(r[0] for r in bare), statistics.median(r[1] for r in bare)
    print(f"{call:4} {connections:11} {name:8} {rate:10.0f} {p50:8.0f} {p99:8.0f} {rate / bare_rate:8.2f} {p50 - bare_p50:13.0f}")
PY
for c in 1 32 256; do
    echo "redis-benchmark, $c connections:"
    redis-benchmark -p "$port" -c $c -n 50000 -d 100 -t set,get -q | tr '\r' '\n' | grep -E "requests per second"
done
