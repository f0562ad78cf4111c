#!/usr/bin/env python3
"""Draws the plots of RESULTS.md from its own tables, so that a plot never differs from the figures beside it.

    loadtest/plots.py             writes loadtest/plots/NAME.svg for each `<!-- plot: NAME, COLUMN -->` before a table
    loadtest/plots.py --check     writes nothing, and exits with 1 if a plot is out of date

A bar is as long as the largest number in its cell. A row in bold is drawn darker. Rows without a number are left out.
"""
import html
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
WIDTH, NAMES, VALUES, ROW, HEAD = 860, 430, 100, 24, 34
FONT = 'font-family="sans-serif" font-size="13"'


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def plain(text):
    return re.sub(r"[*`]", "", text)


def number(text):
    found = re.findall(r"\d[\d,]*(?:\.\d+)?", text)
    return max((float(one.replace(",", "")) for one in found), default=None)


def plots(text):
    """Of each marked table: its name, its column, and its rows (label, cell, value, whether it is in bold)."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        marked = re.fullmatch(r"<!-- plot: ([a-z-]+), (.+) -->", line)
        if not marked:
            continue
        start = next(at for at in range(index, len(lines)) if lines[at].startswith("|"))
        column = cells(lines[start]).index(marked[2])
        rows = []
        for row in lines[start + 2:]:
            if not row.startswith("|"):
                break
            row = cells(row)
            if number(row[column]) is not None:
                rows.append((plain(row[0]), row[column], number(row[column]), row[0].startswith("**")))
        yield marked[1], marked[2], rows


def svg(column, rows):
    height, most = HEAD + ROW * len(rows) + 6, max(row[2] for row in rows)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="{NAMES}" y="20" {FONT} font-weight="bold">{html.escape(column)}</text>']
    for index, (label, cell, value, bold) in enumerate(rows):
        y = HEAD + ROW * index
        length = max(value / most * (WIDTH - NAMES - VALUES), 1)
        label = label if len(label) <= 58 else label[:57] + "…"
        out += [f'<text x="{NAMES - 8}" y="{y + 15}" {FONT} text-anchor="end">{html.escape(label)}</text>',
                f'<rect x="{NAMES}" y="{y + 3}" width="{length:.1f}" height="{ROW - 8}" fill="{"#1f5fa8" if bold else "#9db8d9"}"/>',
                f'<text x="{NAMES + length + 6:.1f}" y="{y + 15}" {FONT}>{html.escape(cell)}</text>']
    return "\n".join(out) + "\n</svg>\n"


def main():
    folder, stale = HERE / "plots", []
    for name, column, rows in plots((HERE / "RESULTS.md").read_text()):
        path, drawn = folder / f"{name}.svg", svg(column, rows)
        if "--check" not in sys.argv:
            folder.mkdir(exist_ok=True)
            path.write_text(drawn)
        elif not path.exists() or path.read_text() != drawn:
            stale.append(path.name)
    if stale:
        sys.exit(f"out of date: {', '.join(stale)} (run loadtest/plots.py)")


if __name__ == "__main__":
    main()
