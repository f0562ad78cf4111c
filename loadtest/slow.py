#!/usr/bin/env python3
"""Runs a client that reads nothing, beside others. It sends 64 requests of one tenant on each connection, by HTTP/2 with an initial window
of 0 or by HTTP/3 with stream data of 0, and opens a new connection every EVERY seconds. Another client of the same tenant, and one of
another tenant, ask all the while. Everything runs on 127.0.0.1, bounded in number and time.

    loadtest/slow.py [http2|large|http3|memory]

http2: small answers, `instances = 100`. large: answers of 1.8 MB, whose guests wait for their client. memory: what a stalled connection
holds. http3 needs what `make setup-test` fetches. You can set SECONDS and EVERY. TOLLGATE names the gateway's program (default:
target/release/tollgate).
"""
import collections, json, os, socket, ssl, struct, subprocess, sys, tempfile, threading, time

from edge import PYTHON, TOP, frame
from reload import Gateway

SECONDS = min(int(os.environ.get("SECONDS", 95)), 600)
EVERY = int(os.environ.get("EVERY", 15))
STREAMS = 64
INSTANCES = 100


def literal(name, value):
    """An HPACK field outside of all tables (RFC 7541 §6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def head(host, path, *fields):
    """The header block of a GET request: method and scheme by index, the rest as literals."""
    block = b"\x82\x87" + b"\x04" + bytes([len(path)]) + path + b"\x01" + bytes([len(host)]) + host
    return block + b"".join(literal(*field) for field in fields)


def stall(port, host, path, fields=()):
    """Opens a connection with a request on every stream and a window of 0, so that no answer can be sent."""
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2"])
    tls = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=5), server_hostname=host)
    settings = frame(4, 0, 0, struct.pack(">HI", 4, 0))
    requests = b"".join(frame(1, 5, 2 * n + 1, head(host.encode(), path, *fields)) for n in range(STREAMS))
    tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + requests)
    tls.settimeout(0.2)
    return tls


def drained(held, until):
    """Reads what arrives on the connections, but opens no window, so that only the streams stall."""
    while time.monotonic() < until:
        for tls in list(held):
            try:
                if not tls.recv(65536):
                    held.remove(tls)
            except TimeoutError:
                pass
            except OSError:
                held.remove(tls)
        time.sleep(0.05)


def ask(port, host, until, seen):
    """Sends requests one after the other, each on its own connection, and counts the statuses. At most five a second."""
    context = ssl._create_unverified_context()
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as tcp:
                with context.wrap_socket(tcp, server_hostname=host) as tls:
                    tls.sendall(f"GET /head HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
                    answer = b"".join(iter(lambda: tls.recv(65536), b""))
                    seen[answer.split(b" ", 2)[1].decode() if answer else "nothing"] += 1
        except OSError as error:
            seen[type(error).__name__] += 1
        time.sleep(max(0, start + 0.2 - time.monotonic()))


def gateway_of(dir):
    gateway = Gateway(dir, 0)
    gateway.stop()
    (gateway.root / "config/gateway.toml").write_text(
        f'schema = 1\n[listen]\nquic = true\n[sandbox]\ninstances = {INSTANCES}\n[telemetry]\nlog = "warn,access=info"\n')
    for number in range(2):
        (gateway.root / f"tenants/t{number}").mkdir(parents=True)
        gateway.edit(number, 0)
    gateway.start()
    return gateway


def beside(name, begin):
    with tempfile.TemporaryDirectory() as dir:
        gateway = gateway_of(dir)
        try:
            # Both clients ask before the first connection stalls.
            until = time.monotonic() + SECONDS
            seen = {host: collections.Counter() for host in ("t0.localhost", "t1.localhost")}
            held, before = [], gateway.memory()
            threads = [threading.Thread(target=ask, args=(gateway.https, host, until, counts)) for host, counts in seen.items()]
            threads.append(threading.Thread(target=drained, args=(held, until)))
            for thread in threads:
                thread.start()
            connections, most = 0, before
            while time.monotonic() < until - 1:
                begin(gateway, held)
                connections += 1
                next_at = min(time.monotonic() + EVERY, until)
                while time.monotonic() < next_at:
                    most = max(most, gateway.memory())
                    time.sleep(min(1, max(0.01, next_at - time.monotonic())))
            for thread in threads:
                thread.join()
            for whose, host in (("the same tenant", "t0.localhost"), ("another tenant", "t1.localhost")):
                answers = seen[host]
                bad = {status: count for status, count in answers.items() if status != "200"}
                print(f"{name}: {sum(answers.values())} requests to {whose}, {sum(bad.values())} refused {bad or ''}")
            print(f"{name}: {connections} connections of {STREAMS} streams in {SECONDS} s, resident {before} → {most} KiB at most",
                  flush=True)
        finally:
            gateway.stop()


def http2():
    beside("http2", lambda gateway, held: held.append(stall(gateway.https, "t0.localhost", b"/head")))


def large():
    fields = ((b"say-bytes", b"1800000"),)
    beside("large", lambda gateway, held: held.append(stall(gateway.https, "t0.localhost", b"/say", fields)))


def http3():
    def begin(gateway, _):
        fields = [[":method", "GET"], [":scheme", "https"], [":authority", "t0.localhost"], [":path", "/head"]]
        order = {"port": gateway.https, "ca": str(gateway.root / "state/tls/ca.pem"), "name": "t0.localhost", "seconds": EVERY,
                 "stream_data": 0, "streams": [{"fields": fields}] * STREAMS}
        run = subprocess.Popen([PYTHON, TOP / "tests/clients/http3.py"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        run.stdin.write(json.dumps(order))
        run.stdin.close()

    beside("http3", begin)


def memory():
    """Measures the memory of a stalled connection, for small answers and for answers larger than the allowance without permits."""
    connections = 20
    for name, path, fields in (("small", b"/head", ()), ("64 KB", b"/say", ((b"say-bytes", b"64000"),)),
                               ("1.8 MB", b"/say", ((b"say-bytes", b"1800000"),))):
        with tempfile.TemporaryDirectory() as dir:
            gateway = gateway_of(dir)
            try:
                for tls in [stall(gateway.https, "t1.localhost", b"/head") for _ in range(2)]:
                    tls.close()
                time.sleep(2)
                before = gateway.memory()
                held = []
                for _ in range(connections):
                    held.append(stall(gateway.https, "t0.localhost", path, fields))
                    drained(list(held), time.monotonic() + 0.3)
                after = gateway.memory()
                print(f"memory: {connections} connections of {STREAMS} streams, {name} answers: {(after - before) / connections:.0f} KiB a connection",
                      flush=True)
                for tls in held:
                    tls.close()
            finally:
                gateway.stop()


if __name__ == "__main__":
    for name in sys.argv[1:] or ["http2", "large", "http3", "memory"]:
        {"http2": http2, "large": large, "http3": http3, "memory": memory}[name]()
