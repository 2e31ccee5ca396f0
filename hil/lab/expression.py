# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions as pytest's -k and -m have them: words joined by and, or, not and parentheses.

The grammar is that of pytest's documentation ("Using -k expr"); a unit test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Matcher = Callable[[str], bool]
_TOKEN = re.compile(r"\s*(?:([()])|((?::?\w|:|\+|-|\.|\[|\]|\\|/)+))")
_OPERATORS = ("and", "or", "not", "(", ")")


class Expression:
    """An expression that can be asked for many sets of names; ValueError when it is none."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"unexpected {text[at:].split(maxsplit=1)[0]!r}")
            self._tokens.append(found[1] or found[2])
            at = found.end()
        self._tokens.append("")
        self._at = 0
        self._root = self._either() if self._tokens[0] else _nothing
        if self._tokens[self._at]:
            raise ValueError(f"{self._tokens[self._at]!r} where 'and' or 'or' is expected")

    def holds(self, matches: Matcher) -> bool:
        """Evaluate it; ``matches`` says whether a word applies."""
        return self._root(matches)

    def _take(self, token: str) -> bool:
        taken = self._tokens[self._at] == token
        self._at += taken
        return taken

    def _either(self) -> Callable[[Matcher], bool]:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return lambda matches: any(part(matches) for part in parts)

    def _both(self) -> Callable[[Matcher], bool]:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return lambda matches: all(part(matches) for part in parts)

    def _one(self) -> Callable[[Matcher], bool]:
        if self._take("not"):
            inner = self._one()
            return lambda matches: not inner(matches)
        if self._take("("):
            inner = self._either()
            if not self._take(")"):
                raise ValueError("a ')' is missing")
            return inner
        word = self._tokens[self._at]
        if not word or word in _OPERATORS:
            raise ValueError(f"{word!r} where a word is expected" if word else "it ends too early")
        self._at += 1
        return lambda matches: matches(word)


def _nothing(_: Matcher) -> bool:
    return False
