#!/usr/bin/env bash
# Measures what telemetry costs: `hello` with traces, metrics and logs to a collector, and with nothing but counting, in turn, on one core
# each.
# You can set ROUNDS, SECONDS_EACH, CONNECTIONS and TRACES (for example 1% or all); all are bounded.
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need oha "cargo install --locked oha"
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-5} connections=${CONNECTIONS:-32} traces=${TRACES:-1%}
[ "$rounds" -le 20 ] && [ "$seconds" -le 60 ] && [ "$connections" -le 256 ] || { echo "too much" >&2; exit 2; }

# A collector that accepts everything by HTTP and parses nothing; it runs beside the load.
sink=$(mktemp)
(exec taskset -c "$((cores > 1 ? 1 : 0))" python3 - 2>/dev/null) >"$sink" <<'PY' &
import http.server, sys
class Sink(http.server.BaseHTTPRequestHandler):
    count = 0
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(server.server_port, flush=True)
server.serve_forever()
PY
pids+=($!)
for _ in $(seq 100); do port=$(head -n1 "$sink"); [ -n "$port" ] && break; sleep 0.1; done

# kind NAME TELEMETRY: starts a gateway with TELEMETRY in its file.
kind() {
    local dir=$out/telemetry-$1
    site "$dir"
    tenant "$dir" hello hello-site
    # Without the table [telemetry] that `site` writes.
    printf 'schema = 1\n%s\n' "$2" >"$dir/config/gateway.toml"
    SITE=$dir start_tollgate "$dir/state"
}
kind off '[telemetry]
log = "info,access=off"'
off=$tollgate
kind logged '[telemetry]
log = "info"'
logged=$tollgate
kind on "[telemetry.otlp]
endpoint = \"http://127.0.0.1:$port\"
protocol = \"http/protobuf\"
traces = \"$traces\"
interval = \"5s\""
on=$tollgate

run() {
    send "$1" hello.localhost / -z "${seconds}s" -c "$connections" |
        python3 -c 'import json, sys; run = json.load(sys.stdin); print(run["summary"]["requestsPerSec"], run["latencyPercentiles"]["p99"] * 1000)'
}

results=$(mktemp)
for _ in $(seq "$rounds"); do
    echo "off $(run "$off")" >>"$results"
    echo "logged $(run "$logged")" >>"$results"
    echo "on $(run "$on")" >>"$results"
done
python3 - "$results" "$traces" <<'PY'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
median = {}
for name, what in (("off", "metrics counted, no log of requests"), ("logged", "and the access log, to a file"), ("on", f"and traces of {sys.argv[2]}, metrics and logs (but the access log) to a collector")):
    mine = [[float(x) for x in row[1:]] for row in rows if row[0] == name]
    median[name], p99 = (statistics.median(column) for column in zip(*mine))
    print(f"  {name:7} {median[name]:8.0f} requests/s   p99 {p99:6.2f} ms   {what}")
print(f"  on/logged {median['on'] / median['logged']:.3f}   on/off {median['on'] / median['off']:.3f}   logged/off {median['logged'] / median['off']:.3f}")
PY
