#!/usr/bin/env python3
"""Changes the gateway under load by HTTP/1.1 and HTTP/2. `edits`: a thousand tenants, of which one is edited every 100 ms. `takeover`: a
new process takes over every 5 s. `many`: ten thousand tenants; it measures the start, the reload of one tenant, and memory. Everything runs
on 127.0.0.1, bounded in number and time.

    loadtest/reload.py [edits|takeover|many]

You can set SECONDS and RATE. TOLLGATE names the gateway's program (default: target/release/tollgate).
"""
import json, os, pathlib, re, shutil, signal, ssl, socket, subprocess, sys, tempfile, time

from faults import GUESTS, TOLLGATE, until_ready

SECONDS = min(int(os.environ.get("SECONDS", 60)), 600)
RATE = min(int(os.environ.get("RATE", 1_000)), 10_000)
OHA = shutil.which("oha") or os.path.expanduser("~/.cache/tollgate/peers/bin/oha")


class Gateway:
    """Serves this many tenants, all with one component, from its own folder."""

    def __init__(self, dir, tenants):
        self.root = pathlib.Path(dir)
        (self.root / "config").mkdir()
        (self.root / "config/gateway.toml").write_text('schema = 1\n[telemetry]\nlog = "warn,access=off"\n')
        for number in range(tenants):
            (self.root / f"tenants/t{number}").mkdir(parents=True)
            self.edit(number, 0)
        self.start()

    def start(self, *more):
        words = [TOLLGATE, "serve", "--config", self.root / "config/gateway.toml", "--https", "127.0.0.1:0",
                 "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", *more]
        start = time.monotonic()
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=open(self.root / "log", "w"), text=True)
        ports = {}
        for line in self.process.stdout:
            kind = line.split()[0] if line.split() else ""
            if kind in ("https", "admin"):
                ports[kind] = int(line.split()[1].rsplit(":", 1)[1])
            if kind == "admin":
                break
        self.https, self.admin = ports["https"], ports["admin"]
        until_ready(self.admin)
        self.started = time.monotonic() - start

    def edit(self, number, version):
        folder = self.root / f"tenants/t{number}"
        text = f"""schema = 1
hosts = ["t{number}.localhost"]
[env]
VERSION = "{version}"
[[component]]
name = "site"
source = "{GUESTS}/echo.wasm"
[[route]]
path = "/..."
component = "site"
"""
        (folder / ".new").write_text(text)
        (folder / ".new").rename(folder / "tenant.toml")

    def get(self, path):
        with socket.create_connection(("127.0.0.1", self.admin)) as s:
            token = (self.root / "state/admin.token").read_text().strip()
            head = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
            s.sendall(head.encode())
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def metric(self, name):
        return float(re.search(rf"^{name} (\S+)$", self.get("/metrics"), re.M)[1])

    def memory(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1])

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def oha(gateway, host, more, rate=RATE):
    words = [OHA, "-z", f"{SECONDS}s", "-c", "8", "-q", str(rate), "--insecure", "--no-tui", "--output-format", "json", *more,
             "--connect-to", f"{host}:{gateway.https}:127.0.0.1:{gateway.https}", f"https://{host}:{gateway.https}/head"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(name, process):
    out, error = process.communicate(timeout=SECONDS + 60)
    found = json.loads(out)
    errors = {what: count for what, count in found["errorDistribution"].items() if "deadline" not in what}
    p99 = found["latencyPercentiles"]["p99"] * 1000
    print(f"  {name}: statuses {found['statusCodeDistribution']}, errors {errors}, p99 {p99:.1f} ms")


def edits():
    with tempfile.TemporaryDirectory() as dir:
        gateway = Gateway(dir, 1000)
        try:
            print(f"1,000 tenants, one edited every 100 ms for {SECONDS} s, {2 * RATE} requests/s to two of them")
            loads = [("HTTP/1.1", oha(gateway, "t0.localhost", [])), ("HTTP/2", oha(gateway, "t1.localhost", ["--http2"]))]
            before, start, count = gateway.metric("tollgate_config_generation"), time.monotonic(), 0
            while time.monotonic() - start < SECONDS:
                # The two tenants under load are edited as often as all others together.
                gateway.edit([0, 1, count % 1000, (count * 7) % 1000][count % 4], count)
                count += 1
                time.sleep(max(0, start + count * 0.1 - time.monotonic()))
            for name, load in loads:
                told(name, load)
            reloads = gateway.metric("tollgate_config_generation") - before
            print(f"  {count} edits, {reloads:.0f} reloads, {gateway.metric('tollgate_config_problems'):.0f} problems")
        finally:
            gateway.stop()


def takeover():
    with tempfile.TemporaryDirectory() as dir:
        gateway = Gateway(dir, 100)
        try:
            print(f"100 tenants on the embedded store, {2 * RATE} requests/s for {SECONDS} s, a new process takes over every 5 s")
            loads = [("HTTP/1.1", oha(gateway, "t0.localhost", [])), ("HTTP/2", oha(gateway, "t1.localhost", ["--http2"])),
                     ("HTTP/1.1, a connection each", oha(gateway, "t2.localhost", ["--disable-keepalive"], 100))]
            start, times = time.monotonic(), []
            while time.monotonic() - start < SECONDS - 6:
                time.sleep(5)
                old, begun = gateway.process, time.monotonic()
                gateway.start("--takeover")
                times.append(time.monotonic() - begun)
                assert old.wait(60) == 0
            for name, load in loads:
                told(name, load)
            print(f"  {len(times)} times, {max(times):.2f} s at the longest from the new one's start until it served")
        finally:
            gateway.stop()


def in_force(gateway, before, every):
    """Waits for the next generation of the configuration."""
    until = time.monotonic() + 60
    while gateway.metric("tollgate_config_generation") == before:
        if time.monotonic() > until:
            sys.exit("no other generation within a minute")
        time.sleep(every)


def many(tenants=10_000):
    with tempfile.TemporaryDirectory() as few, tempfile.TemporaryDirectory() as dir:
        small = Gateway(few, 10)
        base = small.memory()
        small.stop()
        gateway = Gateway(dir, tenants)
        try:
            memory = gateway.memory()
            print(f"{tenants} tenants: start {gateway.started:.2f} s, resident {memory // 1024} MiB, "
                  f"{(memory - base) / (tenants - 10):.1f} KiB a tenant")
            times, work = [], []
            for number in range(20):
                before, cpu, start = gateway.metric("tollgate_config_generation"), gateway.cpu(), time.monotonic()
                gateway.edit(number * 37, 1)
                in_force(gateway, before, 0.002)
                times.append(time.monotonic() - start)
                work.append(gateway.cpu() - cpu)
            times.sort(), work.sort()
            print(f"an edit is in force after {times[10] * 1000:.0f} ms (p50), {times[-1] * 1000:.0f} ms (worst of 20); "
                  f"{work[10] * 1000:.0f} ms of processor time each")
            before, start = gateway.metric("tollgate_config_generation"), time.monotonic()
            gateway.process.send_signal(signal.SIGHUP)
            in_force(gateway, before, 0.01)
            print(f"SIGHUP, which reads all: {time.monotonic() - start:.2f} s")
        finally:
            gateway.stop()


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["edits", "takeover", "many"]
    if "edits" in wanted:
        edits()
    if "takeover" in wanted:
        takeover()
    if "many" in wanted:
        many()
