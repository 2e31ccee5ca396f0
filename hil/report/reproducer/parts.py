# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts that reproducers are put together from: pieces of the C files beside this one.

A line ``/*@ NAME: NEEDED ... */`` begins a part and names those that must come before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import NamedTuple

FILES = ("common.c", "memory.c", "pinners.c", "conditions.c", "main.c")
_HEAD = re.compile(r"^/\*@ ([\w-]+)(?:: ([\w -]+))? \*/\n", re.M)


class Part(NamedTuple):
    """A piece of C, and what it rests on."""

    text: str
    needs: tuple[str, ...]


@cache
def parts() -> dict[str, dict[str, Part]]:
    """File -> name -> part.  What stands before a file's first part is its own licence and aim."""
    found: dict[str, dict[str, Part]] = {}
    for file in FILES:
        text = resources.files("hil.report.reproducer").joinpath(file).read_text(encoding="utf-8")
        _, *pieces = _HEAD.split(text)
        found[file] = {
            name: Part(body.strip("\n") + "\n", tuple((needs or "").split()))
            for name, needs, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True)
        }
    return found


def linked(wanted: Iterable[tuple[str, str]]) -> str:
    """The text of some parts, each (file, name), after those that they need; each once.

    A need is a part of the same file, else of common.c.
    """
    done: dict[tuple[str, str], str] = {}

    def take(file: str, name: str) -> None:
        home = file if name in parts()[file] else "common.c"
        if (home, name) in done:
            return
        part = parts()[home][name]
        for need in part.needs:
            take(home, need)
        done[home, name] = part.text

    for file, name in wanted:
        take(file, name)
    return "\n".join(done.values())
