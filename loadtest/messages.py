#!/usr/bin/env python3
"""Sends messages on the channels of a hundred tenants. It checks whether all are handled, in order, and in how much memory, and measures
how soon a gateway receives messages again after its Redis came back. Everything runs on 127.0.0.1, bounded in number and time.

    loadtest/messages.py

You can set MESSAGES and RATE. TOLLGATE names the gateway's program (default: target/release/tollgate).
"""
import os, pathlib, re, signal, socket, subprocess, tempfile, time

from faults import GUESTS, TOLLGATE, Redis, until_ready

TENANTS = 100
MESSAGES = min(int(os.environ.get("MESSAGES", 100_000)), 1_000_000) // TENANTS * TENANTS
RATE = min(int(os.environ.get("RATE", 5_000)), 50_000)
EACH = MESSAGES // TENANTS
FILE = """schema = 1
hosts = ["{id}.localhost"]
[[component]]
name = "listener"
source = "{guests}/messages-5.wasm"
stores = ["default"]
redis = ["redis://granted:6379"]
[[subscription]]
channel = "c"
component = "listener"
"""


class Gateway:
    def __init__(self, dir, storage):
        root = self.dir = pathlib.Path(dir)
        (root / "config").mkdir()
        (root / "config/gateway.toml").write_text('schema = 1\n[storage]\ntimeout = "2s"\n[telemetry]\nlog = "warn,messages=off"\n')
        for number in range(TENANTS):
            folder = root / f"tenants/t{number}"
            folder.mkdir(parents=True)
            (folder / "tenant.toml").write_text(FILE.format(id=folder.name, guests=GUESTS))
        words = [TOLLGATE, "serve", "--config", root / "config/gateway.toml", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0",
                 "--admin", "127.0.0.1:0", "--storage", storage]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=open(root / "log", "w"), text=True)
        for line in self.process.stdout:
            if line.startswith("admin"):
                host, self.admin = line.split()[1].rsplit(":", 1)
                until_ready(int(self.admin))
                break

    def metrics(self):
        with socket.create_connection(("127.0.0.1", int(self.admin))) as s:
            token = (self.dir / "state/admin.token").read_text().strip()
            s.sendall(f"GET /metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n".encode())
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
        total = lambda name: sum(float(value) for value in re.findall(rf"^{name}\{{.*\}} (\S+)$", text, re.M))
        return total("tollgate_messages_total"), total("tollgate_messages_dropped_total")

    def memory(self, which="VmRSS"):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{which}:\s+(\d+)", text)[1]) // 1024


class Raw:
    """A Redis connection that pipelines its commands."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def send(self, commands):
        words = [[str(word).encode() for word in command] for command in commands]
        self.socket.sendall(b"".join(b"*%d\r\n" % len(c) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in c) for c in words))
        return [int(self.file.readline()[1:]) for _ in words]


def wait(what, look, seconds=120):
    until = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < until, f"waited too long for {what}"
        time.sleep(0.05)


def publish(raw, numbers):
    """Publishes the messages of these numbers to all tenants, at RATE. Returns how many had no subscriber, and the actual rate."""
    unheard, start, sent = 0, time.monotonic(), 0
    batch = []
    for number in numbers:
        for tenant in range(TENANTS):
            batch.append(("PUBLISH", f"tg:{{t{tenant}}}:ch:c", f"append log {number}"))
            if len(batch) == 50:
                unheard += sum(heard == 0 for heard in raw.send(batch))
                sent, batch = sent + 50, []
                time.sleep(max(0, start + sent / RATE - time.monotonic()))
    return unheard, sent / (time.monotonic() - start)


def main():
    with tempfile.TemporaryDirectory() as dir:
        redis = Redis(dir)
        gateway = Gateway(dir, f"redis://127.0.0.1:{redis.port}")
        try:
            raw = Raw(redis.port)
            wait("subscriptions", lambda: raw.send([("PUBLISH", f"tg:{{t{TENANTS - 1}}}:ch:c", "print ready")]) == [1])
            wait("the first run", lambda: gateway.metrics()[0] >= 1)
            before, at_start = gateway.memory(), gateway.metrics()[0]
            start = time.monotonic()
            unheard, rate = publish(raw, range(EACH))
            published = time.monotonic() - start
            wait("all runs", lambda: gateway.metrics()[0] - at_start >= MESSAGES)
            handled = time.monotonic() - start
            wanted = "".join(f"{number} " for number in range(EACH))
            whole = sum(redis.cli("hget", f"tg:{{t{tenant}}}:kv:default", "log") + " " == wanted for tenant in range(TENANTS))
            print(f"{MESSAGES} messages of {TENANTS} tenants, published at {rate:.0f}/s in {published:.1f} s, {unheard} unheard")
            print(f"handled {gateway.metrics()[0] - at_start:.0f} in {handled:.1f} s, dropped {gateway.metrics()[1]:.0f}")
            print(f"tenants whose messages are all there and in order: {whole} of {TENANTS}")
            print(f"memory: {before} MiB before, {gateway.memory('VmHWM')} MiB at the most, {gateway.memory()} MiB after")
            # Redis is killed, and is back half a second later.
            redis.kill()
            time.sleep(0.5)
            redis.start()
            back = time.monotonic()
            raw = Raw(redis.port)
            wait("a subscription", lambda: raw.send([("PUBLISH", f"tg:{{t{TENANTS - 1}}}:ch:c", "print again")]) == [1])
            print(f"after a restart of Redis, heard again {time.monotonic() - back:.2f} s after it answered")
            at_start = gateway.metrics()[0]
            unheard, rate = publish(raw, range(EACH // 10))
            wait("all runs", lambda: gateway.metrics()[0] - at_start >= MESSAGES // 10)
            print(f"then {MESSAGES // 10} more at {rate:.0f}/s: {unheard} unheard, all handled")
        finally:
            gateway.process.send_signal(signal.SIGTERM)
            gateway.process.wait(timeout=60)
            redis.kill()


if __name__ == "__main__":
    main()
