"""HTTP/2, frame by frame: checks from outside what RFC 9113 and RFC 7541 require of servers, with hyperframe and hpack.

In: {"port", "ca", "name", "streams", "head_bytes"}. Out: {"checks": [{"name", "wanted", "found", "ok"}]}. `name` says the
section. `wanted` is `connection CODE` (GOAWAY, then the end), `stream CODE` (RST_STREAM; the connection goes on), `answer
STATUS`, `alive` (PING is answered), `end` (the server closes the connection), or several of them with ` or ` between. A stream error may
end the connection instead (section 5.4.2 leaves that to the server).
"""

import json
import socket
import ssl
import struct
import sys

import hpack
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

CODES = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
         "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
         "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, ACK = 0x1, 0x4, 0x8, 0x1
order = json.load(sys.stdin)
checks = []


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def fields(method="GET", path="/head", more=(), leave_out=()):
    pseudo = [(":method", method), (":scheme", "https"), (":authority", order["name"]), (":path", path)]
    return [pair for pair in pseudo if pair[0] not in leave_out] + list(more)


def block(pairs):
    return hpack.Encoder().encode(pairs, huffman=False)


def literal(name, value):
    """Encodes any field unchanged: without indexing, with a new name (RFC 7541 §6.2.2)."""
    name, value = name.encode("latin-1"), value.encode("latin-1")
    assert len(name) < 127 and len(value) < 127
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def get(stream=1, flags=END_STREAM | END_HEADERS, **named):
    return frame(HEADERS, flags, stream, block(fields(**named)))


def post(stream=1, length=None):
    more = [] if length is None else [("content-length", str(length))]
    return frame(HEADERS, END_HEADERS, stream, block(fields("POST", "/sized", more)))


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


class Peer:
    def __init__(self, preface=PREFACE, first=settings()):
        context = ssl.create_default_context(cafile=order["ca"])
        context.set_alpn_protocols(["h2"])
        tcp = socket.create_connection(("127.0.0.1", order["port"]), timeout=10)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = context.wrap_socket(tcp, server_hostname=order["name"])
        self.buffer = b""
        self.decoder = hpack.Decoder()
        self.frames = []
        self.send(preface + first)

    def send(self, data):
        try:
            self.tls.sendall(data)
        except OSError:
            pass

    def next(self, seconds):
        """The next frame; nothing where none came in time; False at the end."""
        self.tls.settimeout(seconds)
        try:
            while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
                more = self.tls.recv(65536)
                if not more:
                    return False
                self.buffer += more
        except TimeoutError:
            return None
        except OSError:
            return False
        length = int.from_bytes(self.buffer[:3], "big")
        parsed, _ = Frame.parse_frame_header(memoryview(self.buffer[:9]))
        parsed.parse_body(memoryview(self.buffer[9:9 + length]))
        self.buffer = self.buffer[9 + length:]
        if isinstance(parsed, HeadersFrame):
            parsed.status = int(dict(self.decoder.decode(parsed.data)).get(":status", 0))
        self.frames.append(parsed)
        return parsed

    def settled(self):
        """Waits for the server's first SETTINGS and acknowledges them."""
        while got := self.next(10):
            if isinstance(got, SettingsFrame) and "ACK" not in got.flags:
                self.send(frame(SETTINGS, ACK))
                return self
        return self

    def look(self, wanted):
        """Sends a PING and returns all that the server answers, until one of `wanted` is met and a moment longer."""
        self.send(frame(PING, 0, 0, b"the end!"))
        found = {"connection": [], "stream": [], "answer": [], "alive": [], "end": []}
        while True:
            met = any(is_met(one, found) for one in wanted)
            got = self.next(0.1 if met and found["alive"] else 10)
            if got is None:
                return found
            if got is False:
                found["end"].append("closed")
                return found
            if isinstance(got, GoAwayFrame):
                found["connection"].append(CODES[got.error_code])
            elif isinstance(got, RstStreamFrame):
                found["stream"].append(CODES[got.error_code])
            elif isinstance(got, HeadersFrame):
                found["answer"].append(str(got.status))
            elif isinstance(got, PingFrame) and bytes(got.opaque_data) == b"the end!":
                found["alive"].append("")


