"""Sends each request over HTTP/1.1, HTTP/2 or HTTP/3, byte for byte as ordered: nothing here corrects it.

In: {"port", "ca", "rows": [{"version": "h1", "h2" or "h3", "name", "method", "path", "authority", "host", "fields": [[name, value], …],
"trailers", "body", "holds", "raw"}]}. `name` is the server's name for TLS. With `host`, HTTP/1.1 sends an absolute target for `authority`,
and the others send both. `holds`: the body is sent after a status 100, or not at all. `raw` (h1): these bytes, and nothing else. Texts are
Latin-1. Out: {"rows": [{"interim": [status, …], "status", "fields", "body", "reset": code, "closed": code}]}.
"""

import asyncio
import json
import socket
import ssl
import struct
import sys

import hpack
from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

from versions_h3 import H3, SECONDS, h3frame, out, read_h3, section


def latin(text):
    return text.encode("latin-1")


def pairs(row):
    """The fields for HTTP/2 and 3. `pseudo` replaces the usual pseudo-header fields."""
    if "pseudo" in row:
        pseudo = [(latin(n), latin(v)) for n, v in row["pseudo"]]
    else:
        pseudo = [(b":method", latin(row["method"])), (b":scheme", b"https"),
                  (b":authority", latin(row["authority"])), (b":path", latin(row["path"]))]
        if row["method"] == "CONNECT":
            pseudo = [pseudo[0], pseudo[2]]
    host = [(b"host", latin(row["host"]))] if row.get("host") is not None else []
    return pseudo + host + [(latin(n), latin(v)) for n, v in row.get("fields", [])]


def trailers(row):
    return [(latin(n), latin(v)) for n, v in row.get("trailers", [])]


def tls(order, row, protocol):
    context = ssl.create_default_context(cafile=order["ca"])
    context.set_alpn_protocols([protocol])
    tcp = socket.create_connection(("127.0.0.1", order["port"]), timeout=SECONDS)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(tcp, server_hostname=row["name"])


def h1(order, row):
    stream, got, data = tls(order, row, "http/1.1"), out(), b""
    body, held = latin(row.get("body", "")), bool(row.get("holds"))
    if "raw" in row:
        head, body = latin(row["raw"]), b""
    else:
        target = row["path"] if row.get("host") is None else f"https://{row['authority']}{row['path']}"
        lines = [latin(f"{row['method']} {target} HTTP/1.1")]
        lines.append(b"host: " + latin(row["host"] if row.get("host") is not None else row["authority"]))
        lines += [latin(f"{name}: {value}") for name, value in row.get("fields", [])]
        if not any(name.lower() == "connection" for name, _ in row.get("fields", [])):
            lines.append(b"connection: close")
        if row.get("trailers"):
            lines.append(b"transfer-encoding: chunked")
            last = b"".join(name + b": " + value + b"\r\n" for name, value in trailers(row))
            body = b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, last)
        elif body:
            lines.append(b"content-length: %d" % len(body))
        head = b"\r\n".join(lines) + b"\r\n\r\n"
    stream.sendall(head if held else head + body)
    while True:
        try:
            more = stream.recv(65536)
        except OSError:
            more = b""
        data += more
        while b"\r\n\r\n" in data and got["status"] is None:
            first, data = data.split(b"\r\n\r\n", 1)
            status = int(first.split(b" ")[1])
            if status >= 200:
                got["status"] = status
                got["fields"] = [line.decode("latin-1").split(": ", 1) for line in first.split(b"\r\n")[1:]]
                length = dict(got["fields"]).get("content-length")
            else:
                got["interim"].append(status)
                if held:
                    stream.sendall(body)
                    held = False
        if got["status"] is not None and length is not None and len(data) >= int(length):
            more = b""
        if not more:
            if ["transfer-encoding", "chunked"] in got["fields"]:
                data = chunks(data)
            got["body"] = data.decode("latin-1")
            return got


def chunks(data):
    whole = b""
    while data:
        size, data = data.split(b"\r\n", 1)
        size = int(size, 16)
        whole, data = whole + data[:size], data[size + 2:]
        if not size:
            break
    return whole


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def h2(order, row):
    stream, got, buffer = tls(order, row, "h2"), out(), b""
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    body, held, last = latin(row.get("body", "")), bool(row.get("holds")), trailers(row)
    ends = not body and not held and not last
    rest = b"" if ends else frame(0, 0 if last else 1, 1, body)
    if last:
        rest += frame(1, 5, 1, encoder.encode(last, huffman=False))
    head = frame(1, 4 | ends, 1, encoder.encode(pairs(row), huffman=row.get("huffman", True)))
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + head + (b"" if held else rest))
    while True:
        while len(buffer) < 9 or len(buffer) < 9 + int.from_bytes(buffer[:3], "big"):
            try:
                more = stream.recv(65536)
            except OSError:
                more = b""
            if not more:
                return got
            buffer += more
        length, kind, flags = int.from_bytes(buffer[:3], "big"), buffer[3], buffer[4]
        number, payload, buffer = int.from_bytes(buffer[5:9], "big"), buffer[9:9 + length], buffer[9 + length:]
        if kind == 1 and number == 1:
            fields = [[n, v] for n, v in decoder.decode(payload)]
            status = int(dict(map(tuple, fields)).get(":status", 0))
            if 100 <= status < 200:
                got["interim"].append(status)
                if held:
                    stream.sendall(rest)
                    held = False
            elif status:
                got["status"], got["fields"] = status, fields
        elif kind == 0:
            got["body"] += payload.decode("latin-1")
        elif kind == 3:
            got["reset"] = int.from_bytes(payload, "big")
            return got
        elif kind == 4 and not flags & 1:
            stream.sendall(frame(4, 1, 0, b""))
        elif kind == 7:
            got["closed"] = int.from_bytes(payload[4:8], "big")
            return got
        if kind in (0, 1) and flags & 1:
            return got


async def h3(order, row):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=row["name"])
    configuration.load_verify_locations(order["ca"])
    got = out()
    async with connect("127.0.0.1", order["port"], configuration=configuration, create_protocol=H3) as client:
        quic, body, last = client._quic, latin(row.get("body", "")), trailers(row)
        control = quic.get_next_available_stream_id(is_unidirectional=True)
        quic.send_stream_data(control, b"\0" + h3frame(4, b""))
        stream = quic.get_next_available_stream_id()
        rest = (h3frame(0, body) if body else b"") + (h3frame(1, section(last)) if last else b"")
        head = h3frame(1, section(pairs(row)))
        if row.get("holds"):
            quic.send_stream_data(stream, head)
            client.transmit()
            await client.until(lambda: stream in client.ended or stream in client.data)
            read_h3(client.data.get(stream, b""), got)
            if got["interim"]:
                quic.send_stream_data(stream, rest, True)
        else:
            quic.send_stream_data(stream, head + rest, True)
        client.transmit()
        await client.until(lambda: stream in client.ended)
        read_h3(client.data.get(stream, b""), got)
        got["reset"], got["closed"] = client.reset.get(stream), client.closed
    return got


def main():
    order = json.load(sys.stdin)
    rows = []
    for row in order["rows"]:
        try:
            if row["version"] == "h3":
                rows.append(asyncio.run(h3(order, row)))
            else:
                rows.append({"h1": h1, "h2": h2}[row["version"]](order, row))
        except Exception as error:  # the test shows it beside its row
            rows.append({**out(), "error": repr(error)})
    json.dump({"rows": rows}, sys.stdout)


main()
