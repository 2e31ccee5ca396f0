# SPDX-License-Identifier: GPL-2.0-or-later
"""A journal read cell by cell: of 100,000 cells only the places of their lines are kept.

Parsed records take some ten times the room of their lines.  What looks at each cell once, such as
an export, reads the journal through this instead of `journal.scan`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.runs import journal
from hil.runs.journal import Record

_START = b'{"cell":"'


class Place(NamedTuple):
    """Where a cell's line is: bytes from the journal's start, and its length."""

    start: int
    length: int


class Cells:
    """The cells of a journal in the order in which they first ran, each with its last record.

    Iterating reads the records anew each time.  ``in_flight`` is the cell that had begun and has no
    record.  HilError when the journal cannot be read.
    """

    __slots__ = ("_places", "in_flight", "path")

    def __init__(self, path: Path) -> None:
        """Find the lines; a journal that is not there yet has none."""
        self.path = path
        self._places: dict[str, Place] = {}
        note = journal.note(path)
        noted_at: int = note["at"] if note else 0
        self.in_flight: str | None = note["begin"] if note else None
        try:
            with path.open("rb") as file:
                start = 0
                for line in file:
                    cell, begun = _names(line)
                    if cell is not None:
                        self._places[cell] = Place(start, len(line))
                        if start >= noted_at:
                            self.in_flight = None
                    elif begun is not None:
                        self.in_flight = begun
                    start += len(line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise HilError(f"{path}: {error.strerror or error}") from error

    def __len__(self) -> int:
        return len(self._places)

    @property
    def ids(self) -> Iterable[str]:
        """The cells' ids."""
        return self._places.keys()

    def __contains__(self, cell: object) -> bool:
        return cell in self._places

    def __iter__(self) -> Iterator[Record]:
        return self.records(self._places)

    def records(self, ids: Iterable[str]) -> Iterator[Record]:
        """The records of some cells, in the order of ``ids``."""
        for cell, line in self.lines(ids):
            yield journal.decode(line) or {"cell": cell, "verdict": "unreadable"}

    def lines(self, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Some cells, each with the line of its record as it stands in the journal."""
        if not self._places:
            return
        with self.reader() as line_of:
            for cell in ids:
                yield cell, line_of(cell)

    @contextmanager
    def reader(self) -> Iterator[Callable[[str], bytes]]:
        """The journal held open: a function from a cell's id to the line of its record."""
        with self.path.open("rb") as file:
            descriptor = file.fileno()

            def line_of(cell: str) -> bytes:
                start, length = self._places[cell]
                return os.pread(descriptor, length, start)

            yield line_of


def _names(line: bytes) -> tuple[str | None, str | None]:
    """The cell whose record a line is, or the cell that it says has begun; torn lines are neither.

    The journal writes the cell first.  A line that begins so and closes all that it opens needs no
    parsing to be counted, which makes the first look three times as quick.
    """
    if line.startswith(_START) and line.count(b"{") == line.count(b"}"):
        name = line[len(_START) : line.find(b'"', len(_START))]
        if b"\\" not in name:
            return name.decode("ascii", "replace"), None
    entry = journal.decode(line) or {}
    cell, begun = entry.get("cell"), entry.get("begin")
    return None if cell is None else str(cell), None if begun is None else str(begun)
