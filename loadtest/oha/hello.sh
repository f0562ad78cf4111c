#!/usr/bin/env bash
# Load on `hello` of a gateway that runs already (`make run`): oha/hello.sh [SECONDS] [CONNECTIONS]
set -euo pipefail
seconds=${1:-10} connections=${2:-50}
[ "$seconds" -le 300 ] || { echo "at most 300 seconds" >&2; exit 2; }
command -v oha >/dev/null || { echo "oha is needed: cargo install --locked oha" >&2; exit 1; }
exec oha -z "${seconds}s" -c "$connections" --no-tui --insecure \
    --connect-to hello.localhost:8443:127.0.0.1:8443 https://hello.localhost:8443/
