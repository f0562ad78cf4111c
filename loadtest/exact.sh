#!/usr/bin/env bash
# Checks that fuel is exact. It sends the same request again and again. Every access record has to say the same, and their sum has to be
# what the metric and the tenant's ledger say, to the unit. You can set REQUESTS (100,000; at most a million).
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need oha "cargo install --locked oha"
requests=${REQUESTS:-100000}
[ "$requests" -le 1000000 ] || { echo "too much" >&2; exit 2; }
[ -n "${NO_BUILD:-}" ] || (cd "$top" && cargo build --release --locked -p gateway --bin tollgate)
dir=$out/exact
site "$dir"
tenant "$dir" hello hello-site
tenant "$dir" hostile hostile
SITE=$dir start_tollgate "$dir/state"
half=$((requests / 2))
send "$tollgate" hello.localhost / -n "$half" -c 32 >/dev/null
send "$tollgate" hostile.localhost /burn/1000 -n "$half" -c 16 --http2 -p 2 >/dev/null
sleep 1
operators /metrics >"$out/metrics.txt"
operators "/v1/tenants?limit=500" >"$out/status.json"
python3 - "$dir/state.log" "$out/metrics.txt" "$out/status.json" "$half" <<'PY'
import collections, json, re, sys
log, metrics, status, half = sys.argv[1], open(sys.argv[2]).read(), json.load(open(sys.argv[3])), int(sys.argv[4])
fuel = collections.defaultdict(collections.Counter)
for line in open(log):
    if '"target":"access"' in line:
        record = json.loads(line)
        fuel[record["tenant"]][record["fuel"]] += 1
failed = False
for tenant, seen in sorted(fuel.items()):
    records = sum(count for count in seen.values())
    total = sum(value * count for value, count in seen.items())
    metric = int(re.search(rf'tollgate_fuel_total{{tenant="{tenant}"}} (\d+)', metrics)[1])
    ledger = next(t for t in status["tenants"] if t["id"] == tenant)["fuel_total"]
    ok = len(seen) == 1 and records == half and total == metric == ledger
    failed |= not ok
    print(f"{tenant:8} {records} records, each {sorted(seen)}; sum {total}, metric {metric}, ledger {ledger}: {'exact' if ok else 'NOT EXACT'}")
sys.exit(failed)
PY
