#!/usr/bin/env python3
"""Runs each Redis command that the gateway serves at its documented maximum, against the largest data that a tenant may have. It measures
how long the command keeps the server, and how large an answer the gateway gets. It exits with 1 if a command takes over 5 ms or returns
over 8 MiB in its best run, or is not served.

    loadtest/commands.py [--runs N] [--only NAME …] [SERVER …]     SERVER is a program (default: redis-server)

TOLLGATE names the gateway's program (default: target/release/tollgate). Everything runs on 127.0.0.1. gateway/redis/maxima.txt lists the
commands. The servers that `make test-servers` fetches: find "$SERVERS" -name '*-server'.
"""
import argparse, http.client, json, os, pathlib, re, shutil, socket, subprocess, sys, tempfile, time

TOP = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
TOLLGATE = os.environ.get("TOLLGATE", TARGET / "release/tollgate")
GUESTS = pathlib.Path(os.environ.get("TOLLGATE_GUESTS", TOP / "tests/guests/target/components"))
COMMANDS = TOP / "gateway/src/store/commands"
MICROSECONDS_MAX, BYTES_MAX = 5_000, 8 << 20
# One tenant has no quota. For the other, each write updates the sum of its data.
TENANTS = ["plain", "counted"]
MIB = 1 << 20
# name: kind, number of elements, bytes of each element.
DATA = {
    "TINY": ("string", 1, 1), "MIB": ("string", 1, MIB), "HALF": ("string", 1, MIB // 2), "ZEROS": ("zeros", 1, MIB),
    "NUMBER": ("number", 1, 1), "HLL": ("hll", 5000, 8),
    "SET1K5": ("set", 1500, 20), "SET4K": ("set", 4000, 20), "SET10K": ("set", 10000, 20), "SET99K": ("set", 99000, 20),
    "SET100K": ("set", 100000, 20), "OTHER1K5": ("other-set", 1500, 20), "SETWIDE": ("set", 750, 4096),
    "HASH3K": ("hash", 3000, 20), "HASH10K": ("hash", 10000, 20), "HASH99K": ("hash", 99000, 20), "HASH100K": ("hash", 100000, 20),
    "HASHMIB": ("hash", 64, MIB), "HASH4MIB": ("hash", 3900, 900), "HASHWIDE": ("hash", 900, 4096),
    "LIST10K": ("list", 10000, 300), "LIST50K": ("list", 50000, 20), "LIST99K": ("list", 99000, 20), "LIST100K": ("list", 100000, 20),
    "LISTMIB": ("list", 60, MIB), "LIST30MIB": ("list", 30, MIB), "LISTMOVE": ("list", 60, MIB // 4), "LISTNODES": ("list", 50000, 5000), "LISTSAME": ("same", 2000, 4),
    "ZSET1K5": ("zset", 1500, 20), "ZSET3K": ("zset", 3000, 20), "ZSET4K": ("zset", 4000, 20), "ZSET10K": ("zset", 10000, 20), "ZSET99K": ("zset", 99000, 20),
    "ZSET100K": ("zset", 100000, 20), "ZSAME100K": ("zsame", 100000, 20), "ZOTHER1K5": ("other-zset", 1500, 20), "ZSETWIDE": ("zsame", 900, 4096),
    "GEO2K": ("geo", 2000, 20), "GEO99K": ("geo", 99000, 20),
    "STREAM10K": ("stream", 10000, 20), "STREAM99K": ("stream", 99000, 20), "STREAMWIDE": ("stream", 100, 65000),
    "GROUP10K": ("group", 9990, 20), "GROUPWIDE": ("group", 100, 65000), "GROUPNEW": ("new-group", 10000, 20),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Redis:
    def __init__(self, program, dir):
        self.port = free_port()
        words = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--maxmemory", "3gb"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        for _ in range(300):
            try:
                self.socket = socket.create_connection(("127.0.0.1", self.port))
                break
            except OSError:
                time.sleep(0.05)
        else:
            sys.exit(f"{program} does not answer")
        self.file = self.socket.makefile("rb", MIB)

    def send(self, words):
        out = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            out.append(b"$%d\r\n%b\r\n" % (len(word), word))
        self.socket.sendall(b"".join(out))

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def __call__(self, *words):
        self.send(words)
        return self.read()

    def all(self, commands):
        sent = 0
        for words in commands:
            self.send(words)
            sent += 1
            if sent == 50:
                for _ in range(sent):
                    self.read()
                sent = 0
        for _ in range(sent):
            self.read()

    def make(self, key, kind, count, size):
        """Writes test data with the server's own commands."""
        def pad(text):
            return text.encode().ljust(size, b"x") if size > 20 else text.encode()

        def some(command, each, step):
            step = max(1, min(step, 400000 // max(size, 1)))
            self.all([[command, key, *(word for n in range(at, min(at + step, count)) for word in each(n))] for at in range(0, count, step)])

        prefix = "o" if kind.startswith("other") else "m"
        value = b"x" * size
        if kind in ("string", "zeros", "number"):
            self("SET", key, {"string": value, "zeros": b"\0" * size, "number": 5}[kind])
        elif kind == "hll":
            some("PFADD", lambda n: [f"{key}-{n}"], 500)
        elif kind.endswith("zset") or kind == "zsame":
            some("ZADD", lambda n: [0 if kind == "zsame" else n, pad(f"{prefix}{n}") if size <= 20 else value[:-8] + b"%08d" % n], 500)
        elif kind.endswith("set"):
            some("SADD", lambda n: [pad(f"{prefix}{n}")], 500)
        elif kind == "hash":
            some("HSET", lambda n: [f"m{n}", value], 500)
        elif kind == "list":
            some("RPUSH", lambda n: [pad(f"e{n}")], 500)
        elif kind == "same":
            some("RPUSH", lambda n: ["same"], 500)
        elif kind == "geo":
            some("GEOADD", lambda n: [n % 360 - 179.5, n % 170 / 2 - 40, f"m{n}"], 300)
        else:
            self.all([["XADD", key, f"{n}-1", "f", value] for n in range(1, count + 1)])
        if kind.endswith("group"):
            self("XGROUP", "CREATE", key, "g", 0)
            if kind == "group":
                self("XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">")

    def spent(self):
        """The longest time that one command kept the server, in microseconds."""
        longest = 0
        for line in self("INFO", "commandstats").decode().splitlines():
            found = re.match(r"cmdstat_([^:]+):calls=(\d+),usec=(\d+)", line)
            if found and found[1] not in ("info", "config|resetstat", "config"):
                longest = max(longest, int(found[3]) / int(found[2]))
        return longest

    def told(self):
        return int(re.search(r"total_net_output_bytes:(\d+)", self("INFO", "stats").decode())[1])

    def end(self):
        self.process.kill()
        self.process.wait()


class Gateway:
    def __init__(self, dir, storage):
        root = pathlib.Path(dir)
        (root / "config").mkdir()
        (root / "config/gateway.toml").write_text('schema = 1\n[storage]\ntimeout = "30s"\n[telemetry]\nlog = "info,access=off"\n')
        for tenant in TENANTS:
            quota = '[quota]\nstorage = { bytes = "64GiB", keys = 100000000 }\n' if tenant == "counted" else ""
            (root / f"tenants/{tenant}").mkdir(parents=True)
            (root / f"tenants/{tenant}/tenant.toml").write_text(
                f'schema = 1\nhosts = ["{tenant}.localhost"]\n{quota}[[component]]\nname = "site"\nsource = "{GUESTS}/echo.wasm"\n'
                '[[route]]\npath = "/..."\ncomponent = "site"\n')
        words = [TOLLGATE, "serve", "--config", root / "config/gateway.toml", "--state", root / "state", "--https", "127.0.0.1:0",
                 "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--storage", storage]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=open(root / "log", "w"), text=True)
        for line in self.process.stdout:
            if line.startswith("admin"):
                self.address = line.split()[1].split("/")[-1]
                break
        else:
            sys.exit(f"tollgate did not start: {(root / 'log').read_text()}")
        self.token = (root / "state/admin.token").read_text().strip()

    def ask(self, tenant, words):
        """Runs a command for the tenant. Returns the refusal, or None."""
        body = json.dumps({"command": [word.decode() for word in words]})
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        # A new connection each time: one that was idle while data was written may have been closed.
        connection = http.client.HTTPConnection(self.address, timeout=120)
        connection.request("POST", f"/v1/tenants/{tenant}/data/command", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return None if answer.status == 200 else f"{answer.status} {text[:300].decode()}"

    def end(self):
        self.process.terminate()
        self.process.wait(30)


def spread(text):
    """Expands one word of the file into the words that it stands for."""
    found = re.fullmatch(r"\{(\d+)\.\.(\d+)\}:(.*)", text)
    if found:
        return [word for n in range(int(found[1]), int(found[2])) for part in found[3].split(",") for word in spread(part.replace("%", str(n)))]
    return [re.sub(r"#(\d+)$", lambda size: "x" * int(size[1]), text).encode()]


def rows():
    for line in (TOP / "gateway/redis/maxima.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, data, words = (part.strip() for part in line.split("|"))
            data = [pair.decode().split("<") for text in data.split() for pair in spread(text)]
            yield name, data, [word for text in words.split() for word in spread(text)], words


def measure(redis, gateway, tenant, data, words, runs):
    """Microseconds of the fastest run and the most bytes of any run; or the refusal, as text."""
    measured = []
    own = f"tg:{{{tenant}}}:r:"
    for _ in range(runs):
        redis.all([["COPY", f"data:{{{tenant}}}:{name}", own + key, "REPLACE"] for key, name in data])
        redis("CONFIG", "RESETSTAT")
        before = redis.told()
        wrong = gateway.ask(tenant, words)
        told = redis.told() - before
        measured.append((redis.spent(), told))
        left = [key for key in redis("KEYS", own + "*")]
        if left:
            redis("UNLINK", *left)
        if wrong:
            return wrong
    # A busy machine only adds time.
    return min(time for time, _ in measured), max(told for _, told in measured)


def run(program, only, runs):
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    version = f"{version.split()[0]} {re.search(r'v=([0-9.]+)', version)[1]}"
    dir = tempfile.mkdtemp(prefix="commands-")
    redis = Redis(program, dir)
    gateway = Gateway(dir, f"redis://127.0.0.1:{redis.port}")
    failed, table = 0, []
    try:
        made = set()
        # Warms up: a server must first load a script that it has not seen.
        for tenant in TENANTS:
            gateway.ask(tenant, [b"SET", b"warm", b"up"])
        for name, data, words, text in rows():
            if only and name not in only:
                continue
            for tenant in TENANTS:
                for _, which in data:
                    if (tenant, which) not in made:
                        # Outside the tenant's keys, but in the same slot.
                        redis.make(f"data:{{{tenant}}}:{which}", *DATA[which])
                        made.add((tenant, which))
                found = measure(redis, gateway, tenant, data, words, runs)
                if isinstance(found, str):
                    failed += 1
                    print(f"{version} {tenant:8} {name:20} NOT SERVED: {found}   ({text})", flush=True)
                    continue
                time_us, told = found
                over = time_us > MICROSECONDS_MAX or told > BYTES_MAX
                failed += over
                table.append((time_us, told, name, tenant, text))
                print(f"{version} {tenant:8} {name:20} {time_us:7.0f} us {told:9} bytes{'  OVER' if over else ''}   {text[:70]}", flush=True)
    finally:
        gateway.end()
        redis.end()
        shutil.rmtree(dir, ignore_errors=True)
    table.sort(reverse=True)
    print(f"\n{version}: {len(table)} rows, {failed} failed; the longest:")
    for time_us, told, name, tenant, text in table[:10]:
        print(f"  {time_us:7.0f} us {told:9} bytes  {tenant:8} {text[:80]}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", default=["redis-server"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[])
    words = parser.parse_args()
    served = re.findall(r'rule\("([A-Z_]+)"', (COMMANDS / "table.rs").read_text())
    missing = sorted(set(served) - {name for name, *_ in rows()})
    if missing:
        sys.exit(f"maxima.txt has no row for {', '.join(missing)}")
    failed = sum(run(shutil.which(server) or server, words.only, words.runs) for server in words.servers)
    sys.exit(1 if failed else 0)


main()
