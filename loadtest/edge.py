#!/usr/bin/env python3
"""Puts the edge under pressure: it replaces a certificate during handshakes, floods one tenant with frames while it measures another
tenant's latency, and sends HTTP/3 while tenants are edited. Everything runs on 127.0.0.1, bounded in number and time.

    loadtest/edge.py [certificate|floods|http3]

You can set SECONDS. TOLLGATE names the gateway's program (default: target/release/tollgate). `floods` needs h2load (Debian's
nghttp2-client), `certificate` needs openssl, and `http3` needs what `make setup-test` fetches.
"""
import json, os, pathlib, shutil, socket, ssl, statistics, struct, subprocess, sys, tempfile, threading, time
from multiprocessing import Process, Queue

from reload import Gateway

SECONDS = min(int(os.environ.get("SECONDS", 10)), 120)
TOP = pathlib.Path(__file__).resolve().parent.parent
PYTHON = os.path.expanduser("~/.cache/tollgate/clients/bin/python")


def pair(dir, name, host):
    key, cert = dir / f"{name}.key", dir / f"{name}.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-keyout", key, "-out", cert, "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"],
                   check=True, capture_output=True)
    return cert, key


def shake(port, host, ca, until, rate, out):
    """Full handshakes at a rate. Puts into `out` how many there were, how many failed, and which certificates answered."""
    context = ssl.create_default_context(cafile=ca)
    context.options |= ssl.OP_NO_TICKET
    done, failed, seen, start = 0, [], set(), time.monotonic()
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as tcp:
                with context.wrap_socket(tcp, server_hostname=host) as tls:
                    seen.add(tls.getpeercert()["serialNumber"])
        except OSError as error:
            failed.append(str(error))
        done += 1
        time.sleep(max(0, start + done / rate - time.monotonic()))
    out.put((done, failed[:3], len(failed), seen))


def certificate():
    with tempfile.TemporaryDirectory() as dir:
        gateway = Gateway(dir, 2)
        try:
            live, pairs = gateway.root / "live", [pair(gateway.root, name, "t0.localhost") for name in ("one", "two")]
            live.mkdir()
            (gateway.root / "both.pem").write_text("".join(cert.read_text() for cert, _ in pairs))

            def put(number):
                for path, name in zip(pairs[number], ("cert.pem", "key.pem")):
                    shutil.copy(path, live / ".new")
                    (live / ".new").rename(live / name)

            put(0)
            file = gateway.root / "tenants/t0/tenant.toml"
            file.write_text(file.read_text().replace("[env]", f'[tls]\ncert = "{live}/cert.pem"\nkey = "{live}/key.pem"\n[env]', 1))
            time.sleep(1)
            out, until = Queue(), time.monotonic() + SECONDS
            shakers = [Process(target=shake, args=(gateway.https, "t0.localhost", str(gateway.root / "both.pem"), until, 250, out))
                       for _ in range(2)]
            for shaker in shakers:
                shaker.start()
            swaps = 0
            while time.monotonic() < until - 0.5:
                swaps += 1
                put(swaps % 2)
                time.sleep(0.5)
            results = [out.get(timeout=30) for _ in shakers]
            done, failed = sum(r[0] for r in results), sum(r[2] for r in results)
            print(f"{done / SECONDS:.0f} handshakes/s for {SECONDS} s, {swaps} swaps: {failed} of {done} failed"
                  f" {sum((r[1] for r in results), [])}, {len(set.union(*(r[3] for r in results)))} certificates seen")
        finally:
            gateway.stop()


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# HPACK's static table: GET, https, /, and an :authority.
BLOCK = b"\x82\x87\x84\x41\x0ct1.localhost"
FLOODS = {
    "RST_STREAM": lambda n: frame(1, 5, 2 * n + 1, BLOCK) + frame(3, 0, 2 * n + 1, struct.pack(">I", 8)),
    "CONTINUATION": lambda n: frame(1, 0, 1, BLOCK) if n == 0 else frame(9, 0, 1, b""),
    "SETTINGS": lambda n: frame(4),
    "PING": lambda n: frame(6, 0, 0, bytes(8)),
    "empty DATA": lambda n: frame(1, 4, 1, b"\x83\x87\x84\x41\x0ct1.localhost") if n == 0 else frame(0, 0, 1),
}