def is_met(wanted, found):
    kind, _, code = wanted.partition(" ")
    # RFC 9113 5.4: a generic code may stand for a more specific one.
    codes = {code, "PROTOCOL_ERROR", "INTERNAL_ERROR"}
    if kind == "connection":
        return bool(codes & set(found["connection"]))
    if kind == "stream":
        return code in found["stream"] or bool(codes & set(found["connection"]))
    if kind == "end":
        return bool(found["end"])
    if kind == "answer":
        return code in found["answer"] and not found["connection"]
    return bool(found["alive"]) and not found["connection"] and not found["end"]


def check(name, wanted, *sent, peer=None):
    peer = peer or Peer().settled()
    for data in sent:
        peer.send(data)
    wanted_any = wanted.split(" or ")
    found = peer.look(wanted_any)
    ok = any(is_met(one, found) for one in wanted_any)
    told = "; ".join(f"{kind} {', '.join(codes)}" for kind, codes in found.items() if codes)
    checks.append({"name": name, "wanted": wanted, "found": told, "ok": ok})
    peer.tls.close()


def served_again():
    """Waits until the requests of a closed connection have ended; until then they count against the tenant's quota."""
    for _ in range(100):
        peer = Peer().settled()
        peer.send(get())
        found = peer.look(["answer 200", "answer 429"])
        peer.tls.close()
        if "200" in found["answer"]:
            return


def starting():
    check("9113 3.4 preface, then a request", "answer 200", get(), peer=Peer())
    bad = Peer(preface=b"INVALID CONNECTION PREFACE\r\n\r\n", first=b"")
    check("9113 3.4 a preface that is none", "connection PROTOCOL_ERROR or end", peer=bad)
    check("9113 3.4 no SETTINGS first", "connection PROTOCOL_ERROR or end", peer=Peer(first=frame(PING, 0, 0, bytes(8))))


