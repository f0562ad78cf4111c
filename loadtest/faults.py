#!/usr/bin/env python3
"""Shows what guests see while Redis fails. For each fault it measures how long writes failed, what was answered meanwhile and how fast, and
whether a guest without storage noticed. Everything runs on 127.0.0.1, and each scenario is bounded in time.

    loadtest/faults.py [SCENARIO …]

TOLLGATE names the gateway's program (default: target/release/tollgate).
"""
import collections, os, pathlib, random, shutil, signal, socket, ssl, subprocess, sys, tempfile, threading, time

TOP = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
TOLLGATE = os.environ.get("TOLLGATE", TARGET / "release/tollgate")
GUESTS = pathlib.Path(os.environ.get("TOLLGATE_GUESTS", TOP / "tests/guests/target/components"))
WRITERS, EVERY, TIMEOUT_MS = 8, 0.005, 500


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until_ready(admin):
    """Waits until the gateway on this admin port has loaded its tenants: it listens before their components are compiled."""
    for _ in range(6000):
        with socket.create_connection(("127.0.0.1", admin)) as s:
            s.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            if b"".join(iter(lambda: s.recv(65536), b"")).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.02)
    sys.exit("tollgate's tenants are not loaded")


class Redis:
    def __init__(self, dir, *more):
        self.port, self.more, self.dir = free_port() % 40000 + 10000, more, pathlib.Path(dir) / f"r{random.randrange(10**9)}"
        self.dir.mkdir()
        self.start()

    def start(self):
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.dir), "--save", ""]
        self.process = subprocess.Popen([*words, *self.more], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while self.cli("ping") != "PONG":
            if time.monotonic() > until or self.process.poll() is not None:
                self.kill()
                sys.exit(f"redis-server on port {self.port} does not answer")
            time.sleep(0.02)

    def cli(self, *words):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, which):
        self.process.send_signal(which)

    def end(self):
        self.signal(signal.SIGCONT)
        self.kill()


class Gateway:
    def __init__(self, dir, storage):
        root = pathlib.Path(dir)
        (root / "config").mkdir()
        (root / "config/gateway.toml").write_text(f'schema = 1\n[storage]\ntimeout = "{TIMEOUT_MS}ms"\n[telemetry]\nlog = "info,access=off"\n')
        for tenant, guest in [("a", "kv"), ("b", "kv"), ("c", "kv"), ("d", "kv"), ("plain", "echo")]:
            (root / f"tenants/{tenant}").mkdir(parents=True)
            (root / f"tenants/{tenant}/tenant.toml").write_text(
                f'schema = 1\nhosts = ["{tenant}.localhost"]\n[[component]]\nname = "site"\nsource = "{GUESTS}/{guest}.wasm"\n'
                'stores = ["default"]\n[[route]]\npath = "/..."\ncomponent = "site"\n')
        words = [TOLLGATE, "serve", "--config", root / "config/gateway.toml", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0",
                 "--admin", "127.0.0.1:0", "--storage", storage]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=open(root / "log", "w"), text=True)
        for line in self.process.stdout:
            if line.startswith("https"):
                host, port = line.split()[1].split("/")[-1].rsplit(":", 1)
                self.address = (host, int(port))
            if line.startswith("admin"):
                until_ready(int(line.rsplit(":", 1)[1]))
                return
        sys.exit(f"tollgate did not start: {(root / 'log').read_text()}")


