#!/usr/bin/env python3
"""Checks the links of README.md and of all pages below this folder: files, and headings behind `#`. Exits with 1 if one leads nowhere.

Links to other hosts are not followed. Usage: gateway/docs/check-links.py
"""
import os
import re
import sys

DOCS = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(DOCS))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(text):
    """The text without fenced blocks and code spans."""
    text = re.sub(r"^ *```.*?^ *```[^\n]*$", "", text, flags=re.M | re.S)
    return re.sub(r"(`+)[^\n]+?\1", lambda code: "`" * len(code[0]), text)


def anchors(path):
    """Of each heading, the anchor that GitHub and mdBook give it."""
    found, counts = set(), {}
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"^ *```.*?^ *```[^\n]*$", "", file.read(), flags=re.M | re.S)
    for heading in re.findall(r"^#{1,6} +(.*?) *$", text, re.M):
        heading = LINK.sub("", heading).replace("[", "")
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = counts.get(slug, 0)
        counts[slug] = count + 1
        found.add(slug if count == 0 else f"{slug}-{count}")
    return found


def broken(path):
    with open(path, encoding="utf-8") as file:
        text = prose(file.read())
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        if not os.path.exists(there):
            yield target, "no such file"
        elif anchor and there.endswith(".md") and anchor not in anchors(there):
            yield target, "no such heading"


def pages():
    for name in sorted(os.listdir(TOP)):
        if name.endswith(".md"):
            yield os.path.join(TOP, name)
    for folder, _, names in sorted(os.walk(DOCS)):
        yield from (os.path.join(folder, name) for name in sorted(names) if name.endswith(".md"))


def main():
    summary = os.path.join(DOCS, "SUMMARY.md")
    listed = set()
    if os.path.exists(summary):
        with open(summary, encoding="utf-8") as file:
            listed = {os.path.normpath(os.path.join(DOCS, target)) for target in LINK.findall(file.read())} | {summary}
    wrong = 0
    for path in pages():
        shown = os.path.relpath(path, TOP)
        for target, why in broken(path):
            wrong += 1
            print(f"{shown}: {target}: {why}")
        if listed and path.startswith(DOCS) and path not in listed:
            wrong += 1
            print(f"{shown}: not in SUMMARY.md")
    if wrong:
        sys.exit(f"{wrong} broken links")
    print("every link leads somewhere")


if __name__ == "__main__":
    main()
