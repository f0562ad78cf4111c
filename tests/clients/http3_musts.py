"""HTTP/3, stream by stream: each MUST of RFC 9114 sections 4.1 to 4.4, 6.2, 7.1 and 7.2, and of RFC 9204, that a client can check.

In: {"port", "ca", "name"}. Out: {"checks": [{"name", "wanted", "found", "ok"}]}. `name` says the section. `wanted` is `connection CODE`, `stream CODE`
(a reset, or STOP_SENDING), or `answer STATUS`. If the RFC leaves a choice, a check passes in any of several ways (` or `). Bytes are
written by hand; aioquic carries them.
"""

import asyncio
import json
import sys

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

import versions_h3 as h3

order = json.load(sys.stdin)
CODES = {0x100: "NO_ERROR", 0x101: "GENERAL_PROTOCOL_ERROR", 0x102: "INTERNAL_ERROR", 0x103: "STREAM_CREATION_ERROR",
         0x104: "CLOSED_CRITICAL_STREAM", 0x105: "FRAME_UNEXPECTED", 0x106: "FRAME_ERROR", 0x107: "EXCESSIVE_LOAD",
         0x108: "ID_ERROR", 0x109: "SETTINGS_ERROR", 0x10a: "MISSING_SETTINGS", 0x10b: "REQUEST_REJECTED",
         0x10c: "REQUEST_CANCELLED", 0x10d: "REQUEST_INCOMPLETE", 0x10e: "MESSAGE_ERROR", 0x10f: "CONNECT_ERROR",
         0x110: "VERSION_FALLBACK", 0x200: "QPACK_DECOMPRESSION_FAILED", 0x201: "QPACK_ENCODER_STREAM_ERROR",
         0x202: "QPACK_DECODER_STREAM_ERROR"}
DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0, 1, 3, 4, 5, 7, 0xd
GET = [(":method", "GET"), (":scheme", "https"), (":authority", order["name"]), (":path", "/head")]
POST = [(":method", "POST"), (":scheme", "https"), (":authority", order["name"]), (":path", "/sized")]
checks = []


def headers(fields):
    return h3.h3frame(HEADERS, h3.section([(n.encode("latin-1"), v.encode("latin-1")) for n, v in fields]))


def block(data):
    return h3.h3frame(HEADERS, data)


def data(text=b"body"):
    return h3.h3frame(DATA, text)


def without(name, fields=None):
    return [pair for pair in (fields or GET) if pair[0] != name]


def changed(name, value, fields=None):
    return [(n, value if n == name else v) for n, v in (fields or GET)]


def control(*frames):
    return b"\0" + b"".join(frames)


ORDERLY = control(h3.h3frame(SETTINGS, b""))


def add(name, wanted, request=headers(GET), end=True, uni=(ORDERLY,), closes=None, resets=None):
    """Adds a check on its own connection: the client's unidirectional streams (`uni`), then a request. `closes` and `resets` number them."""
    checks.append({"name": name, "wanted": wanted, "request": request, "end": end, "uni": uni, "closes": closes, "resets": resets})


def framing():
    add("9114 7.1 a request", "answer 200")
    add("9114 7.1 a frame that is cut off", "connection FRAME_ERROR", headers(GET)[:-1])
    add("9114 7.1 DATA that is cut off", "connection FRAME_ERROR", headers(POST) + data()[:-1])
    add("9114 7.1 a type that is cut off", "connection FRAME_ERROR", headers(POST) + b"\x40")
    add("9114 7.1 GOAWAY with more than it says", "connection FRAME_ERROR", None, uni=(ORDERLY + h3.h3frame(GOAWAY, b"\0\0"),))
    add("9114 7.1 GOAWAY with less", "connection FRAME_ERROR", None, uni=(ORDERLY + h3.h3frame(GOAWAY, b""),))
    add("9114 7.1 MAX_PUSH_ID with more", "connection FRAME_ERROR", None, uni=(ORDERLY + h3.h3frame(MAX_PUSH_ID, b"\1\1"),))
    add("9114 7.1 SETTINGS that are cut off", "connection FRAME_ERROR", None, uni=(control(h3.h3frame(SETTINGS, b"\6")),))
    add("9114 7.1 a length of eight bytes", "answer 200",
        b"\1\xc0\0\0\0\0\0" + len(headers(GET)[2:]).to_bytes(2, "big") + headers(GET)[2:] if len(headers(GET)) < 66
        else b"\1\xc0\0\0\0\0\0" + len(headers(GET)[3:]).to_bytes(2, "big") + headers(GET)[3:])


