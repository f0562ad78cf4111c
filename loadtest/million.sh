#!/usr/bin/env bash
# Works with a million keys of one tenant: imports them into the embedded store, lets the tenant's guest list them while another tenant is
# served, exports them, and imports them into a Redis Cluster of three primaries with a replica each. It prints times, memory and counts.
# You can set KEYS, to two million at most.
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need oha "cargo install --locked oha"
need python3 "any Python 3"
need redis-server "Debian's package redis-server"
keys=${KEYS:-1000000}
[ "$keys" -le 2000000 ] || { echo "too many" >&2; exit 2; }
(cd "$top" && cargo build --release --locked -p gateway --bin tollgate)

dir=$out/million
site "$dir"
tenant "$dir" b echo
tenant "$dir" a kv $'[limits]\nfuel = "100G"\nmemory = "512MiB"\ntime = "60s"\nstorage_ops = 100000'
kv() { "$target/release/tollgate" kv "$@" --tenant a --config "$dir/config/gateway.toml" --state "$state" --admin "$admin"; }
# timed LABEL COMMAND …: prints how long it took, and the peak memory of the command and of the gateway meanwhile.
timed() {
    local label=$1 before own peak
    shift
    # Resets the peak, so that it belongs to this command (proc_pid_clear_refs(5)).
    echo 5 >"/proc/$server/clear_refs"
    before=$(date +%s.%N)
    own=$({ /usr/bin/env python3 - "$@" <<'PY'
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(done.returncode)
PY
    })
    peak=$(($(awk '/VmHWM/ { print $2 }' "/proc/$server/status") / 1024))
    python3 -c "print(f'{\"$label\":38} {$(date +%s.%N) - $before:7.1f} s   command $own MiB, gateway $peak MiB at the most')"
}
listing() { send "$tollgate" a.localhost /-/list/x -m POST -n 1 -c 1 -t 120s >"$out/list.json"; }
neighbour() {
    send "$tollgate" b.localhost /head -n 2000 -q 200 --latency-correction -c 8 >"$out/b.json"
    python3 -c "
import json
run = json.load(open('$out/b.json')); p = run['latencyPercentiles']; codes = run['statusCodeDistribution']
print(f'  $1: p50 {p[\"p50\"] * 1000:.2f} ms, p99 {p[\"p99\"] * 1000:.2f} ms, {codes.get(\"200\", 0)} of 2000 answered 200')"
}

python3 - "$keys" "$dir/million.jsonl" <<'PY'
import json, sys
count = int(sys.argv[1])
with open(sys.argv[2], "w") as out:
    out.write('{"tollgate":1,"tenant":"a"}\n')
    for n in range(count):
        out.write(json.dumps({"store": "default", "key": f"key-{n:07}", "value": f"value {n} " + "x" * 80}) + "\n")
    out.write(json.dumps({"pairs": count, "raw": 0}) + "\n")
PY
# shellcheck disable=SC2034 # send and start_tollgate set these.
state=$dir/state
SITE=$dir start_tollgate "$state" --storage embedded
call=("$target/release/tollgate" kv)
of=(--tenant a --config "$dir/config/gateway.toml" --state "$state" --admin "$admin")
echo "embedded store, $keys keys of about 100 bytes:"
timed "import" "${call[@]}" import "$dir/million.jsonl" "${of[@]}"
neighbour "another tenant alone"
for _ in $(seq 100); do listing; [ -f "$out/listed" ] && break; done &
lists=$!
neighbour "while a guest lists all keys, page by page"
touch "$out/listed"; wait "$lists" || true; rm -f "$out/listed"
python3 -c "
import json
run = json.load(open('$out/list.json')); print(f'  one listing: {run[\"latencyPercentiles\"][\"p50\"]:.1f} s, status', run['statusCodeDistribution'])"
timed "export" "${call[@]}" export --to "$dir/exported.jsonl" "${of[@]}"
kv usage
kill "$server" && wait "$server" 2>/dev/null || true

ports=() urls=()
for n in 0 1 2 3 4 5; do
    port=$((20000 + RANDOM % 20000)); ports+=("127.0.0.1:$port"); urls+=("redis://127.0.0.1:$port")
    mkdir -p "$dir/redis$n"
    redis-server --port "$port" --dir "$dir/redis$n" --cluster-enabled yes --cluster-require-full-coverage no --save "" >/dev/null &
    pids+=($!)
done
sleep 1
redis-cli --cluster create "${ports[@]}" --cluster-replicas 1 --cluster-yes >/dev/null
SITE=$dir start_tollgate "$state" --storage "redis-cluster:$(IFS=,; echo "${urls[*]}")"
sleep 2
of=(--tenant a --config "$dir/config/gateway.toml" --state "$state" --admin "$admin")
echo "cluster of three primaries with a replica each:"
timed "import of that export" "${call[@]}" import "$dir/exported.jsonl" "${of[@]}"
kv usage
timed "export" "${call[@]}" export --to "$dir/again.jsonl" "${of[@]}"
# Compares the pairs in any order: the order of a listing is each store's own.
pairs() { grep '^{"store":' "$1" | sort | sha256sum; }
[ "$(pairs "$dir/exported.jsonl")" = "$(pairs "$dir/again.jsonl")" ] || { echo "the exports differ: $dir" >&2; exit 1; }
echo "both exports have the same $(grep -c '^{"store":' "$dir/again.jsonl") pairs"
