#!/usr/bin/env python3
"""What the book (gateway/docs) needs beside mdBook.

`tests/book.py check` checks the links of the top-level documents and of the book, with the headings behind `#`, and that SUMMARY.md lists
each page of the book. It does not follow links to other hosts. It exits with 1 if something is wrong.

Without `check` it is an mdBook preprocessor (book.toml): links to files outside of the book, which work only inside the repository, become
plain text.
"""
import json
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCS = os.path.join(TOP, "gateway", "docs")
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```[^\n]*$", re.M | re.S)


def target_of(page, target):
    """The file that a link of this page points to, and the heading in it; None for other hosts."""
    if re.match(r"[a-z]+:", target):
        return None
    name, _, anchor = target.partition("#")
    return (os.path.normpath(os.path.join(os.path.dirname(page), name)) if name else page), anchor


def read(path):
    with open(path, encoding="utf-8") as file:
        return FENCED.sub("", file.read())


def links(path):
    without_code = re.sub(r"(?<!\[)(`+)[^`\n]+\1(?!\])", "", read(path))
    return [target for _, target in LINK.findall(without_code)]


def anchors(path):
    """The anchor that GitHub and mdBook give each heading."""
    found, counts = set(), {}
    for heading in re.findall(r"^#{1,6} +(.*?) *$", read(path), re.M):
        slug = re.sub(r"[^\w\- ]", "", LINK.sub(r"\1", heading).lower()).replace(" ", "-")
        count = counts.get(slug, 0)
        counts[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def broken(path):
    for target in links(path):
        there = target_of(path, target)
        if there is None:
            continue
        file, anchor = there
        if not os.path.exists(file):
            yield target, "no such file"
        elif anchor and file.endswith(".md") and anchor not in anchors(file):
            yield target, "no such heading"


def pages():
    top = [os.path.join(TOP, name) for name in os.listdir(TOP)] + [os.path.join(TOP, "loadtest", name) for name in os.listdir(os.path.join(TOP, "loadtest"))]
    docs = [os.path.join(folder, name) for folder, _, names in os.walk(DOCS) for name in names]
    return sorted(path for path in top + docs if path.endswith(".md"))


def check():
    summary = os.path.join(DOCS, "SUMMARY.md")
    listed = {summary} | {target_of(summary, target)[0] for target in links(summary)}
    wrong = [f"{os.path.relpath(path, TOP)}: {target}: {why}" for path in pages() for target, why in broken(path)]
    wrong += [f"{os.path.relpath(path, TOP)}: not in SUMMARY.md" for path in pages() if path.startswith(DOCS) and path not in listed]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(pages())} pages, every link leads somewhere")


def without_outside(page, text):
    """The text, without links that leave the book."""

    def plain(link):
        there = target_of(page, link[2])
        return link[0] if there is None or there[0].startswith(DOCS) else link[1]

    parts = re.split(f"({FENCED.pattern})", text, flags=re.M | re.S)
    return "".join(part if part.lstrip().startswith("```") else LINK.sub(plain, part) for part in parts)


def each_chapter(value):
    if isinstance(value, dict):
        if isinstance(value.get("content"), str) and value.get("path"):
            value["content"] = without_outside(os.path.join(DOCS, value["path"]), value["content"])
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            each_chapter(inner)


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        check()
    elif sys.argv[1:2] != ["supports"]:
        _context, book = json.load(sys.stdin)
        each_chapter(book)
        json.dump(book, sys.stdout)
