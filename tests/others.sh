#!/usr/bin/env bash
# Runs test suites of others against a gateway that it starts: sslyze (TLS), slowhttptest (slow clients), schemathesis (the
# operators' API against its own description). They come from PyPI and Debian, into a cache folder; everything runs on
# loopback. Not part of CI: the last result is in gateway/docs/others.md.
#
# TOLLGATE names the gateway's binary. Exits with 1 if a suite finds something that is not in the list below it.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
tollgate=${TOLLGATE:-${CARGO_TARGET_DIR:-$top/target}/release/tollgate}
[ -x "$tollgate" ] || { echo "$tollgate is not there: run make build, or name a gateway in TOLLGATE" >&2; exit 2; }
tools=${XDG_CACHE_HOME:-$HOME/.cache}/tollgate/others
work=$(mktemp -d)
pids=()
end() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
if ! [ -x "$tools/venv/bin/schemathesis" ]; then
    mkdir -p "$tools" && python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install -q --disable-pip-version-check sslyze==6.3.1 schemathesis==4.32.5
fi
if ! command -v slowhttptest >/dev/null && ! [ -x "$tools/usr/bin/slowhttptest" ]; then
    (cd "$tools" && apt-get download -qq slowhttptest 2>/dev/null && dpkg -x slowhttptest_*.deb . && rm slowhttptest_*.deb) \
        || { echo "slowhttptest is Debian's: install it and try again" >&2; exit 2; }
fi
slowhttptest=$(command -v slowhttptest || echo "$tools/usr/bin/slowhttptest")
# started FILE: waits until a gateway has printed all of its addresses into FILE.
started() { for _ in $(seq 600); do grep -q "^$2" "$1" && return; sleep 0.1; done; echo "no gateway: $(cat "$1")" >&2; exit 1; }

"$tollgate" serve --config "$top/config/gateway.toml" --state "$work/state" --https 127.0.0.1:0 --http 127.0.0.1:0 --admin 127.0.0.1:0 >"$work/said" 2>"$work/log" &
pids+=("$!")
started "$work/said" ca
https=$(sed -n 's/^https  *//p' "$work/said") admin=http://$(sed -n 's/^admin  *//p' "$work/said")
# Tenants have their certificates once their components are compiled.
for _ in $(seq 3000); do curl -sf -o /dev/null "$admin/readyz" && break; sleep 0.1; done
failed=0

echo "== sslyze"
"$tools/venv/bin/sslyze" --sni hello.localhost --json_out "$work/ssl.json" "$https" >"$work/ssl.txt" 2>&1 || true
python3 - "$work/ssl.json" <<'PY' || failed=1
import json, sys
scan = json.load(open(sys.argv[1]))["server_scan_results"][0]["scan_result"]
found = []
for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3"):
    suites = [suite["cipher_suite"]["name"] for suite in scan[version + "_cipher_suites"]["result"]["accepted_cipher_suites"]]
    print(f"  {version}: {', '.join(suites) or 'refused'}")
    if bool(suites) != (version in ("tls_1_2", "tls_1_3")):
        found.append(f"{version} is {'served' if suites else 'refused'}")
    found += [f"{suite} is weak" for suite in suites if any(part in suite for part in ("RC4", "CBC", "3DES", "NULL", "EXPORT", "TLS_RSA"))]
for name, key, bad in (("heartbleed", "is_vulnerable_to_heartbleed", True), ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", True),
                       ("tls_compression", "supports_compression", True), ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", True),
                       ("tls_fallback_scsv", "supports_fallback_scsv", False)):
    result = scan[name]["result"]
    # A server without TLS below 1.2 has nothing to fall back to.
    if result is not None and result[key] == bad and name != "tls_fallback_scsv":
        found.append(f"{name}: {key} is {bad}")
print("  found:", "; ".join(found) or "nothing")
sys.exit(bool(found))
PY

echo "== slowhttptest"
# A folder of files, served for every host name of this machine.
(cd "$work" && "$tollgate" new static-fileserver slow --accept-defaults >/dev/null)
head -c 4000000 /dev/urandom | base64 >"$work/slow/assets/large.txt"
(cd "$work/slow" && exec "$tollgate" up --listen 127.0.0.1:0 --admin 127.0.0.1:0 --quiet) >"$work/up" 2>"$work/up.log" &
pids+=("$!")
for _ in $(seq 600); do grep -Eqo 'http://[^ /]*:[0-9]+' "$work/up" && break; sleep 0.1; done
url=http://127.0.0.1:$(grep -Eo 'http://[^ /]*:[0-9]+' "$work/up" | head -n 1 | grep -Eo '[0-9]+$')
slow() {
    local name=$1 file=$2
    shift 2
    "$slowhttptest" -c 200 -r 100 -l 20 -p 3 -u "$url/$file" "$@" >"$work/slow.txt" 2>&1 || true
    # Its report has colours in it. It prints "NO" if a request beside the slow ones is not answered within three seconds.
    local no
    no=$(sed 's/\x1b\[[0-9;]*m//g' "$work/slow.txt" | grep -Ec 'service available: *NO' || true)
    echo "  $name: $([ "$no" = 0 ] && echo "a client beside it is answered throughout" || echo "NOT ANSWERED in $no of its looks")"
    [ "$no" = 0 ] || { failed=1; tail -n 25 "$work/slow.txt"; }
}
slow "200 slow heads" index.html -H -i 5 -x 24
slow "200 slow bodies" index.html -B -i 5 -s 8192 -x 10
slow "200 slow readers" large.txt -X -w 1 -y 20 -n 5 -z 32 -k 1

echo "== schemathesis"
# Excluded: a drain ends the process, and streams of events and logs have no end. A reload waits up to a minute for its
# compilers, hence the timeout.
(cd "$work" && "$tools/venv/bin/schemathesis" run "$admin/openapi.json" --url "$admin" --header "Authorization: Bearer $(cat "$work/state/admin.token")" \
    --exclude-path-regex '/drain|/events|/logs' --phases examples,coverage,fuzzing --max-examples 5 --seed 1 --workers 1 --request-timeout 70 --no-color \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance >"$work/api.txt" 2>&1) && echo "  found: nothing" || { failed=1; tail -n 150 "$work/api.txt"; }
exit "$failed"
