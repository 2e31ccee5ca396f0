# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between two records of the same cell, and what kind of difference that is.

First the verdict counts, then the errno, then the evidence.  Of evidence only what says something
of the driver or of mm is compared: pins, movable memory, what moved, what an allocator and mm's pin
functions were told.  Times, addresses, frame numbers and the order of zones differ at each run.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from hil.rules.known import zone_names
from hil.runs.outcome import Outcome, outcome_of
from hil.runs.stream import Cells

Record = Mapping[str, Any]


class Kind(enum.StrEnum):
    """What a difference is to the reader; in the order in which they are listed."""

    NEW = "new"
    """Bad, and was not."""
    FLAKY = "flaky"
    """Verdicts differ, but not always: see `hil.report.diff.compare`."""
    FIXED = "fixed"
    STILL = "still bad"
    APPEARED = "now known"
    """A known defect that was not there, or could not be made."""
    GONE = "no longer known"
    """A known defect that is right now, or can't be made."""
    VERDICT = "other verdict"
    ERRNO = "errno"
    EVIDENCE = "evidence"
    ONLY_OLD = "only in the first"
    ONLY_NEW = "only in the second"
    SAME = "same"


MEANING: dict[Kind, str] = {
    Kind.NEW: "bad in the second, and was not in the first",
    Kind.FLAKY: "another verdict, but the other kernel has come to it too in some run",
    Kind.FIXED: "bad in the first, and is no longer",
    Kind.STILL: "bad in both",
    Kind.APPEARED: "a known defect of the second, not of the first",
    Kind.GONE: "a known defect of the first, no longer of the second",
    Kind.VERDICT: "another verdict, bad in neither",
    Kind.ERRNO: "the same verdict, but the call answered otherwise",
    Kind.EVIDENCE: "the same verdict and errno, but the kernel shows something else",
    Kind.ONLY_OLD: "not in the second",
    Kind.ONLY_NEW: "not in the first",
    Kind.SAME: "no difference that matters",
}


class Difference(NamedTuple):
    """One cell of two runs."""

    cell: str
    kind: Kind
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    evidence: Mapping[str, tuple[object, object]] = MappingProxyType({})
    """What differs: name -> (first, second)."""


def verdict_kind(old: Record, new: Record) -> Kind:
    """The kind of a difference as far as verdict and errno tell; SAME where they are equal."""
    was, now = outcome_of(old), outcome_of(new)
    if now.bad:
        return Kind.STILL if was.bad else Kind.NEW
    if was.bad:
        return Kind.FIXED
    if old.get("verdict") != new.get("verdict") or was is not now:
        if now is Outcome.KNOWN and was is not Outcome.KNOWN:
            return Kind.APPEARED
        if was is Outcome.KNOWN and now is not Outcome.KNOWN:
            return Kind.GONE
        return Kind.VERDICT
    return Kind.ERRNO if answer(old) != answer(new) else Kind.SAME


def answer(record: Record) -> str | None:
    """The errno of the call under test; "accepted", or None where it was not made."""
    evidence = record.get("evidence") or {}
    if not evidence.get("call") or "errno" not in evidence or outcome_of(record) is Outcome.SKIP:
        return None
    return str(evidence["errno"] or "accepted")


def told(record: Record) -> dict[str, object]:
    """The part of the evidence that is compared: name -> value, plain enough to be printed."""
    evidence = record.get("evidence") or {}
    pins, second = evidence.get("pins") or {}, evidence.get("second_pin") or {}
    held, buffer = (pins.get("during") or {}).get("live"), evidence.get("buffer") or {}
    if held:  # other planes' pages are no more than companions
        held = max(0, held - (buffer.get("companion_pages") or 0))
    calls = evidence.get("pin_calls")
    data = evidence.get("data") or {}
    return {
        "stage": evidence.get("stage"),
        # Buffers may differ in length between boards and drivers: what counts is each page once.
        "pins while held": "one a page" if held and held == buffer.get("pages") else held,
        "pins at the end": (pins.get("after") or {}).get("live"),
        "zones": _zones(evidence),
        "pages pinned in movable memory": bool(evidence.get("unsuitable_pages")),
        "pages moved while pinned": bool(evidence.get("moved_pages")),
        "allocator": _each(evidence.get("answered") or []),
        "pin calls": _each(
            f"{call.get('function')} {'|'.join(sorted(call.get('flags') or ()))}".strip()
            for call in calls or []
        ),
        "second pin": second and (second.get("errno") or bool(second.get("acquired"))),
        "data": next((key for key in ("failed", "stale", "unproven") if data.get(key)), None)
        or (bool(data.get("corrupt_bytes")) if data else None),
        "checks": _each(
            f"{check.get('what')}: {check.get('gave')}"
            for check in (evidence.get("condition") or {}).get("checks") or []
        ),
    }


def _zones(evidence: Mapping[str, Any]) -> str | None:
    """Whether the pages were in ZONE_MOVABLE: which of the others the allocator took is chance."""
    names = zone_names(evidence) - {"none"}
    return None if not names else "Movable" if "Movable" in names else "not Movable"


def _each(parts: Any) -> str | None:
    return ", ".join(sorted({str(part) for part in parts})) or None


def difference(cell: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> Difference:
    """Compare two records of a cell; None is a cell that a run does not have."""
    if old is None or new is None:
        return Difference(cell, Kind.ONLY_NEW if old is None else Kind.ONLY_OLD, old, new)
    kind = verdict_kind(old, new)
    changed: dict[str, tuple[object, object]] = {}
    if outcome_of(old) is not Outcome.SKIP and outcome_of(new) is not Outcome.SKIP:
        first, second = told(old), told(new)
        changed = {n: (first[n], second[n]) for n in first if first[n] != second[n]}
    if kind is Kind.SAME and changed:
        kind = Kind.EVIDENCE
    return Difference(cell, kind, old, new, changed)


def differences(old: Cells, new: Cells) -> Iterator[Difference]:
    """Compare two journals cell by cell, in the first one's order; SAME ones are there too."""
    for cell, record in zip(old.ids, old, strict=True):
        beside = next(new.records([cell])) if cell in new else None
        yield difference(cell, record, beside)
    for cell in new.ids:
        if cell not in old:
            yield difference(cell, None, next(new.records([cell])))
