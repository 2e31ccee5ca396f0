# SPDX-License-Identifier: GPL-2.0-or-later
"""Records as compact JSON that can stand in a script element of a page.

Evidence repeats itself: the same flags, the same proof, frames that did not move.  Packed, it is
``{"shapes": [...], "pool": [...], "cells": [...]}``:

* an object is ``[s, value, ...]`` with the names of its values in ``shapes[s]``;
* an array is ``[-1, value, ...]``;
* ``{"$": n}`` is entry n of the pool, which refers to earlier entries only.

Members that are null or empty are left out.  `hil/report/report.js` reads it back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

# A reference is some eight characters long: shorter pieces are repeated instead.
_WORTH_POOLING = 12
# "</script>" and "<!--" end or change a script element; "&" matters where the page is XHTML.
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def pack(cells: Iterable[Mapping[str, Any]]) -> str:
    """The packed form of `cells`: ASCII without '<', '>' and '&'."""
    packer = _Packer()
    roots = [packer.add(cell) for cell in cells]
    return packer.text(roots).translate(_ESCAPES)


class _Packer:
    """Gives equal values the same number, children before their parents."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._uses: list[int] = []
        self._shapes: dict[tuple[str, ...], int] = {}

    def add(self, value: Any) -> int:
        children: list[int] = []
        key: tuple[Any, ...]
        if isinstance(value, Mapping):
            members = [(str(name), part) for name, part in value.items() if not _empty(part)]
            shape = tuple(name for name, _ in members)
            children = [self.add(part) for _, part in members]
            key = (self._shapes.setdefault(shape, len(self._shapes)), *children)
        elif isinstance(value, (list, tuple)):
            children = [self.add(part) for part in value]
            key = (-1, *children)
        else:
            # The type belongs to the key: True equals 1.
            key = ("leaf", type(value), value)
        number = self._numbers.setdefault(key, len(self._uses))
        if number == len(self._uses):
            self._uses.append(0)
            for child in children:
                self._uses[child] += 1
        return number

    def text(self, roots: list[int]) -> str:
        pool: list[str] = []
        texts: list[str] = []
        for number, key in enumerate(self._numbers):
            if key[0] == "leaf":
                text = json.dumps(key[2], default=str)
            else:
                text = "[" + ",".join([str(key[0]), *(texts[child] for child in key[1:])]) + "]"
            if self._uses[number] > 1 and len(text) >= _WORTH_POOLING:
                pool.append(text)
                text = f'{{"$":{len(pool) - 1}}}'
            texts.append(text)
        shapes = json.dumps(list(self._shapes), separators=(",", ":"))
        cells = ",".join(texts[root] for root in roots)
        return f'{{"shapes":{shapes},"pool":[{",".join(pool)}],"cells":[{cells}]}}'


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, (str, list, tuple, Mapping)) and not value)