def sequences():
    unexpected = "connection FRAME_UNEXPECTED"
    head, body, trailers = headers(POST), data(), headers([("x", "y")])
    add("9114 4.1 a body in frames, and trailers", "answer 200", head + body + body + trailers)
    add("9114 4.1 DATA before HEADERS", unexpected, body + head)
    add("9114 4.1 DATA behind trailers", unexpected, head + body + trailers + body)
    add("9114 4.1 HEADERS behind trailers", unexpected, head + trailers + trailers)
    add("9114 4.1 frames that nobody knows, anywhere", "answer 200",
        h3.h3frame(0x21, b"x") + head + h3.h3frame(0x40, b"") + body + h3.h3frame(0x3f1, b"yz") + trailers + h3.h3frame(0x21, b""))
    add("9114 4.1 a stream that ends before HEADERS", "stream REQUEST_INCOMPLETE", b"")
    add("9114 9 an unknown frame that would begin WebTransport", "answer 200", h3.h3frame(0x41, b"\0") + headers(GET))
    for kind, name in [(CANCEL_PUSH, "7.2.3 CANCEL_PUSH"), (SETTINGS, "7.2.4 SETTINGS"), (PUSH_PROMISE, "7.2.5 PUSH_PROMISE"),
                       (GOAWAY, "7.2.6 GOAWAY"), (MAX_PUSH_ID, "7.2.7 MAX_PUSH_ID"), (2, "7.2.8 PRIORITY"), (6, "7.2.8 PING"),
                       (8, "7.2.8 WINDOW_UPDATE"), (9, "7.2.8 CONTINUATION")]:
        payload = b"" if kind == SETTINGS else b"\0"
        add(f"9114 {name} on a request", unexpected, headers(POST) + h3.h3frame(kind, payload), end=False)
        add(f"9114 {name} before HEADERS", unexpected, h3.h3frame(kind, payload), end=False)


def controls():
    unexpected = "connection FRAME_UNEXPECTED"
    add("9114 6.2.1 control without SETTINGS first", "connection MISSING_SETTINGS", None, uni=(control(h3.h3frame(GOAWAY, b"\0")),))
    add("9114 6.2.1 an unknown frame before SETTINGS", "connection MISSING_SETTINGS", None,
        uni=(control(h3.h3frame(0x21, b""), h3.h3frame(SETTINGS, b"")),))
    add("9114 6.2.1 control twice", "connection STREAM_CREATION_ERROR", None, uni=(ORDERLY, ORDERLY))
    add("9114 6.2.1 control that ends", "connection CLOSED_CRITICAL_STREAM", None, closes=0)
    add("9114 6.2.1 control that is reset", "connection CLOSED_CRITICAL_STREAM", None, resets=0)
    add("9114 6.2.2 a client that pushes", "connection STREAM_CREATION_ERROR", None, uni=(ORDERLY, b"\1\0"))
    add("9114 6.2 a stream that nobody knows", "answer 200", uni=(ORDERLY, b"\x21hello", b"\x40\x54more"))
    add("9114 6.2 a stream that ends before its type", "answer 200", uni=(ORDERLY, b"\x40"), closes=1)
    add("9114 6.2 a stream that is reset before its type", "answer 200", uni=(ORDERLY, b"\x40"), resets=1)
    for kind, name in [(DATA, "7.2.1 DATA"), (HEADERS, "7.2.2 HEADERS"), (PUSH_PROMISE, "7.2.5 PUSH_PROMISE"), (2, "7.2.8 PRIORITY"),
                       (6, "7.2.8 PING"), (8, "7.2.8 WINDOW_UPDATE"), (9, "7.2.8 CONTINUATION")]:
        add(f"9114 {name} on control", unexpected, None, uni=(ORDERLY + h3.h3frame(kind, b"\0"),))
    add("9114 7.2.3 CANCEL_PUSH of what was not promised", "connection ID_ERROR", None, uni=(ORDERLY + h3.h3frame(CANCEL_PUSH, b"\0"),))
    add("9114 7.2.4 SETTINGS twice", unexpected, None, uni=(ORDERLY + h3.h3frame(SETTINGS, b""),))
    add("9114 7.2.4 a setting twice", "connection SETTINGS_ERROR", None, uni=(control(h3.h3frame(SETTINGS, b"\6\1\6\1")),))
    for setting in (0, 2, 3, 4, 5):
        add(f"9114 7.2.4.1 the reserved setting {setting}", "connection SETTINGS_ERROR", None,
            uni=(control(h3.h3frame(SETTINGS, bytes([setting, 1]))),))
    add("9114 7.2.4.1 settings that nobody knows", "answer 200", uni=(control(h3.h3frame(SETTINGS, b"\x21\x05\x40\x40\x01")),))
    add("9114 7.2.6 GOAWAY whose number grows", "connection ID_ERROR", None,
        uni=(ORDERLY + h3.h3frame(GOAWAY, b"\4") + h3.h3frame(GOAWAY, b"\x08"),))
    add("9114 7.2.7 MAX_PUSH_ID that becomes less", "connection ID_ERROR", None,
        uni=(ORDERLY + h3.h3frame(MAX_PUSH_ID, b"\4") + h3.h3frame(MAX_PUSH_ID, b"\3"),))
    add("9114 7.2.7 MAX_PUSH_ID twice", "answer 200", uni=(ORDERLY + h3.h3frame(MAX_PUSH_ID, b"\4") * 2,))
    add("9114 7.2.8 unknown frames on control", "answer 200", uni=(ORDERLY + h3.h3frame(0x21, b"abc"),))
    add("9114 3.2 a request before SETTINGS", "answer 200", uni=())


