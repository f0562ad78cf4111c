#!/usr/bin/env bash
# Measures a noisy neighbour. Tenant B sends at a steady rate while tenant A does one harm after another. The script compares B's p99 beside
# each harm with B's p99 alone, in turn, in one run.
#
# Part `fair` has what a guest computes and keeps. Part `host` has what the host keeps and does for it (the classes of
# gateway/docs/isolation.md). Parts `embedded` and `redis` have what it asks of a store that B uses too. Part `unfair` is the first one
# without fair turns, for contrast.
#
# It exits with 1 if a row, other than those of `unfair`, is over twice (and 2 ms over) B's p99 alone, if a request of B fails, if A's harm
# never ran, or if the gateway holds more memory than `tollgate check` allows for.
# You can set PARTS, REQUESTS (of B, for each row), RATE, ROUNDS and COLD (components of A); all are bounded.
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
need oha "cargo install --locked oha"
need python3 "any Python 3"
requests=${REQUESTS:-2000} rate=${RATE:-200} rounds=${ROUNDS:-3} cold=${COLD:-60} parts=${PARTS:-fair host embedded redis unfair}
[ "$requests" -le 20000 ] && [ "$rounds" -le 10 ] && [ "$cold" -le 200 ] || { echo "too much" >&2; exit 2; }
[ -n "${NO_BUILD:-}" ] || (cd "$top" && cargo build --release --locked -p gateway --bin tollgate)
seconds=$((requests / rate + 5))

dir=$out/noisy
limits='[limits]
fuel = "200M"
memory = "64MiB"
time = "2s"
storage_ops = 1000000'
# The cache holds a few components only, so that most of the storm finds its component cold.
site "$dir" $'[sandbox]\ncache = "8MiB"'
tenant "$dir" b echo
tenant "$dir" b-store kv
tenant "$dir" a hostile "$limits"
tenant "$dir" store kv "$limits"
tenant "$dir" rated hostile "$limits"$'\n[quota]\nrequests = { rate = 200, per = "1s", burst = 200 }'
# With the default limits of a tenant.
tenant "$dir" plain hostile
tenant "$dir" holder holder
tenant "$dir" holder3 holder-3 $'[limits]\nstorage_ops = 1000'
raw='[limits]
storage_ops = 1000000
fuel = "100G"
time = "60s"
request_body = "16MiB"
memory = "128MiB"'
tenant "$dir" raw spin "$raw"
sed -i 's|^stores = .*|&\nredis = ["redis://granted:6379"]|' "$dir/tenants/raw/tenant.toml"
tenant "$dir" batch kv "$raw"
mkdir -p "$dir/tenants/fan"
printf 'schema = 1\nhosts = ["fan.localhost"]\napp = "spin.toml"\n' >"$dir/tenants/fan/tenant.toml"
cat >"$dir/tenants/fan/spin.toml" <<TOML
spin_manifest_version = 2
[application]
name = "fan"
[[trigger.http]]
route = "/..."
component = "fan"
[component.fan]
source = "fan.wasm"
allowed_outbound_hosts = ["http://self"]
TOML
cp "$guests/fan.wasm" "$dir/tenants/fan/"
# Copies of a hostile guest, each with other bytes at its end (a custom section), so each with another digest.
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

# words FILE WORD…: a Redis command in the spin guest's own form. `N*WORD` is the word N times, `#N` is N bytes.
words() {
    python3 - "$@" <<'PY'
import re, sys
def spread(word):
    times, word = re.fullmatch(r"(?:(\d+)\*)?(.*)", word).groups()
    word = re.sub(r"#(\d+)$", lambda size: "x" * int(size[1]), word)
    return [word.replace("%", str(n)) for n in range(int(times or 1))]
print("\n".join("x" + word.encode().hex() for text in sys.argv[2:] for word in spread(text)), end="", file=open(sys.argv[1], "w"))
PY
}
words "$out/exists.txt" EXISTS '998*set'
words "$out/mget.txt" MGET '998*value'
words "$out/members.txt" SMEMBERS set
words "$out/bitop.txt" BITOP XOR other value value value value
words "$out/add.txt" SADD set '120*{%}#4000'
words "$out/set.txt" SET value '#1000000'
python3 -c "print('\n'.join(f'k{n}=' + 'x' * 1000000 for n in range(3)), end='')" >"$out/batch.txt"

