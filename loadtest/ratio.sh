#!/usr/bin/env bash
# `hello` against bare hyper + rustls (gateway/benches/bare.rs): the same oha run on each, in turn, one core each.
# ROUNDS, SECONDS_EACH and CONNECTIONS may be set; all are bounded.
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need oha "cargo install --locked oha"
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-5} connections=${CONNECTIONS:-32}

# One after the other: an example comes with the features of tests, which the gateway is not shipped with.
(cd "$top" && cargo build --release --locked -p gateway --example bare && cargo build --release --locked -p gateway --bin tollgate)
start_tollgate "$out/state"
bare_said=$(mktemp)
on_server_core "$target/release/examples/bare" 127.0.0.1:0 >"$bare_said" &
pids+=($!)
for _ in $(seq 100); do bare=$(head -n1 "$bare_said"); [ -n "$bare" ] && break; sleep 0.1; done

# run URL HOST PROTOCOL: requests/s, p50 and p99 in ms, and how many were not 200.
run() {
    local version=()
    [ "$3" = h2 ] && version=(--http2 -p 4)
    on_load_cores oha -z "${seconds}s" -c "$connections" "${version[@]}" --no-tui --insecure --output-format json \
        --connect-to "$2:443:$1" "https://$2/" |
        python3 -c '
import json, sys
run = json.load(sys.stdin)
codes = run["statusCodeDistribution"]
other = sum(codes.values()) - codes.get("200", 0)
p = run["latencyPercentiles"]
print(run["summary"]["requestsPerSec"], p["p50"] * 1000, p["p99"] * 1000, other)'
}

for protocol in h1 h2; do
    echo "$protocol: $connections connections, $rounds rounds of ${seconds}s, server on one core, load on the rest"
    results=$(mktemp)
    for round in $(seq "$rounds"); do
        echo "bare $(run "$bare" localhost "$protocol")" >>"$results"
        echo "hello $(run "$tollgate" hello.localhost "$protocol")" >>"$results"
    done
    python3 - "$results" <<'PY'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
median = {}
for name in ("bare", "hello"):
    mine = [[float(x) for x in row[1:]] for row in rows if row[0] == name]
    rps, p50, p99, other = (statistics.median(column) for column in zip(*mine))
    spread = " ".join(f"{row[0]:.0f}" for row in mine)
    median[name] = rps
    print(f"  {name:5}  {rps:8.0f} requests/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   not 200: {other:.0f}   ({spread})")
print(f"  ratio  {median['hello'] / median['bare']:.3f} of the bare stack")
PY
done