def flood(port, make, until, lives, opened):
    """Sends on one connection after the other as fast as the server reads, each until the server cuts it."""
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2"])
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as tcp:
                with context.wrap_socket(tcp, server_hostname="t1.localhost") as tls:
                    opened.append(1)
                    start, n = time.monotonic(), 0
                    tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4))
                    try:
                        while time.monotonic() < until:
                            tls.sendall(b"".join(make(n + m) for m in range(200)))
                            n += 200
                    except OSError:
                        lives.append(time.monotonic() - start)
        except OSError:
            pass


def latency(gateway, log):
    """Runs h2load at 200 requests/s on four connections against the tenant that is not flooded. Returns p50 and p99 in ms, and counts."""
    log.unlink(missing_ok=True)
    subprocess.run(["taskset", "-c", "1", "h2load", "-D", str(SECONDS), "-c", "4", "-m", "1", "--rps=50", f"--log-file={log}",
                    f"--connect-to=127.0.0.1:{gateway.https}", f"https://t0.localhost:{gateway.https}/head"],
                   capture_output=True, timeout=SECONDS + 30, check=True)
    lines = [line.split() for line in log.read_text().splitlines()]
    times = sorted(int(words[2]) / 1000 for words in lines if words[1] == "200")
    bad = sum(words[1] != "200" for words in lines)
    return statistics.median(times), times[len(times) * 99 // 100], len(times), bad


def floods():
    with tempfile.TemporaryDirectory() as dir:
        gateway = Gateway(dir, 2)
        try:
            log = gateway.root / "h2load.log"
            latency(gateway, log)
            for name, make in FLOODS.items():
                before = latency(gateway, log)
                lives, opened, until = [], [], time.monotonic() + SECONDS + 1
                flooders = [threading.Thread(target=flood, args=(gateway.https, make, until, lives, opened)) for _ in range(2)]
                for flooder in flooders:
                    flooder.start()
                during = latency(gateway, log)
                for flooder in flooders:
                    flooder.join()
                cut = f"cut after {max(lives) * 1000:.0f} ms at most" if lives else "none cut"
                print(f"{name}: {len(opened)} connections, {cut}; the other tenant's p50 {before[0]:.2f} → {during[0]:.2f} ms, "
                      f"p99 {before[1]:.2f} → {during[1]:.2f} ms, {during[3]} of {during[2]} failed", flush=True)
        finally:
            gateway.stop()


def http3():
    with tempfile.TemporaryDirectory() as dir:
        gateway = Gateway(dir, 0)
        gateway.stop()
        (gateway.root / "config/gateway.toml").write_text(
            'schema = 1\n[listen]\nquic = true\n[telemetry]\nlog = "warn,access=off"\n')
        for number in range(100):
            (gateway.root / f"tenants/t{number}").mkdir(parents=True)
            gateway.edit(number, 0)
        gateway.start()
        try:
            out, until, edits = [], time.monotonic() + SECONDS, 0

            def ask():
                fields = [[":method", "GET"], [":scheme", "https"], [":authority", "t0.localhost"], [":path", "/head"]]
                order = {"port": gateway.https, "ca": str(gateway.root / "state/tls/ca.pem"), "name": "t0.localhost", "seconds": 20,
                         "streams": [{"fields": fields}] * 50}
                while time.monotonic() < until:
                    run = subprocess.run([PYTHON, TOP / "tests/clients/http3.py"], input=json.dumps(order), capture_output=True, text=True)
                    out.append(json.loads(run.stdout))

            asker = threading.Thread(target=ask)
            asker.start()
            while time.monotonic() < until:
                edits += 1
                gateway.edit(0 if edits % 2 else edits % 100, edits)
                time.sleep(0.1)
            asker.join()
            streams = [stream for one in out for stream in one["streams"]]
            bad = [stream for stream in streams if stream["status"] != 200 or not stream["ended"]]
            print(f"{len(streams)} requests on {len(out)} connections in {SECONDS} s, {edits} edits: {len(bad)} failed {bad[:2]}")
        finally:
            gateway.stop()


if __name__ == "__main__":
    for name in sys.argv[1:] or ["certificate", "floods", "http3"]:
        {"certificate": certificate, "floods": floods, "http3": http3}[name]()