results=$(mktemp)
long() { send "$tollgate" "$1.localhost" "$2" -z "${seconds}s" "${@:3}"; }
post() { long "$1" "$2" -m POST -D "$out/$3" "${@:4}"; }
# harm NAME: what A does while B is measured. Prints oha's report. A's clients have idle priority beside B's, which run on the
# same core, so that only the server makes B slower.
harm() {
    chrt --idle --pid 0 "$BASHPID"
    case $1 in
    # `again` repeats the quiet row, to show how much two equal rows differ.
    alone | again) sleep "$seconds" ;;
    loop) long a /loop -c 256 ;;
    grow) long a /grow -c 256 ;;
    fill) long a /fill -c 256 ;;
    flood) long store /-/flood/key -m POST -d value -c 256 ;;
    # A regular expression that generates each of the paths.
    cold) long cold "/($(seq -s '|' 0 $((cold - 1))))" --rand-regex-url -c 256 ;;
    rate) long rated /ok -c 256 -q 2000 ;;
    # Class A: memory that resources retain.
    texts) long holder /authority/20000/1024/100 -c 256 ;;
    fields) long holder /fields/2000/40000/0 -c 256 ;;
    values) long holder /cas/1000/0/0 -c 64 ;;
    calls) long holder3 /calls/100/1000000 -c 64 ;;
    # Class D: texts that are passed to the host.
    logs) long plain /logs -c 256 ;;
    random) long plain /random-much -c 256 ;;
    names) long holder /path/250000/8192/0 -c 256 ;;
    # Class E: requests that send requests, and new components all the time.
    fan) long fan /fan/10/7/20000 -c 64 ;;
    deploys) deploys ;;
    # Classes B and C: commands that process much data.
    exists) post raw /redis2/execute/granted exists.txt -c 64 ;;
    mget) post raw /redis2/execute/granted mget.txt -c 64 ;;
    members) post raw /redis2/execute/granted members.txt -c 64 ;;
    bitop) post raw /redis2/execute/granted bitop.txt -c 64 ;;
    adds) post raw /redis2/execute/granted add.txt -c 64 ;;
    batches) post batch /-/set-many/x batch.txt -c 16 ;;
    empty) post batch /-/set-many/x empty.txt -c 64 ;;
    esac
}
: >"$out/empty.txt"
# Puts a component that was never compiled into a tenant's folder twice a second; each is served or refused.
deploys() {
    local n
    for n in $(seq $((seconds * 2))); do
        printf '\x00\x09\x08n%07d' "$RANDOM" | cat "$guests/hostile.wasm" - >"$dir/tenants/deployed/next" && mv "$dir/tenants/deployed/next" "$dir/tenants/deployed/site.wasm"
        kill -HUP "$server"
        sleep 0.5
    done
    echo '{"statusCodeDistribution": {"200": '"$n"'}, "errorDistribution": {}}'
}
mkdir -p "$dir/tenants/deployed" && cp "$guests/hostile.wasm" "$dir/tenants/deployed/site.wasm"
printf 'schema = 1\nhosts = ["deployed.localhost"]\n[[component]]\nname = "site"\nsource = "site.wasm"\n[[route]]\npath = "/..."\ncomponent = "site"\n' >"$dir/tenants/deployed/tenant.toml"

# measure PART HARM PROTOCOL HOST PATH: one round of B beside A.
measure() {
    local version=(-c 8) noise
    # Few connections, so that their handshakes are not the slowest hundredth of requests.
    [ "$3" = h2 ] && version=(--http2 -c 2 -p 4)
    # Resets the peak memory of the process, so that it belongs to this row.
    echo 5 >"/proc/$server/clear_refs" 2>/dev/null || true
    (harm "$2" >"$out/a.json" 2>"$out/a.log") &
    noise=$!
    sleep 2
    # The first second is for the connections, so that their handshakes do not count.
    report=csv send "$tollgate" "$4.localhost" "$5" -n $((requests + rate)) -q "$rate" --latency-correction "${version[@]}" >"$out/b.csv"
    wait "$noise" 2>/dev/null || true
    python3 - "$out/b.csv" "$1" "$2" "$3" "$out/a.json" "$server" "$requests" >>"$results" <<'PY'
import csv, json, re, sys
wanted = int(sys.argv[7])
rows = sorted(csv.DictReader(open(sys.argv[1])), key=lambda row: float(row["request-start"]))
rows = rows[-wanted:]
good = [float(row["request-duration"]) * 1000 for row in rows if row["status"] == "200"]
failed = wanted - len(good)
at = lambda part: sorted(good)[min(int(len(good) * part), len(good) - 1)] if good else 1e6
try:
    noise = json.load(open(sys.argv[5]))["statusCodeDistribution"]
except ValueError:
    noise = {}
said = ",".join(f"{code}:{count}" for code, count in sorted(noise.items(), key=lambda pair: -pair[1])[:3]) or "-"
held = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{sys.argv[6]}/status").read())[1]) / 1024
print(sys.argv[2], sys.argv[3], sys.argv[4], at(0.5), at(0.99), len(good), failed, held, said)
PY
    tail -n 1 "$results" >&2
    sleep 1
}

