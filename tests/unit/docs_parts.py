# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the project's pages: code blocks, tables, sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
CONTRIBUTING = TEXTS["CONTRIBUTING.md"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [body for name, body in _FENCE.findall(text) if name == language]


def flat(name: str) -> str:
    """A page with its lines joined: where they break does not matter."""
    return " ".join(TEXTS[name].split())


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def tables(text: str, *heads: str) -> Iterator[list[list[str]]]:
    """The cells of each table whose first heads are ``heads``, without backquotes."""
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
            continue
        if rows and rows[0][: len(heads)] == list(heads):
            yield rows[2:]
        rows = []


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(title)}$\n(.*?)(?=^#{{1,6}} |\Z)", text, re.M | re.S)
    assert found, title
    return found.group(2)
