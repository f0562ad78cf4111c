#!/usr/bin/env bash
# Runs one scenario with oha, against a gateway that runs already (loadtest/site.sh):
#   oha/run.sh steady|ramp|spike|soak|cold|noisy|quota|storage
# You can set SECONDS_EACH (10) and CONNECTIONS (32); both are bounded.
set -euo pipefail
scenario=${1:-steady} seconds=${SECONDS_EACH:-10} connections=${CONNECTIONS:-32} port=${PORT:-8443}
[ "$seconds" -le 300 ] && [ "$connections" -le 1000 ] || { echo "at most 300 seconds and 1000 connections" >&2; exit 2; }
command -v oha >/dev/null || { echo "oha is needed: cargo install --locked oha" >&2; exit 1; }

# ask TENANT PATH [OHA'S ARGUMENTS …]: one run. Prints its host, path and arguments, and its result.
ask() {
    local host=$1.localhost path=$2
    shift 2
    echo "== $host$path $*"
    oha --no-tui --insecure --output-format json --connect-to "$host:$port:127.0.0.1:$port" "$@" "https://$host:$port$path" |
        python3 -c '
import json, sys
run = json.load(sys.stdin)
ms = {name: round(value * 1000, 2) for name, value in run["latencyPercentiles"].items() if value and name in ("p50", "p99", "p99.9")}
print(round(run["summary"]["requestsPerSec"]), "requests/s", ms, "ms", run["statusCodeDistribution"], run["errorDistribution"] or "")'
}

case $scenario in
steady) ask hello / -z "${seconds}s" -c "$connections"; ask hello / -z "${seconds}s" -c "$connections" --http2 ;;
ramp) for rate in 100 200 400 800 1600; do ask hello / -z "$((seconds / 5 + 1))s" -c "$connections" -q $rate; done ;;
spike) for rate in 50 1500 50; do ask hello / -z "$((seconds / 3 + 1))s" -c "$connections" -q $rate; done ;;
soak) ask hello / -z "${seconds}s" -c "$connections" -q 300 ;;
cold) for number in $(seq 0 19); do ask "cold$number" / -n 1 -c 1; done ;;
noisy)
    ask hello / -z "${seconds}s" -c 8 -q 100
    ask noisy /loop -z "$((seconds + 2))s" -c "$connections" >/dev/null & noisy=$!
    sleep 1
    ask hello / -z "${seconds}s" -c 8 -q 100
    wait "$noisy"
    ;;
quota) ask limited / -z "${seconds}s" -c "$connections" -q 200 ;;
storage)
    ask kv /-/set/k -m POST -d value -n 10 -c 1
    ask kv /-/get/k -z "${seconds}s" -c "$connections"
    ask kv /-/set/k -m POST -d value -z "${seconds}s" -c "$connections"
    ;;
*) echo "no such scenario: $scenario" >&2; exit 2 ;;
esac
