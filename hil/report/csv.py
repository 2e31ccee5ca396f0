# SPDX-License-Identifier: GPL-2.0-or-later
"""A line a cell, for a spreadsheet, a data frame or a database (RFC 4180, UTF-8)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hil.report.essence import expected
from hil.report.grid import whole
from hil.report.text import clean
from hil.runs.outcome import outcome_of

COLUMNS = (
    "run", "board", "kernel", "cell", "pinner", "driver", "memory", "direction", "condition",
    "verdict", "outcome", "known", "reference", "at_fault", "rule", "expected", "call", "errno",
    "pins_during", "pins_after", "moved_pages", "unsuitable_pages", "corrupt_bytes", "stage",
    "seconds", "reason",
)  # fmt: skip
"""Their names and order stay; a later version may add some at the end."""


def lines(records: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> Iterator[str]:
    """A head with COLUMNS, then a line a record; ``meta`` is run.json."""
    row = io.StringIO()
    writer = csv.writer(row)
    run, board = clean(meta.get("run") or ""), clean(meta.get("board") or "")
    writer.writerow(COLUMNS)
    for given in records:
        record = whole(given)
        writer.writerow([run, board, *_fields(record)])
        if row.tell() > 1 << 16:
            yield row.getvalue()
            row.seek(0)
            row.truncate()
    yield row.getvalue()


def _fields(record: Mapping[str, Any]) -> list[object]:
    evidence = record.get("evidence") or {}
    known, pins = record.get("known") or {}, evidence.get("pins") or {}
    words = (
        record.get("kernel"), record["cell"], record["pinner"], record.get("driver"),
        record["memory"], record["direction"], record["condition"], record.get("verdict"),
        outcome_of(record), known.get("id"), known.get("reference"),
        (record.get("attribution") or {}).get("to"), record.get("rule"), expected(record),
        evidence.get("call"), evidence.get("errno"),
    )  # fmt: skip
    numbers = (
        (pins.get("during") or {}).get("live"), (pins.get("after") or {}).get("live"),
        evidence.get("moved_pages"), evidence.get("unsuitable_pages"),
        (evidence.get("data") or {}).get("corrupt_bytes"),
    )  # fmt: skip
    told = ("" if word is None else clean(word) for word in words)
    counted = ("" if number is None else number for number in numbers)
    rest = (clean(evidence.get("stage") or ""), record.get("seconds", ""))
    return [*told, *counted, *rest, clean(" ".join(str(record.get("reason") or "").split()))]
