# SPDX-License-Identifier: GPL-2.0-or-later
"""From verdict to outcome, and from a run's outcomes to its exit code."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hil.verdicts import Verdict


class Outcome(enum.StrEnum):
    """What a cell counts as once known errors are taken into account."""

    PASS = "pass"
    KNOWN = "known"
    """A bad verdict with a reference: it does not break the run."""
    SKIP = "skip"
    FAIL = "fail"
    ERROR = "error"
    """The suite or the machine was not ready."""
    UNEXPECTED_PASS = "unexpected-pass"
    """Known as bad, but it was right: the known row is out of date.  Counts as bad (strict)."""

    @property
    def bad(self) -> bool:
        """True for what makes the run exit with 1."""
        return self in (Outcome.FAIL, Outcome.ERROR, Outcome.UNEXPECTED_PASS)


def outcome_of(record: Mapping[str, Any]) -> Outcome:
    """The record's own ``outcome``, or what its verdict and ``known`` make it.

    A verdict that this version does not know is a failure: it is never lost as a pass.
    """
    given = record.get("outcome")
    if given is not None:
        try:
            return Outcome(given)
        except ValueError:
            return Outcome.FAIL
    verdict = record.get("verdict")
    if verdict == Verdict.NOT_APPLICABLE:
        return Outcome.SKIP
    if verdict == Verdict.OK:
        return Outcome.UNEXPECTED_PASS if record.get("known") else Outcome.PASS
    if verdict == Verdict.HARNESS_ERROR:
        return Outcome.ERROR
    return Outcome.KNOWN if record.get("known") else Outcome.FAIL


def last_of_each(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record a cell: the last, in the order in which the cells first ran."""
    cells: dict[str, dict[str, Any]] = {}
    for record in records:
        cells[record["cell"]] = dict(record)
    return list(cells.values())


class Totals(NamedTuple):
    """How many cells came to what."""

    planned: int
    """Cells that the run set out to judge; as many as judged when the run does not say."""
    judged: int
    passed: int
    known: int
    skipped: int
    bad: int
    verdicts: dict[str, int]

    @property
    def missing(self) -> int:
        """Cells that were to be judged and have no record."""
        return max(0, self.planned - self.judged)


def totals(records: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> Totals:
    """Count `records` (all of a journal's, or the last of each cell); `meta` is run.json."""
    last = {r["cell"]: (outcome_of(r), str(r.get("verdict"))) for r in records}
    counts = dict.fromkeys(Outcome, 0)
    verdicts: dict[str, int] = {}
    for outcome, verdict in last.values():
        counts[outcome] += 1
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    planned = meta.get("cells")
    return Totals(
        planned=planned if isinstance(planned, int) else len(last),
        judged=len(last),
        passed=counts[Outcome.PASS],
        known=counts[Outcome.KNOWN],
        skipped=counts[Outcome.SKIP],
        bad=sum(count for outcome, count in counts.items() if outcome.bad),
        verdicts=verdicts,
    )


def exit_code(records: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> int:
    """0 every verdict as it must be or known, 1 a bad verdict, 3 the run was not completed.

    3 comes before 1: a run with cells missing has not answered the question, whatever it found so
    far.  A run that judged nothing is not complete either.
    """
    count = totals(records, meta)
    if count.missing or not count.judged or meta.get("status", "complete") != "complete":
        return 3
    return 1 if count.bad else 0