echo "B: $requests requests at $rate/s a row, $rounds rounds in turn; server on one core"
start() {
    SITE=$dir start_tollgate "$dir/state" "$@"
    for warm in b/head a/ok b-store/-/exists/k; do send "$tollgate" "${warm%%/*}.localhost" "/${warm#*/}" -n 50 -c 5 >/dev/null; done
}
stop() { kill "$server" && wait "$server" 2>/dev/null || true; }
# once HOST PATH [OHA'S ARGUMENTS …]: one request, whose status must be 200.
once() {
    send "$tollgate" "$1.localhost" "$2" -n 1 -c 1 "${@:3}" | grep '"200": 1' >/dev/null || { echo "$1 $2 is not served" >&2; exit 1; }
}
stored() {
    once b-store /-/set/k -m POST -d value
    once raw /redis2/execute/granted -m POST -D "$out/add.txt"
    once raw /redis2/execute/granted -m POST -D "$out/set.txt"
}
for part in $parts; do
    case $part in
    fair)
        start
        for _ in $(seq "$rounds"); do
            for protocol in h1 h2; do
                for noise in alone again loop grow fill flood cold rate; do measure fair "$noise" "$protocol" b /head; done
            done
        done ;;
    host)
        start
        once holder /put/0/1000000/0
        for _ in $(seq "$rounds"); do
            for noise in alone texts fields values calls logs random names fan deploys; do measure host "$noise" h1 b /head; done
        done ;;
    embedded)
        start && stored
        for _ in $(seq "$rounds"); do
            for noise in alone flood exists mget members bitop adds batches empty; do measure embedded "$noise" h1 b-store /-/get/k; done
        done ;;
    redis)
        command -v redis-server >/dev/null || { echo "redis-server is not here: its rows are left out" >&2; continue; }
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        on_server_core redis-server --port "$port" --bind 127.0.0.1 --save "" --maxmemory 2gb >/dev/null &
        pids+=("$!")
        sleep 1
        start --storage "redis://127.0.0.1:$port" && stored
        for _ in $(seq "$rounds"); do
            for noise in alone flood exists mget members bitop adds batches empty; do measure redis "$noise" h1 b-store /-/get/k; done
        done ;;
    unfair)
        sed -i 's/^\[sandbox\]/[sandbox]\nfair_turns = false/' "$dir/config/gateway.toml"
        start
        for _ in $(seq "$rounds"); do for noise in alone loop fill; do measure unfair "$noise" h1 b /head; done; done ;;
    *) echo "there is no part $part" >&2; exit 2 ;;
    esac
    stop
done
bound=$("$target/release/tollgate" check --json --config "$dir/config/gateway.toml" | grep -o '[0-9]*[KMG]iB  in all' | cut -d ' ' -f 1)

python3 - "$results" "$bound" <<'PY'
import collections, statistics, sys
rows = collections.defaultdict(list)
harms = {}
for line in open(sys.argv[1]):
    part, noise, protocol, *figures, said = line.split()
    rows[part, protocol, noise].append([float(figure) for figure in figures])
    harms[part, protocol, noise] = said
bound = int(sys.argv[2][:-3]) * {"K": 1 / 1024, "M": 1, "G": 1024}[sys.argv[2][-3]]
print(f"memory: {bound:.0f} MiB by `tollgate check`")
print(f"{'part':9} {'B over':6} {'A':8} {'B p50 ms':>9} {'B p99 ms':>9} {'x alone':>8} {'200':>6} {'failed':>6} {'MiB':>6}  within 2x or 2 ms, and A's answers")
bad = 0
for (part, protocol, noise), runs in rows.items():
    p50, p99, served, _, _ = (statistics.median(column) for column in zip(*runs))
    failed, held = sum(run[3] for run in runs), max(run[4] for run in runs)
    alone = statistics.median(run[1] for run in rows[part, protocol, "alone"])
    said = harms[part, protocol, noise]
    quiet = noise in ("alone", "again")
    good = p99 <= max(2 * alone, alone + 2) and failed == 0 and held <= bound and (quiet or said != "-")
    bad += part != "unfair" and not good
    print(f"{part:9} {protocol:6} {noise:8} {p50:9.2f} {p99:9.2f} {p99 / alone:8.2f} {served:6.0f} {failed:6.0f} {held:6.0f}  {'yes' if good else 'NO '} {said}")
sys.exit(bad > 0)
PY
