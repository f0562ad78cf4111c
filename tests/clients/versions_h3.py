"""HTTP/3 by hand, for `versions.py` and `http3_musts.py`: frames and field sections as bytes, which aioquic carries unchanged."""

import asyncio
import struct

import pylsqpack
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived, StreamReset

SECONDS = 20


def out():
    return {"interim": [], "status": None, "fields": [], "body": "", "reset": None, "closed": None}


def varint(number):
    if number < 64:
        return bytes([number])
    return struct.pack(">H", 0x4000 | number) if number < 16384 else struct.pack(">I", 0x80000000 | number)


def prefixed(first, bits, number):
    most = (1 << bits) - 1
    if number < most:
        return bytes([first | number])
    more, number = [first | most], number - most
    while number >= 128:
        more.append(number & 127 | 128)
        number >>= 7
    return bytes(more + [number])


def section(fields):
    """QPACK's literals with literal names (RFC 9204 §4.5.6), for any fields."""
    return b"\0\0" + b"".join(prefixed(0x20, 3, len(n)) + n + prefixed(0, 7, len(v)) + v for n, v in fields)


def h3frame(kind, payload):
    return varint(kind) + varint(len(payload)) + payload


class H3(QuicConnectionProtocol):
    """Collects streams as bytes; frames are parsed at the end."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.data, self.ended, self.reset, self.closed = {}, set(), {}, None
        self.changed = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
            if event.end_stream:
                self.ended.add(event.stream_id)
        elif isinstance(event, (StreamReset, StopSendingReceived)):
            self.reset.setdefault(event.stream_id, event.error_code)
            if isinstance(event, StreamReset):
                self.ended.add(event.stream_id)
        elif isinstance(event, ConnectionTerminated):
            self.closed = event.error_code
        self.changed.set()

    async def until(self, is_so):
        end = asyncio.get_running_loop().time() + SECONDS
        while not is_so() and self.closed is None and (left := end - asyncio.get_running_loop().time()) > 0:
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), left)
            except TimeoutError:
                return


def number(data, at):
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at:at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def frames(data):
    at = 0
    while at < len(data):
        try:
            kind, next_at = number(data, at)
            length, next_at = number(data, next_at)
        except IndexError:
            return
        if next_at + length > len(data):
            return
        yield kind, data[next_at:next_at + length]
        at = next_at + length


def read_h3(data, got):
    decoder = pylsqpack.Decoder(0, 0)
    got["interim"], got["body"] = [], ""
    for kind, payload in frames(data):
        if kind == 1:
            _, fields = decoder.feed_header(0, payload)
            fields = [[n.decode(), v.decode("latin-1")] for n, v in fields]
            status = int(dict(map(tuple, fields)).get(":status", 0))
            if 100 <= status < 200:
                got["interim"].append(status)
            elif status:
                got["status"], got["fields"] = status, fields
        elif kind == 0:
            got["body"] += payload.decode("latin-1")