def framing():
    check("9113 4.1 an unknown type", "alive", frame(0x16, 0, 0, bytes(8)))
    check("9113 4.1 unknown flags", "alive", frame(PING, 0x16, 0, bytes(8)))
    check("9113 4.1 the reserved bit", "alive", frame(PING, 0, 1 << 31, bytes(8)))
    check("9113 4.2 DATA of 2^14", "answer 200", post(), frame(DATA, END_STREAM, 1, bytes(1 << 14)))
    check("9113 4.2 DATA over 2^14", "stream FRAME_SIZE_ERROR", post(), frame(DATA, END_STREAM, 1, bytes((1 << 14) + 1)))
    check("9113 4.2 HEADERS over 2^14", "connection FRAME_SIZE_ERROR",
          frame(HEADERS, END_STREAM | END_HEADERS, 1, block(fields()) + b"\x00\x01x\x01y" * 3300))
    check("9113 4.3 a block that cannot be decoded", "connection COMPRESSION_ERROR",
          frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x40"))
    half = get(flags=END_STREAM)
    check("9113 4.3 PRIORITY within a block", "connection PROTOCOL_ERROR", half, frame(PRIORITY, 0, 1, bytes(4) + b"\x01"))
    check("9113 4.3 HEADERS of another stream within a block", "connection PROTOCOL_ERROR", half, get(3))
    check("9113 5.5 an unknown type within a block", "connection PROTOCOL_ERROR", half, frame(0x16, 0, 1, bytes(8)))


def states():
    check("9113 5.1 idle: DATA", "connection PROTOCOL_ERROR", frame(DATA, END_STREAM, 1, b"x"))
    check("9113 5.1 idle: RST_STREAM", "connection PROTOCOL_ERROR", frame(RST, 0, 1, struct.pack(">I", 8)))
    check("9113 5.1 idle: WINDOW_UPDATE", "connection PROTOCOL_ERROR", frame(WINDOW, 0, 1, struct.pack(">I", 9)))
    check("9113 5.1 idle: CONTINUATION", "connection PROTOCOL_ERROR", frame(CONTINUATION, END_HEADERS, 1, block(fields())))
    check("9113 5.1 half closed: DATA", "stream STREAM_CLOSED", get(), frame(DATA, END_STREAM, 1, b"x"))
    check("9113 5.1 half closed: HEADERS", "stream STREAM_CLOSED", get(), get())
    check("9113 5.1 half closed: CONTINUATION", "connection PROTOCOL_ERROR or stream STREAM_CLOSED", get(),
          frame(CONTINUATION, END_HEADERS, 1, block(fields())))
    # RFC 9113 5.1: frames after our own RST_STREAM are ignored, or are an error of the stream or the connection.
    reset = frame(RST, 0, 1, struct.pack(">I", 8))
    check("9113 5.1 closed by RST_STREAM: DATA", "stream STREAM_CLOSED", post(), reset, frame(DATA, END_STREAM, 1, b"x"))
    check("9113 5.1 closed by RST_STREAM: HEADERS", "stream STREAM_CLOSED", post(), reset, get())
    check("9113 5.1 closed by RST_STREAM: CONTINUATION", "connection PROTOCOL_ERROR or stream STREAM_CLOSED", post(), reset,
          frame(CONTINUATION, END_HEADERS, 1, block(fields())))
    for kind, data, wanted in [
        ("DATA", frame(DATA, END_STREAM, 1, b"x"), "stream STREAM_CLOSED"),
        ("HEADERS", get(), "stream STREAM_CLOSED or connection PROTOCOL_ERROR"),
        ("CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, block(fields())), "connection PROTOCOL_ERROR or stream STREAM_CLOSED"),
    ]:
        peer = Peer().settled()
        peer.send(get())
        while (got := peer.next(10)) and "END_STREAM" not in got.flags:
            pass
        check(f"9113 5.1 closed at its end: {kind}", wanted, data, peer=peer)
    check("9113 5.1 half closed: WINDOW_UPDATE, PRIORITY", "answer 200", get(),
          frame(WINDOW, 0, 1, struct.pack(">I", 9)), frame(PRIORITY, 0, 1, bytes(4) + b"\x01"))
    check("9113 5.1.1 an even stream", "connection PROTOCOL_ERROR", get(2))
    check("9113 5.1.1 a stream below another", "connection PROTOCOL_ERROR or stream STREAM_CLOSED", get(5), get(3))
    more = b"".join(post(1 + 2 * n) for n in range(order["streams"] + 1))
    check("9113 5.1.2 a stream too many", "stream REFUSED_STREAM or stream PROTOCOL_ERROR", more)
    served_again()
    # RFC 9113 5.3.2 deprecates priorities, so a stream that depends on itself means nothing; in RFC 7540 it was an error.
    itself = struct.pack(">IB", 1, 255)
    check("9113 5.3.2 a stream that depends on itself: HEADERS", "answer 200 or stream PROTOCOL_ERROR",
          frame(HEADERS, END_STREAM | END_HEADERS | 0x20, 1, itself + block(fields())))
    check("9113 5.3.2 a stream that depends on itself: PRIORITY", "alive or stream PROTOCOL_ERROR", frame(PRIORITY, 0, 1, itself))


def kinds():
    check("9113 6.1 DATA on stream 0", "connection PROTOCOL_ERROR", post(), frame(DATA, END_STREAM, 0, b"x"))
    check("9113 6.1 padding as long as the payload", "connection PROTOCOL_ERROR", post(),
          frame(DATA, END_STREAM | PADDED, 1, b"\x05abcd"))
    check("9113 6.1 padding", "answer 200", post(length=2), frame(DATA, END_STREAM | PADDED, 1, b"\x03ab\0\0\0"))
    check("9113 6.2 HEADERS on stream 0", "connection PROTOCOL_ERROR", get(0))
    check("9113 6.2 padding as long as the payload", "connection PROTOCOL_ERROR",
          frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\xff" + block(fields())))
    check("9113 6.2 padding and a priority", "answer 200", frame(
        HEADERS, END_STREAM | END_HEADERS | PADDED | 0x20, 1, b"\x02" + bytes(4) + b"\x0f" + block(fields()) + bytes(2)))
    check("9113 6.3 PRIORITY on stream 0", "connection PROTOCOL_ERROR", frame(PRIORITY, 0, 0, bytes(4) + b"\x01"))
    check("9113 6.3 PRIORITY of 4 bytes", "stream FRAME_SIZE_ERROR", get(), frame(PRIORITY, 0, 1, bytes(4)))
    check("9113 6.4 RST_STREAM on stream 0", "connection PROTOCOL_ERROR", frame(RST, 0, 0, bytes(4)))
    check("9113 6.4 RST_STREAM of 3 bytes", "connection FRAME_SIZE_ERROR", post(), frame(RST, 0, 1, bytes(3)))
    check("9113 6.5 an acknowledgement with a payload", "connection FRAME_SIZE_ERROR", frame(SETTINGS, ACK, 0, b"\0"))
    check("9113 6.5 SETTINGS on a stream", "connection PROTOCOL_ERROR", frame(SETTINGS, 0, 1, struct.pack(">HI", 3, 9)))
    check("9113 6.5 SETTINGS of 3 bytes", "connection FRAME_SIZE_ERROR", frame(SETTINGS, 0, 0, bytes(3)))
    check("9113 6.5.2 ENABLE_PUSH of 2", "connection PROTOCOL_ERROR", settings((2, 2)))
    check("9113 6.5.2 INITIAL_WINDOW_SIZE over 2^31-1", "connection FLOW_CONTROL_ERROR", settings((4, 1 << 31)))
    check("9113 6.5.2 MAX_FRAME_SIZE below 2^14", "connection PROTOCOL_ERROR", settings((5, (1 << 14) - 1)))
    check("9113 6.5.2 MAX_FRAME_SIZE over 2^24-1", "connection PROTOCOL_ERROR", settings((5, 1 << 24)))
    check("9113 6.5.2 an unknown setting", "alive", settings((0xFF, 1)))
    check("9113 6.5.3 the last of two values holds", "answer 200", settings((4, 0), (4, 9)), get())
    peer = Peer().settled()
    check("9113 6.5.3 SETTINGS are acknowledged", "alive", settings((3, 100)), peer=peer)
    acknowledged = [got for got in peer.frames if isinstance(got, SettingsFrame) and "ACK" in got.flags]
    checks[-1]["ok"] &= len(acknowledged) >= 2
    check("9113 6.7 PING is answered", "alive")
    check("9113 6.7 an answer to no PING", "alive", frame(PING, ACK, 0, b"invalid!"))
    check("9113 6.7 PING on a stream", "connection PROTOCOL_ERROR", frame(PING, 0, 1, bytes(8)))
    check("9113 6.7 PING of 6 bytes", "connection FRAME_SIZE_ERROR", frame(PING, 0, 0, bytes(6)))
    check("9113 6.8 GOAWAY on a stream", "connection PROTOCOL_ERROR", frame(GOAWAY, 0, 1, bytes(8)))
    check("9113 6.9 WINDOW_UPDATE of 0, connection", "connection PROTOCOL_ERROR", frame(WINDOW, 0, 0, bytes(4)))
    check("9113 6.9 WINDOW_UPDATE of 0, stream", "stream PROTOCOL_ERROR", post(), frame(WINDOW, 0, 1, bytes(4)))
    check("9113 6.9 WINDOW_UPDATE of 3 bytes", "connection FRAME_SIZE_ERROR", frame(WINDOW, 0, 0, bytes(3)))
    much = struct.pack(">I", (1 << 31) - 1)
    check("9113 6.9.1 a window over 2^31-1, connection", "connection FLOW_CONTROL_ERROR", frame(WINDOW, 0, 0, much) * 2)
    check("9113 6.9.1 a window over 2^31-1, stream", "stream FLOW_CONTROL_ERROR", post(), frame(WINDOW, 0, 1, much) * 2)
    for name, before, then in [
        ("6.9.1 no more than the window", settings((4, 1)), b""),
        ("6.9.2 a window that grows after the request", settings((4, 0)), settings((4, 1))),
        ("6.9.2 a window below zero", settings((4, 3)), settings((4, 2)) + frame(WINDOW, 0, 1, struct.pack(">I", 2))),
    ]:
        peer = Peer(first=before).settled()
        check(f"9113 {name}", "answer 200", get(), then, peer=peer)
        sent = [len(got.data) for got in peer.frames if type(got).__name__ == "DataFrame"]
        checks[-1]["ok"] &= 1 <= sum(sent) <= 5
        checks[-1]["found"] += f"; {sent} bytes"
    check("9113 6.9.2 INITIAL_WINDOW_SIZE over its bound", "connection FLOW_CONTROL_ERROR", settings((4, (1 << 31))))
    pieces = [block(fields())[n:n + 5] for n in range(0, len(block(fields())), 5)]
    parts = [frame(HEADERS, END_STREAM, 1, pieces[0])] + [frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:-1]]
    check("9113 6.10 a block in pieces", "answer 200", b"".join(parts) + frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))
    check("9113 6.10 CONTINUATION on stream 0", "connection PROTOCOL_ERROR", parts[0],
          frame(CONTINUATION, END_HEADERS, 0, pieces[1]))
    check("9113 6.10 CONTINUATION behind a whole block", "connection PROTOCOL_ERROR", get(),
          frame(CONTINUATION, END_HEADERS, 1, b""))
    check("9113 6.10 CONTINUATION behind DATA", "connection PROTOCOL_ERROR", post(), frame(DATA, 0, 1, b"x"),
          frame(CONTINUATION, END_HEADERS, 1, b""))
    check("9113 7 RST_STREAM with an unknown code", "alive", post(), frame(RST, 0, 1, struct.pack(">I", 0xFF)))
    check("9113 8.4 PUSH_PROMISE of a client", "connection PROTOCOL_ERROR", post(),
          frame(PUSH, END_HEADERS, 1, struct.pack(">I", 3) + block(fields())))


def messages():
    def request(name, raw, wanted="stream PROTOCOL_ERROR or answer 400"):
        check(f"9113 {name}", wanted, frame(HEADERS, END_STREAM | END_HEADERS, 1, raw))

    good = block(fields())
    check("9113 8.1 trailers without an end", "stream PROTOCOL_ERROR or answer 400", post(),
          frame(HEADERS, END_HEADERS, 1, block([("x", "y")])))
    check("9113 8.1 trailers", "answer 200", post(), frame(DATA, 0, 1, b"x"),
          frame(HEADERS, END_STREAM | END_HEADERS, 1, block([("x", "y")])))
    # This should be malformed. The h2 crate removes such fields instead, so that nothing behind it sees them.
    check("9113 8.1 a pseudo field in trailers", "stream PROTOCOL_ERROR or answer 400 or answer 200", post(),
          frame(HEADERS, END_STREAM | END_HEADERS, 1, block([(":method", "GET")])))
    request("8.2.1 an upper case name", good + literal("X-Upper", "y"))
    request("8.2.1 a name with a colon", good + literal("x:y", "y"))
    request("8.2.1 a name with a space", good + literal("x y", "y"))
    request("8.2.1 a value with a line feed", good + literal("x", "a\nb"))
    request("8.2.1 a value with a carriage return", good + literal("x", "a\rb"))
    request("8.2.1 a value with NUL", good + literal("x", "a\0b"))
    for name, value in [("connection", "keep-alive"), ("keep-alive", "1"), ("proxy-connection", "x"),
                        ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("te", "trailers, deflate")]:
        request(f"8.2.2 {name}", good + literal(name, value))
    request("8.2.2 te: trailers", good + literal("te", "trailers"), "answer 200")
    request("8.3 an unknown pseudo field", block(fields()) + literal(":test", "x"))
    request("8.3 a pseudo field of responses", good + literal(":status", "200"))
    request("8.3 a pseudo field behind others", literal("x", "y") + good)
    request("8.3.1 :path empty", block(fields(path="")))
    request("8.3.1 :path without a slash", block(fields(path="head")))
    for name in [":method", ":scheme", ":path"]:
        request(f"8.3.1 no {name}", block(fields(leave_out=[name])))
        request(f"8.3.1 two {name}", good + block([pair for pair in fields() if pair[0] == name]))
    request("8.3.1 two :authority", good + literal(":authority", order["name"]))
    request("8.3.1 :authority with a user", block([(n, "me@" + v if n == ":authority" else v) for n, v in fields()]))
    request("8.3.1 host against :authority", good + literal("host", "elsewhere.localhost"))
    request("8.5 CONNECT", block(fields("CONNECT", leave_out=[":scheme", ":path"])), "stream PROTOCOL_ERROR or answer 501")
    for name, length, bodies in [("longer", 1, [b"test"]), ("shorter", 9, [b"test"]), ("longer, in pieces", 5, [b"te", b"st", b"ing"])]:
        data = [frame(DATA, END_STREAM if body is bodies[-1] else 0, 1, body) for body in bodies]
        check(f"9113 8.1.1 a body {name} than content-length", "stream PROTOCOL_ERROR or answer 400", post(length=length), *data)
    request("10.5.1 more fields than there may be", good + literal("x", "y" * 60) * 101, "answer 431")
    request("10.5.1 a longer head than it may be", good + literal("x", "y" * 120) * (order["head_bytes"] // 120 - 30) , "answer 431")


def compression():
    def raw(name, data, wanted="connection COMPRESSION_ERROR"):
        check(f"7541 {name}", wanted, frame(HEADERS, END_STREAM | END_HEADERS, 1, data))

    good = block(fields())
    raw("2.3.3 an index beyond both tables", good + b"\xff\x60")
    raw("2.3.3 a name's index beyond both tables", good + b"\x7f\x60\x01x")
    raw("4.2 a change of the table's size at the end", good + b"\x20")
    raw("4.2 a change of the table's size at the beginning", b"\x20" + good, "answer 200")
    raw("5.1 an integer without end", good + b"\xff" + b"\xff" * 12)
    raw("5.2 a padding of more than 7 bits", good + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")
    raw("5.2 a padding that is no part of EOS", good + b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")
    raw("5.2 EOS", good + b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\xff\xff\xff\xfa\x8d\x7f\xff")
    raw("5.2 a text longer than the block", good + b"\x00\x01x\x7e")
    raw("6.1 index 0", good + b"\x80")
    raw("6.3 a table larger than was allowed", b"\x3f\xe2\x1f" + good)
    for name, data in [
        ("6.1 an indexed field", good),
        ("6.2.1 with indexing, an indexed name", good + b"\x50\x02de"),
        ("6.2.1 with indexing, a new name", good + b"\x40\x01x\x01y"),
        ("6.2.2 without indexing, an indexed name", good + b"\x0f\x01\x02de"),
        ("6.2.2 without indexing, a new name", good + b"\x00\x01x\x01y"),
        ("6.2.3 never indexed, an indexed name", good + b"\x1f\x01\x02de"),
        ("6.2.3 never indexed, a new name", good + b"\x10\x01x\x01y"),
        ("5.2 Huffman's code", hpack.Encoder().encode(fields(more=[("x", "www.example.com")]), huffman=True)),
        ("6.3 a table of two sizes", b"\x20\x3f\xe1\x1f" + good),
    ]:
        raw(name, data, "answer 200")
    peer = Peer().settled()
    encoder = hpack.Encoder()
    first = frame(HEADERS, END_STREAM | END_HEADERS, 1, encoder.encode(fields(more=[("x-kept", "v" * 50)])))
    second = frame(HEADERS, END_STREAM | END_HEADERS, 3, encoder.encode(fields(more=[("x-kept", "v" * 50)])))
    check("7541 2.3.2 what the dynamic table kept", "answer 200", first, second, peer=peer)
    seen = b"".join(got.data for got in peer.frames if type(got).__name__ == "DataFrame")
    checks[-1]["ok"] &= seen.count(b"x-kept: " + b"v" * 50) == 2


for group in [starting, framing, states, kinds, messages, compression]:
    group()
json.dump({"checks": checks}, sys.stdout)
