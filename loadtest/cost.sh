#!/usr/bin/env bash
# Measures what metering costs: fuel, fair turns and the ledger, all on against all off, in turn, in one run, with the server on one core.
# The load is `hello`, alone and beside another tenant, and a guest that computes.
# You can set ROUNDS, SECONDS_EACH and CONNECTIONS; all are bounded.
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need oha "cargo install --locked oha"
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-4} connections=${CONNECTIONS:-32}
[ "$rounds" -le 20 ] && [ "$seconds" -le 60 ] && [ "$connections" -le 256 ] || { echo "too much" >&2; exit 2; }
(cd "$top" && cargo build --release --locked -p gateway --bin tollgate)

quota='[quota]
requests = { rate = 1000000, per = "1s" }
fuel_per_second = "900G"
body_bytes = { rate = "10GiB", per = "1s" }'
declare -A at
for metering in on off; do
    dir=$out/cost-$metering
    site "$dir" "[sandbox]"$'\n'"metering = $([ $metering = on ] && echo true || echo false)"
    tenant "$dir" hello hello-site "$quota"
    tenant "$dir" other hello-site "$quota"
    tenant "$dir" burn hostile "$quota"
    SITE=$dir start_tollgate "$dir/state"
    at[$metering]=$tollgate
done

results=$(mktemp)
for _ in $(seq "$rounds"); do
    for what in "hello /" "two /" "burn /burn/1000000"; do
        read -r host path <<<"$what"
        for metering in on off; do
            # Two tenants: the other one has as many connections, and its requests are not counted here.
            beside=
            case $host in two)
                send "${at[$metering]}" other.localhost / -z "$((seconds + 1))s" -c "$connections" >/dev/null &
                beside=$!
                ;;
            esac
            send "${at[$metering]}" "${host/two/hello}.localhost" "$path" -z "${seconds}s" -c "$connections" >"$out/cost.json"
            [ -z "$beside" ] || wait "$beside"
            python3 -c '
import json, sys
run = json.load(open(sys.argv[1]))
print(sys.argv[2], sys.argv[3], run["summary"]["requestsPerSec"], run["latencyPercentiles"]["p99"] * 1000)' \
                "$out/cost.json" "$host" "$metering" >>"$results"
        done
    done
done
python3 - "$results" <<'PY'
import collections, statistics, sys
rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    host, metering, rps, p99 = line.split()
    rows[host, metering].append((float(rps), float(p99)))
for host in ("hello", "two", "burn"):
    median = {metering: statistics.median(rps for rps, _ in rows[host, metering]) for metering in ("on", "off")}
    for metering in ("on", "off"):
        spread = " ".join(f"{rps:.0f}" for rps, _ in rows[host, metering])
        p99 = statistics.median(p99 for _, p99 in rows[host, metering])
        print(f"{host:6} metering {metering:3} {median[metering]:8.0f} requests/s  p99 {p99:7.2f} ms  ({spread})")
    print(f"{host:6} ratio {median['on'] / median['off']:.3f}")
PY
