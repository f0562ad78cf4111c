"""Runs a program in its own pseudo-terminal and types into it, with Python's `pty`.

Reads an order as JSON: {"words": [...], "keys": [[SECONDS, TEXT], ...], "rows": N, "columns": N}. Prints {"screen": TEXT, "code": N}: all
output, without control sequences, and the exit code. With "cells": true, "cells" is the screen before the last text was typed: for
each row a list of [TEXT, STYLE], where STYLE is a list of words such as "bold", "dim", "reversed" and "colour 6".
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


# ECMA-48 §8.3, as far as ratatui's crossterm writes it: where to (CUP), style (SGR), and what is cleared (ED).
SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([a-zA-Z])")
STYLES = {1: "bold", 2: "dim", 7: "reversed"}
ENDS = {22: ("bold", "dim"), 27: ("reversed",)}


def styled(style, numbers):
    """The style after an SGR with these numbers."""
    style = set(style)
    numbers = list(numbers) or [0]
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            style = set()
        elif number in STYLES:
            style.add(STYLES[number])
        elif number in ENDS:
            style -= set(ENDS[number])
        elif number in (38, 39):
            style = {word for word in style if not word.startswith("colour")}
            if number == 38 and numbers[:1] == [5]:
                style.add(f"colour {numbers[1]}")
                numbers = numbers[2:]
        elif number == 48:
            numbers = numbers[2:]
    return frozenset(style)


def cells(text, rows, columns):
    """What stands on the screen after this text."""
    blank = (" ", frozenset())
    grid = [[blank] * columns for _ in range(rows)]
    row, column, style, at = 0, 0, frozenset(), 0
    while at < len(text):
        if found := SEQUENCE.match(text, at):
            at = found.end()
            numbers = [int(number) for number in found[1].split(";") if number.isdigit()]
            if found[2] == "H":
                row, column = (numbers or [1, 1])[0] - 1, (numbers + [1, 1])[1] - 1
            elif found[2] == "m":
                style = styled(style, numbers)
            elif found[2] == "J":
                grid = [[blank] * columns for _ in range(rows)]
            continue
        letter, at = text[at], at + 1
        if letter >= " " and row < rows and column < columns:
            grid[row][column] = (letter, style)
            column += 1
    shown = []
    for line in grid:
        runs = []
        for letter, style in line:
            if runs and runs[-1][1] == sorted(style):
                runs[-1][0] += letter
            else:
                runs.append([letter, sorted(style)])
        shown.append(runs)
    return shown


before = b""
for seconds, text in order["keys"]:
    read(seconds)
    before = screen
    os.write(terminal, text.encode())
read(5)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-B0-9]", " ", screen.decode(errors="replace"))
said = {"screen": plain, "code": code}
if order.get("cells"):
    said["cells"] = cells(before.decode(errors="replace"), order["rows"], order["columns"])
print(json.dumps(said))