def messages():
    malformed = "stream MESSAGE_ERROR"
    for name, _ in GET:
        also = "4.3.1 without " + name
        add(f"9114 {also}", malformed, headers(without(name)))
        add(f"9114 4.3 {name} twice", malformed, headers(GET + [(name, dict(GET)[name])]))
        add(f"9114 4.3 {name} behind other fields", malformed, headers([("x", "y")] + GET))
        add(f"9114 4.3 {name} behind a body", malformed, headers(POST) + data() + headers([(name, "x")]))
    add("9114 4.3 a pseudo-field of responses", malformed, headers(GET + [(":status", "200")]))
    add("9114 4.3 a pseudo-field that nobody knows", malformed, headers(GET + [(":x", "y")]))
    add("9114 4.3 a pseudo-field without a name", malformed, headers(GET + [(":", "y")]))
    add("9220 3 :protocol, which was not offered", malformed, headers(GET + [(":protocol", "websocket")]))
    add("9114 4.3.1 an empty :path", malformed, headers(changed(":path", "")))
    add("9114 4.3.1 an empty :authority", malformed, headers(changed(":authority", "")))
    add("9114 4.3.1 an empty Host", malformed, headers(without(":authority") + [("host", "")]))
    add("9114 4.3.1 Host in the place of :authority", "answer 200", headers(without(":authority") + [("host", order["name"])]))
    add("9114 4.3.1 :authority and Host alike", "answer 200", headers(GET + [("host", order["name"])]))
    add("9114 4.3.1 :authority and Host that differ", "answer 400 or " + malformed, headers(GET + [("host", "other.localhost")]))
    add("9114 4.3.1 a name in :authority", "answer 400 or " + malformed, headers(changed(":authority", "me@" + order["name"])))
    add("9114 4.3.1 a :path that is no path", "answer 400 or " + malformed, headers(changed(":path", "head")))
    add("9114 4.3.1 OPTIONS of the server", "answer 200 or answer 404", headers(changed(":path", "*", changed(":method", "OPTIONS"))))
    add("9114 4.3.1 a method that is none", malformed, headers(changed(":method", "G T")))
    add("9114 4.4 CONNECT with a path", malformed, headers(changed(":method", "CONNECT")))
    add("9114 4.4 CONNECT without :authority", malformed, headers([(":method", "CONNECT")]))
    add("9114 4.4 CONNECT", "answer 501", headers([(":method", "CONNECT"), (":authority", order["name"] + ":443")]))
    add("9114 4.2 a capital in a name", malformed, headers(GET + [("X", "y")]))
    add("9114 10.3 a space in a name", malformed, headers(GET + [("x y", "z")]))
    add("9114 10.3 a colon in a name", malformed, headers(GET + [("x:y", "z")]))
    add("9114 10.3 a name of nothing", malformed, headers(GET + [("", "z")]))
    for what, value in [("NUL", "a\0"), ("CR", "a\rb"), ("LF", "a\nb"), ("DEL", "a\x7f")]:
        add(f"9114 10.3 {what} in a value", malformed, headers(GET + [("x", value)]))
    for name, value in [("connection", "close"), ("keep-alive", "5"), ("proxy-connection", "close"), ("transfer-encoding", "chunked"),
                        ("upgrade", "h2c"), ("te", "gzip")]:
        add(f"9114 4.2 {name}: {value}", malformed, headers(GET + [(name, value)]))
        add(f"9114 4.2 {name}: {value} behind a body", malformed, headers(POST) + data() + headers([(name, value)]))
    add("9114 4.2 te: trailers", "answer 200", headers(GET + [("te", "trailers")]))
    add("9114 4.1.2 a body that is longer than it says", malformed, headers(POST + [("content-length", "3")]) + data())
    add("9114 4.1.2 a body that is shorter than it says", malformed, headers(POST + [("content-length", "5")]) + data())
    add("9114 4.1.2 no body where there is to be one", malformed, headers(POST + [("content-length", "5")]))
    add("9114 4.1.2 a body as long as it says", "answer 200", headers(POST + [("content-length", "4")]) + data())
    add("9114 4.1.2 two lengths", malformed, headers(POST + [("content-length", "4"), ("content-length", "4")]) + data())
    add("9114 4.1.2 a length that is no number", malformed, headers(POST + [("content-length", "+4")]) + data())
    add("9114 4.2.1 cookies in several fields", "answer 200", headers(GET + [("cookie", "a=1"), ("cookie", "b=2")]))
    add("9114 4.2.2 a head that is too large", "answer 431", headers(GET + [("x", "y" * 20000)]))
    add("9114 10.5.1 a frame that nobody would keep", "connection EXCESSIVE_LOAD", b"\1\xc0\0\0\0\x40\0\0\0", end=False)


