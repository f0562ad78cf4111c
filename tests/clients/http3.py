"""HTTP/3 with aioquic: sends on one connection what standard input says, and prints the results, both in JSON.

In: {"port", "ca", "name", "seconds", "until_closed", "streams": [{"fields": [[name, value], …], "body", "end"} or {"raw": hex} or
{"control": hex}], "stream_data", "cancelled_together"}. `end` defaults to true. "stream_data" is the flow-control window of each answer.
"cancelled_together" is a number of requests that the client starts together and cancels a moment later, again and again. The client
ends when all streams have ended, or the connection. Out: {"streams": [{"status", "fields", "body", "ended", "reset"}], "closed": code};
`closed` is null if the connection stayed open.
"""

import asyncio
import json
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived, StreamReset


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.http = H3Connection(self._quic)
        self.streams = {}
        self.closed = None
        self.waits_for_close = False
        self.changed = asyncio.Event()
        if Client.stream_data is not None:
            self._quic._local_max_stream_data_bidi_local = Client.stream_data

    stream_data = None

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.closed = event.error_code
        if isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.streams[event.stream_id]["reset"] = event.error_code
        if isinstance(event, StreamDataReceived) and event.stream_id in self.streams and event.end_stream:
            self.streams[event.stream_id]["ended"] = True
        for got in self.http.handle_event(event):
            stream = self.streams.get(got.stream_id)
            if stream is None:
                continue
            if isinstance(got, HeadersReceived):
                fields = [[name.decode(), value.decode("latin-1")] for name, value in got.headers]
                stream["fields"] += fields
                for name, value in fields:
                    if name == ":status":
                        stream["status"] = int(value)
            elif isinstance(got, DataReceived):
                stream["body"] += got.data.decode("latin-1")
        self.changed.set()

    def begin(self, what):
        if "control" in what:
            self._quic.send_stream_data(self.http._local_control_stream_id, bytes.fromhex(what["control"]))
            return
        number = self._quic.get_next_available_stream_id()
        self.streams[number] = {"status": None, "fields": [], "body": "", "ended": False, "reset": None}
        end = what.get("end", True)
        if "raw" in what:
            self._quic.send_stream_data(number, bytes.fromhex(what["raw"]), end)
            return
        fields = [(name.encode(), value.encode("latin-1")) for name, value in what["fields"]]
        body = what.get("body", "").encode("latin-1")
        self.http.send_headers(number, fields, end and not body)
        if body:
            self.http.send_data(number, body, end)

    def cancel(self):
        for number, stream in self.streams.items():
            if stream["reset"] is None and not stream["ended"]:
                self._quic.stop_stream(number, 0x10C)
                self._quic.reset_stream(number, 0x10C)
                stream["reset"] = 0x10C

    def is_over(self):
        if self.closed is not None or self.waits_for_close:
            return self.closed is not None
        return all(s["ended"] or s["reset"] is not None for s in self.streams.values())


async def main():
    order = json.load(sys.stdin)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=order["name"])
    configuration.load_verify_locations(order["ca"])
    Client.stream_data = order.get("stream_data")
    out = {"streams": [], "closed": None}
    try:
        async with connect("127.0.0.1", order["port"], configuration=configuration, create_protocol=Client) as client:
            client.waits_for_close = order.get("until_closed", False)
            together = order.get("cancelled_together")
            for count, what in enumerate(order["streams"], 1):
                client.begin(what)
                if together and count % together == 0 and client.closed is None:
                    client.transmit()
                    await asyncio.sleep(0.03)
                    client.cancel()
                    client.transmit()
            client.transmit()
            until = asyncio.get_running_loop().time() + order["seconds"]
            while not client.is_over() and (left := until - asyncio.get_running_loop().time()) > 0:
                client.changed.clear()
                try:
                    await asyncio.wait_for(client.changed.wait(), left)
                except TimeoutError:
                    break
            out = {"streams": list(client.streams.values()), "closed": client.closed}
    except ConnectionError as error:
        out["refused"] = str(error)
    json.dump(out, sys.stdout)


asyncio.run(main())
