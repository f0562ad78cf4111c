"""Runs a program in its own pseudo-terminal and types into it, with Python's `pty`.

Reads an order as JSON: {"words": [...], "keys": [[SECONDS, TEXT], ...], "rows": N, "columns": N}. Prints {"screen": TEXT, "code": N}: all
output, without control sequences, and the exit code.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

order = json.load(sys.stdin)
child, terminal = pty.fork()
if child == 0:
    os.environ["TERM"] = "xterm-256color"
    os.execv(order["words"][0], order["words"])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", order["rows"], order["columns"], 0, 0))
screen = b""


def read(seconds):
    global screen
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                return
            if not piece:
                return
            screen += piece


for seconds, text in order["keys"]:
    read(seconds)
    os.write(terminal, text.encode())
read(5)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-B0-9]", " ", screen.decode(errors="replace"))
print(json.dumps({"screen": plain, "code": code}))
