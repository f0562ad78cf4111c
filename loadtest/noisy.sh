#!/usr/bin/env bash
# A noisy neighbour: tenant B at a steady rate while tenant A does one harm after the other; B's p99 beside A against B's
# alone, in turn, in one run. The last rows are the same with fair turns off, for contrast.
#
# REQUESTS (of B, a round), RATE, ROUNDS and COLD (components of A) may be set; all are bounded.
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need oha "cargo install --locked oha"
need python3 "any Python 3"
requests=${REQUESTS:-2000} rate=${RATE:-200} rounds=${ROUNDS:-3} cold=${COLD:-60}
[ "$requests" -le 20000 ] && [ "$rounds" -le 10 ] && [ "$cold" -le 200 ] || { echo "too much" >&2; exit 2; }
(cd "$top" && cargo build --release --locked -p gateway --bin tollgate)

dir=$out/noisy
limits='[limits]
fuel = "200M"
memory = "64MiB"
time = "2s"
storage_ops = 1000000'
# The cache holds a few components only, so that most of the storm finds its component cold.
site "$dir" $'[sandbox]\ncache = "8MiB"'
tenant "$dir" b echo
tenant "$dir" a hostile "$limits"
tenant "$dir" store kv "$limits"
tenant "$dir" rated hostile "$limits"$'\n[quota]\nrequests = { rate = 200, per = "1s", burst = 200 }'
# A hostile guest again and again, each with other bytes at its end (a custom section), so each with another digest.
python3 - "$guests/hostile.wasm" "$dir/tenants/cold" "$cold" <<'PY'
import os, sys
wasm, dir, count = open(sys.argv[1], "rb").read(), sys.argv[2], int(sys.argv[3])
os.makedirs(dir)
text = 'schema = 1\nhosts = ["cold.localhost"]\n'
for n in range(count):
    name = b"n%06d" % n
    open(f"{dir}/{n}.wasm", "wb").write(wasm + bytes([0, len(name) + 1, len(name)]) + name)
    text += f'[[component]]\nname = "c{n}"\nsource = "{n}.wasm"\n[[route]]\npath = "/{n}"\ncomponent = "c{n}"\n'
open(f"{dir}/tenant.toml", "w").write(text)
PY

results=$(mktemp)
# harm NAME: what A does until it is killed, or for a minute. Its clients are nice to B's, which run on the same core: what
# is measured is the server.
harm() {
    renice -n 19 -p "$BASHPID" >/dev/null
    case $1 in
    # Again, for how much two rows differ by themselves.
    alone | again) exec sleep 60 ;;
    loop) send "$tollgate" a.localhost /loop -z 60s -c 256 ;;
    grow) send "$tollgate" a.localhost /grow -z 60s -c 256 ;;
    fill) send "$tollgate" a.localhost /fill -z 60s -c 256 ;;
    storage) send "$tollgate" store.localhost /-/flood/key -m POST -d value -z 60s -c 256 ;;
    # An expression that each of the paths matches, and nothing else.
    cold) send "$tollgate" cold.localhost "/($(seq -s '|' 0 $((cold - 1))))" --rand-regex-url -z 60s -c 256 ;;
    rate) send "$tollgate" rated.localhost /ok -z 60s -c 256 -q 2000 ;;
    esac >/dev/null 2>&1
}
# measure LABEL HARM PROTOCOL: one round of B beside A.
measure() {
    local version=()
    # Few connections, so that their handshakes are not the slowest of a hundred.
    [ "$3" = h2 ] && version=(--http2 -c 2 -p 4) || version=(-c 8)
    (harm "$2") &
    local noise=$!
    sleep 2
    send "$tollgate" b.localhost /head -n "$requests" -q "$rate" --latency-correction "${version[@]}" >"$out/b.json"
    pkill -P "$noise" 2>/dev/null || true
    kill "$noise" 2>/dev/null || true
    wait "$noise" 2>/dev/null || true
    python3 - "$out/b.json" "$1" "$2" "$3" >>"$results" <<'PY'
import json, sys
run = json.load(open(sys.argv[1]))
codes = run["statusCodeDistribution"]
failed = sum(codes.values()) - codes.get("200", 0) + sum(run["errorDistribution"].values())
p = run["latencyPercentiles"]
print(sys.argv[2], sys.argv[3], sys.argv[4], p["p50"] * 1000, p["p99"] * 1000, codes.get("200", 0), failed)
PY
    sleep 1
}

echo "B: $requests requests at $rate/s a round, $rounds rounds in turn; A: 256 connections; server on one core"
start() {
    SITE=$dir start_tollgate "$dir/state" "$@"
    for warm in /0 /head; do send "$tollgate" b.localhost "$warm" -n 50 -c 5 >/dev/null; done
}
start
for _ in $(seq "$rounds"); do
    for protocol in h1 h2; do
        for noise in alone again loop grow fill storage cold rate; do measure fair "$noise" "$protocol"; done
    done
done
kill "$server" && wait "$server" 2>/dev/null || true
sed -i 's/^\[sandbox\]/[sandbox]\nfair_turns = false/' "$dir/config/gateway.toml"
start
for _ in $(seq "$rounds"); do for noise in alone loop fill; do measure unfair "$noise" h1; done; done

python3 - "$results" <<'PY'
import collections, statistics, sys
rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    label, noise, protocol, *figures = line.split()
    rows[label, protocol, noise].append([float(figure) for figure in figures])
print(f"{'turns':7} {'B over':6} {'A':8} {'B p50 ms':>9} {'B p99 ms':>9} {'× alone':>8} {'200':>6} {'failed':>6}  within 2× or 2 ms")
bad = 0
for (label, protocol, noise), runs in rows.items():
    p50, p99, served, failed = (statistics.median(column) for column in zip(*runs))
    failed = sum(run[3] for run in runs)
    alone = statistics.median(run[1] for run in rows[label, protocol, "alone"])
    held = p99 <= max(2 * alone, alone + 2) and failed == 0
    bad += label == "fair" and not held
    print(f"{label:7} {protocol:6} {noise:8} {p50:9.2f} {p99:9.2f} {p99 / alone:8.2f} {served:6.0f} {failed:6.0f}  {'yes' if held else 'NO'}")
sys.exit(bad > 0)
PY
