# SPDX-License-Identifier: GPL-2.0-or-later
"""One line on standard error that says what is being fetched or made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, TextIO


class Say(Protocol):
    """Takes what is being done, and how much of it is done (0 to 1; None when not known).

    What begins with ``note:`` is no doing but something to remember: it stays on the screen.
    """

    def __call__(self, what: str, done: float | None = None) -> None: ...


def quiet(what: str, done: float | None = None) -> None:
    """Says nothing."""


class Line:
    """Rewrites one line on a terminal; elsewhere prints a line for each new thing to do.

    A context manager: the line is gone at the end, so that what follows starts clean.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._last = ""

    def __call__(self, what: str, done: float | None = None) -> None:
        if self._terminal and what.startswith("note:"):
            text = ""
            self._stream.write(f"\r\x1b[K{what}\n")
        elif self._terminal:
            percent = "" if done is None else f" {done:4.0%}"
            text = f"{what}{percent}"
            if text != self._last:
                self._stream.write(f"\r\x1b[K{text}")
        elif what != self._last:
            self._stream.write(f"{what}\n")
            text = what
        else:
            return
        self._last = text
        self._stream.flush()

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


@contextmanager
def line(say: Say | None) -> Iterator[Say]:
    """``say``, or a `Line` of its own for the time of the block."""
    if say is not None:
        yield say
        return
    with Line() as own:
        yield own