def qpack():
    failed = "connection QPACK_DECOMPRESSION_FAILED"
    good = headers(GET)[3:] if headers(GET)[1] >= 64 else headers(GET)[2:]
    add("9204 4.5.1 a section of no bytes", failed, block(b""))
    add("9204 2.2.1 a section that needs inserts", failed, block(b"\2\0" + good[2:]))
    add("9204 4.5.1.2 a base below zero", failed, block(b"\0\x80" + good[2:]))
    add("9204 4.5.1.2 a base that says nothing", "answer 200", block(b"\0\5" + good[2:]))
    add("9204 3.1 an index beyond appendix A", failed, block(good + b"\xff\x24"))
    add("9204 3.1 a name's index beyond appendix A", failed, block(good + b"\x5f\x54\0"))
    add("9204 2.2.3 a reference to a table of nothing", failed, block(good + b"\x80"))
    add("9204 2.2.3 a reference behind the base", failed, block(good + b"\x10"))
    add("9204 2.2.3 a name in a table of nothing", failed, block(good + b"\x40\0"))
    add("9204 2.2.3 a name behind the base", failed, block(good + b"\0\0"))
    add("9204 4.1.1 a number without end", failed, block(good + b"\x27" + b"\xff" * 11))
    add("9204 4.1.2 a string that is cut off", failed, block(good + b"\x21x\x05ab"))
    add("7541 5.2 the Huffman code with eight bits of padding", failed, block(good + b"\x21x\x81\xff"))
    add("7541 5.2 the Huffman code with padding of zeros", failed, block(good + b"\x21x\x81\x18"))
    add("7541 5.2 the Huffman code", "answer 200", block(good + b"\x21x\x81\x1f"))
    add("9204 4.5.2 fields of appendix A", "answer 200", block(good + b"\xdd\xdf"))
    add("9204 3.2.3 a table's capacity over ours", "connection QPACK_ENCODER_STREAM_ERROR", None, uni=(ORDERLY, b"\2\x3f\x01"))
    add("9204 3.2.3 a table's capacity of nothing", "answer 200", uni=(ORDERLY, b"\2\x20"))
    add("9204 4.3.2 an insert by a name's index", "connection QPACK_ENCODER_STREAM_ERROR", None, uni=(ORDERLY, b"\2\xc1\1x"))
    add("9204 4.3.3 an insert", "connection QPACK_ENCODER_STREAM_ERROR", None, uni=(ORDERLY, b"\2\x41x\1y"))
    add("9204 4.3.4 a duplicate", "connection QPACK_ENCODER_STREAM_ERROR", None, uni=(ORDERLY, b"\2\0"))
    add("9204 4.4.1 a section acknowledged that was not sent", "connection QPACK_DECODER_STREAM_ERROR", None, uni=(ORDERLY, b"\3\x80"))
    add("9204 4.4.3 an insert acknowledged that was not sent", "connection QPACK_DECODER_STREAM_ERROR", None, uni=(ORDERLY, b"\3\x01"))
    add("9204 4.4.3 an increment of nothing", "connection QPACK_DECODER_STREAM_ERROR", None, uni=(ORDERLY, b"\3\0"))
    add("9204 4.4.2 a stream that is cancelled", "answer 200", uni=(ORDERLY, b"\3\x44"))
    for number, name in [(2, "encoder"), (3, "decoder")]:
        add(f"9204 4.2 the {name}'s stream twice", "connection STREAM_CREATION_ERROR", None, uni=(ORDERLY, bytes([number]), bytes([number])))
        add(f"9204 4.2 the {name}'s stream that ends", "connection CLOSED_CRITICAL_STREAM", None, uni=(ORDERLY, bytes([number])), closes=1)
        add(f"9204 4.2 the {name}'s stream that is reset", "connection CLOSED_CRITICAL_STREAM", None, uni=(ORDERLY, bytes([number])), resets=1)


