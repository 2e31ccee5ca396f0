# SPDX-License-Identifier: GPL-2.0-or-later
"""What a page knows of its cells, as text that can stand in script elements.

* `Table`: rows of words, each word written once: ``{"words": [...], "rows": [[n, ...], ...]}``.
* `sheets`: the records themselves, lines of a journal.  So many at a time are deflated (RFC 1950)
  and written in base64, each sheet a script element ``sheet-N`` that nobody reads before one of its
  cells is asked for: a page with 100,000 cells opens at once.

`hil/report/evidence.js` reads both.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence

# "</script>" and "<!--" end or change a script element; "&" matters where the page is XHTML.
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}

SHEET = 64
"""Records in a sheet: enough that they share their words, few enough to unpack in a blink."""
_MANY = 20_000


def script_json(value: object) -> str:
    """A value as JSON: ASCII without '<', '>' and '&'."""
    return json.dumps(value, separators=(",", ":"), default=str).translate(_ESCAPES)


class Table:
    """Rows of words, each word written once; None is a word too."""

    def __init__(self) -> None:
        self._words: dict[str | None, int] = {}
        self._rows: list[list[int]] = []

    def add(self, row: Sequence[str | None]) -> None:
        """One more row."""
        self._rows.append([self._words.setdefault(word, len(self._words)) for word in row])

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"words": list(self._words), "rows": self._rows}


def sheets(lines: Iterable[bytes], expected: int) -> Iterator[str]:
    """Script elements with the records in ``lines``, in order: record n is in sheet n // SHEET.

    A line is JSON in ASCII, as the journal has it.  Some ``expected`` of them come: many are packed
    in haste.
    """
    level = 2 if expected > _MANY else 6
    for number, sheet in enumerate(_batches(lines)):
        packed = base64.b64encode(zlib.compress(b"\n".join(sheet), level)).decode("ascii")
        yield f'<script type="text/plain" id="sheet-{number}">{packed}</script>\n'


def _batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line.strip())
        if len(batch) == SHEET:
            yield batch
            batch = []
    if batch:
        yield batch