class Client:
    """One connection, opened again after a failure, which counts as status 0."""
    context = ssl._create_unverified_context()

    def __init__(self, gateway, tenant):
        self.gateway, self.host, self.stream = gateway, f"{tenant}.localhost", None

    def ask(self, path, body=b""):
        try:
            return self.asked(path, body)
        except OSError as error:
            self.stream = None
            return 0, str(error)

    def more(self):
        piece = self.stream.recv(65536)
        if not piece:
            raise ConnectionError("it hung up")
        return piece

    def asked(self, path, body):
        if self.stream is None:
            plain = socket.create_connection(self.gateway.address, timeout=30)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.stream = self.context.wrap_socket(plain, server_hostname=self.host)
        head = f"POST {path} HTTP/1.1\r\nhost: {self.host}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        self.stream.sendall(head + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.more()
        head, _, rest = answer.partition(b"\r\n\r\n")
        headers = head.lower()
        if b"content-length: " in headers:
            length = int(headers.split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(rest) < length:
                rest += self.more()
        else:
            while not rest.endswith(b"0\r\n\r\n"):
                rest += self.more()
            pieces, left = b"", rest
            while left:
                size, _, left = left.partition(b"\r\n")
                pieces, left = pieces + left[: int(size, 16)], left[int(size, 16) + 2:]
            rest = pieces
        return int(head.split()[1]), rest.decode(errors="replace")


class Load:
    """Writers for each tenant, and one client of a guest without storage. Each records start, duration and result of each request."""

    def __init__(self, gateway, tenants, writers=WRITERS):
        self.gateway, self.seen, self.stop = gateway, collections.defaultdict(list), threading.Event()
        self.acknowledged = {}
        jobs = [(tenant, writer) for tenant in tenants for writer in range(writers)] + [("plain", 0)]
        self.threads = [threading.Thread(target=self.work, args=job) for job in jobs]
        for thread in self.threads:
            thread.start()

    def work(self, tenant, writer):
        client, n = Client(self.gateway, tenant), 0
        while not self.stop.is_set():
            n, start = n + 1, time.monotonic()
            path = "/ok" if tenant == "plain" else f"/-/set/w{writer}"
            status, text = client.ask(path, str(n).encode())
            took = time.monotonic() - start
            if tenant != "plain" and status == 200 and text == "set":
                self.acknowledged[tenant, writer] = n
            self.seen[tenant].append((start, took, status, text if status != 200 else ""))
            time.sleep(max(0, EVERY - took))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def lost(self):
        """The number of writers whose last acknowledged write is lost. A later write may be there instead."""
        lost = 0
        for (tenant, writer), n in self.acknowledged.items():
            _, text = Client(self.gateway, tenant).ask(f"/-/get/w{writer}")
            lost += not text.isdigit() or int(text) < n
        return lost


def p99(times):
    return sorted(times)[len(times) * 99 // 100] * 1000 if times else float("nan")


def report(name, load, fault_at, healed_at, affected, kept=True):
    for tenant in sorted(load.seen):
        seen = sorted(load.seen[tenant])
        during = [s for s in seen if fault_at <= s[0] <= healed_at + 2]
        good = [s[0] + s[1] for s in seen if s[2] == 200]
        gap = max((b - a for a, b in zip(good, good[1:]) if b > fault_at - 0.1), default=float("nan"))
        bad = [s for s in during if s[2] != 200]
        words = collections.Counter(s[3].split(":")[0].replace('Error::Other("', "")[:24] for s in bad)
        before = p99([s[1] for s in seen if s[0] < fault_at - 0.2])
        mark = {"plain": "no storage"}.get(tenant, "affected" if tenant in affected else "elsewhere")
        print(f"{name:26} {tenant:5} {mark:10} no success for {gap:6.2f} s · {len(bad):5} errors of {len(during):5} "
              f"· slowest {max((s[1] for s in during), default=0) * 1000:6.0f} ms · p99 {before:5.1f} → "
              f"{p99([s[1] for s in during]):6.1f} ms · {dict(words) or ''}", flush=True)
    if kept:
        print(f"{name:26} acknowledged writes lost: {load.lost()} of {len(load.acknowledged)} writers' last", flush=True)


def run(name, gateway, tenants, fault, heal, wait, affected, settle=6.0, kept=True, writers=WRITERS):
    load = Load(gateway, tenants, writers)
    time.sleep(2)
    fault_at = time.monotonic()
    fault()
    time.sleep(wait)
    heal()
    healed_at = time.monotonic()
    time.sleep(settle)
    load.end()
    report(name, load, fault_at, healed_at, affected, kept)


def single(name, dir, started):
    redis = Redis(dir, "--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes")
    started.append(redis.end)
    gateway = Gateway(dir, f"redis://127.0.0.1:{redis.port}")
    started.append(gateway.process.kill)
    nothing = lambda: None
    if name == "killed and restarted":
        run(name, gateway, ["a"], redis.kill, redis.start, 3, ["a"])
    elif name == "stopped for 5 s":
        run(name, gateway, ["a"], lambda: redis.signal(signal.SIGSTOP), lambda: redis.signal(signal.SIGCONT), 5, ["a"])
    elif name == "slow":
        # A command that sleeps a tenth of a second, again and again: all others wait behind it.
        stop = threading.Event()

        def slow():
            while not stop.is_set():
                redis.cli("debug", "sleep", "0.1")
        thread = threading.Thread(target=slow)
        run(name, gateway, ["a"], thread.start, lambda: (stop.set(), thread.join()), 4, ["a"], settle=3)
    elif name == "many callers, stopped":
        run(name, gateway, ["a"], lambda: redis.signal(signal.SIGSTOP), lambda: redis.signal(signal.SIGCONT), 2, ["a"],
            settle=3, writers=100)


def cluster(name, dir, started):
    servers = []
    for _ in range(6):
        servers.append(Redis(dir, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no",
                             "--appendonly", "yes", "--enable-debug-command", "yes"))
        started.append(servers[-1].end)
    addresses = [f"127.0.0.1:{server.port}" for server in servers]
    subprocess.run(["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"],
                   check=True, stdout=subprocess.DEVNULL)
    time.sleep(2)
    gateway = Gateway(dir, "redis-cluster:" + ",".join(f"redis://{address}" for address in addresses))
    started.append(gateway.process.kill)
    time.sleep(1)
    slots = lambda tenant: int(servers[0].cli("cluster", "keyslot", f"{{{tenant}}}"))
    ranges = [line.split() for line in servers[0].cli("cluster", "nodes").splitlines()]
    primary = lambda tenant: next(
        server for server in servers for line in ranges if "master" in line[2] and line[1].startswith(f"127.0.0.1:{server.port}@")
        and any(int(part.split("-")[0]) <= slots(tenant) <= int(part.split("-")[-1]) for part in line[8:]))
    victim = primary("a")
    hurt = [tenant for tenant in "abcd" if primary(tenant) is victim]
    spared = [tenant for tenant in "abcd" if primary(tenant) is not victim][:1]
    tenants, nothing = ["a", *spared], lambda: None

    def watched(fault):
        """Wraps the fault, and records when the servers themselves have a primary again."""
        def begin():
            fault()
            start = time.monotonic()

            def watch():
                while time.monotonic() < start + 15:
                    for line in primary(spared[0]).cli("cluster", "nodes").splitlines():
                        parts = line.split()
                        holds = any(int(part.split("-")[0]) <= slots_of_a <= int(part.split("-")[-1]) for part in parts[8:])
                        if "master" in parts[2] and holds and not parts[1].startswith(f"127.0.0.1:{victim.port}@"):
                            promoted.append(time.monotonic() - start)
                            return
                    time.sleep(0.05)
            thread = threading.Thread(target=watch)
            thread.start()
        return begin
    slots_of_a, promoted = slots("a"), []
    if name == "primary killed":
        run(name, gateway, tenants, watched(victim.kill), nothing, 8, hurt)
    elif name == "primary hangs":
        stop = watched(lambda: victim.signal(signal.SIGSTOP))
        run(name, gateway, tenants, stop, lambda: victim.signal(signal.SIGCONT), 8, hurt)
    elif name == "slots move":
        other = next(server for server in servers if server is primary(spared[0]))
        node = {server: server.cli("cluster", "myid") for server in (victim, other)}
        move = lambda: subprocess.run(
            ["redis-cli", "--cluster", "reshard", addresses[0], "--cluster-from", node[victim], "--cluster-to", node[other],
             "--cluster-slots", "5461", "--cluster-yes"], stdout=subprocess.DEVNULL, timeout=120)
        run(name, gateway, tenants, move, nothing, 0.5, hurt, settle=3)
    if promoted:
        print(f"{name:26} the cluster itself had another primary after {promoted[0]:.2f} s", flush=True)


SINGLE = ["killed and restarted", "stopped for 5 s", "slow", "many callers, stopped"]
CLUSTER = ["primary killed", "primary hangs", "slots move"]


def main():
    print(f"{WRITERS} writers a tenant, one write each every {EVERY * 1000:.0f} ms; storage.timeout {TIMEOUT_MS} ms; "
          "cluster-node-timeout 2 s, require-full-coverage no")
    for name in sys.argv[1:] or SINGLE + CLUSTER:
        dir, started = tempfile.mkdtemp(prefix="faults-"), []
        try:
            (single if name in SINGLE else cluster)(name, dir, started)
        finally:
            for end in reversed(started):
                end()
            shutil.rmtree(dir, ignore_errors=True)


if __name__ == "__main__":
    main()