async def look(check):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=order["name"])
    configuration.load_verify_locations(order["ca"])
    got = h3.out()
    async with connect("127.0.0.1", order["port"], configuration=configuration, create_protocol=h3.H3) as client:
        quic = client._quic
        for at, bytes_ in enumerate(check["uni"]):
            stream = quic.get_next_available_stream_id(is_unidirectional=True)
            quic.send_stream_data(stream, bytes_, at == check["closes"])
            if at == check["resets"]:
                client.transmit()
                await asyncio.sleep(0.05)
                quic.reset_stream(stream, 0x100)
        if check["request"] is not None:
            stream = quic.get_next_available_stream_id()
            quic.send_stream_data(stream, check["request"], check["end"])
        client.transmit()
        if check["request"] is None:
            await client.until(lambda: False)
        else:
            await client.until(lambda: stream in client.ended)
            if check["wanted"].startswith("connection"):
                await client.until(lambda: False)
            h3.read_h3(client.data.get(stream, b""), got)
            got["reset"] = client.reset.get(stream)
        got["closed"] = client.closed
    found = []
    if got["closed"] is not None:
        found.append("connection " + CODES.get(got["closed"], hex(got["closed"])))
    if got["reset"] is not None:
        found.append("stream " + CODES.get(got["reset"], hex(got["reset"])))
    if got["status"] is not None and "connection" not in found:
        found.append(f"answer {got['status']}")
    return found


async def main():
    for part in (framing, sequences, controls, messages, qpack):
        part()
    told = []
    # A few at a time, because each has its own connection.
    for at in range(0, len(checks), 8):
        some = checks[at:at + 8]
        for check, found in zip(some, await asyncio.gather(*map(look, some), return_exceptions=True)):
            found = [repr(found)] if isinstance(found, BaseException) else found
            ok = any(one in found for one in check["wanted"].split(" or "))
            told.append({"name": check["name"], "wanted": check["wanted"], "found": "; ".join(found), "ok": ok})
    json.dump({"checks": told}, sys.stdout)


asyncio.run(main())
