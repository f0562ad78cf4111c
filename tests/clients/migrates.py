"""An HTTP/3 client that connects from one address and sends its request from another, for which it answers no path challenge.

In: {"port", "ca", "name", "from", "fields": [[name, value], …]}. `from` is the second address. Out: {"body"} of GET /head.
"""

import json
import socket
import sys
import time

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted

import versions_h3 as h3

order = json.load(sys.stdin)
server = ("127.0.0.1", order["port"])
configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=order["name"])
configuration.load_verify_locations(order["ca"])
quic = QuicConnection(configuration=configuration)
first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
first.bind(("127.0.0.1", 0))
second.bind((order["from"], 0))
for bound in (first, second):
    bound.settimeout(0.2)


def send(by):
    for data, _ in quic.datagrams_to_send(time.time()):
        by.sendto(data, server)


def receive(by):
    try:
        quic.receive_datagram(by.recv(65536), server, time.time())
    except TimeoutError:
        pass
    events = []
    while event := quic.next_event():
        events.append(event)
    return events


quic.connect(server, time.time())
shaken, until = False, time.time() + 20
# A few turns more, so that both sides finish the handshake.
turns = 3
while turns and time.time() < until:
    send(first)
    shaken |= any(isinstance(event, HandshakeCompleted) for event in receive(first))
    turns -= shaken
control = quic.get_next_available_stream_id(is_unidirectional=True)
quic.send_stream_data(control, b"\0" + h3.h3frame(4, b""))
stream = quic.get_next_available_stream_id()
fields = [(":method", "GET"), (":scheme", "https"), (":authority", order["name"]), (":path", "/head"), *order["fields"]]
head = h3.h3frame(1, h3.section([(n.encode(), v.encode()) for n, v in fields]))
# Makes room for the answer: an unvalidated address may get three times what came from it (RFC 9000 §8.1).
quic.send_stream_data(stream, head + h3.h3frame(0x21, b"x" * 1000), True)
# Sends the same packets again after a loss: anything else that aioquic sends would answer the server's path challenge.
packets = [data for data, _ in quic.datagrams_to_send(time.time())]
data, ended, got, turn = b"", False, h3.out(), 0
while not ended and time.time() < until:
    if not data and turn % 3 == 0:
        for packet in packets:
            second.sendto(packet, server)
    turn += 1
    for event in receive(second):
        if getattr(event, "stream_id", None) == stream and hasattr(event, "data"):
            data, ended = data + event.data, event.end_stream
h3.read_h3(data, got)
json.dump({"body": got["body"], "status": got["status"]}, sys.stdout)
