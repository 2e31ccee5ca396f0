# SPDX-License-Identifier: GPL-2.0-or-later
"""The mark that stands for a cell in a matrix: told apart by sign first, by colour second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hil.runs.outcome import Outcome, outcome_of
from hil.verdicts import MEANING, Verdict

# Okabe and Ito's palette: eight colours that people with any kind of colour vision tell apart.
GREEN, BLUE, PURPLE = "#009E73", "#0072B2", "#CC79A7"
VERMILION, ORANGE, YELLOW = "#D55E00", "#E69F00", "#F0E442"


class Mark(NamedTuple):
    """One kind of square."""

    key: str
    """The kind, for style sheets: accepted, refused, skip, known, bad, unsure, fixed, missing."""
    sign: str
    plain: str
    """The sign where only ASCII can be shown."""
    style: str
    """A rich style."""
    text: str
    """What the legend says."""


ACCEPTED = Mark("accepted", "✓", "+", GREEN, "accepted, as the rule says")
REFUSED = Mark("refused", "⊘", "-", BLUE, "refused, as the rule says")
SKIPPED = Mark("skip", "·", ".", "dim", "not applicable here")
FIXED = Mark(
    "fixed",
    "FIXED",
    "FIXED",
    f"bold black on {YELLOW}",
    "known as bad, but it was right: drop its row of known errors",
)
MISSING = Mark("missing", "", "", "", "no such cell, or not judged")

# At most five letters: a column of the matrix is no wider than its words.
WORDS = {
    Verdict.WRONGLY_ACCEPTED: "took",
    Verdict.WRONGLY_REFUSED: "deny",
    Verdict.WRONG_ERRNO: "errno",
    Verdict.LEAK: "leak",
    Verdict.MISCOUNTED: "count",
    Verdict.NOT_HELD: "loose",
    Verdict.MOVED: "moved",
    Verdict.STAYED: "stay",
    Verdict.CORRUPT: "data",
    Verdict.STALE: "stale",
    Verdict.HANG: "hang",
    Verdict.CRASH: "crash",
    Verdict.KERNEL_WARNING: "warn",
    Verdict.NO_RULE: "rule?",
    Verdict.HARNESS_ERROR: "suite",
}


def accepted(record: Mapping[str, Any]) -> bool:
    """Did the call under test take the memory?  From the evidence, else from what was expected."""
    evidence = record.get("evidence") or {}
    if "errno" in evidence:
        return evidence["errno"] is None
    return bool((record.get("expected") or {}).get("accept", True))


def mark_of(record: Mapping[str, Any]) -> Mark:
    """The mark of a journal record.

    Upper case is bad, lower case is known: the same word, so that both are found by one search.
    """
    outcome = outcome_of(record)
    if outcome is Outcome.PASS:
        return ACCEPTED if accepted(record) else REFUSED
    if outcome is Outcome.SKIP:
        return SKIPPED
    if outcome is Outcome.UNEXPECTED_PASS:
        return FIXED
    given = str(record.get("verdict"))
    try:
        verdict = Verdict(given)
        word, meaning = WORDS.get(verdict, given[:5]), MEANING[verdict]
    except ValueError:
        word, meaning = given[:5], "a verdict that this version does not know"
    if outcome is Outcome.KNOWN:
        return Mark("known", word, word, PURPLE, f"{given}, known: see its reference below")
    word = word.upper()
    unsure = outcome is Outcome.ERROR or given == Verdict.NO_RULE
    style = f"bold black on {ORANGE if unsure else VERMILION}"
    return Mark("unsure" if unsure else "bad", word, word, style, f"{given}: {meaning}")


def legend(marks: Iterable[Mark]) -> list[tuple[Mark, int]]:
    """The marks that there are, each with its number: good ones first, then by sign."""
    counts: Counter[str] = Counter()
    found: dict[str, Mark] = {}
    for mark in marks:
        counts[mark.sign] += 1
        found[mark.sign] = mark
    first = [mark for mark in (ACCEPTED, REFUSED, SKIPPED) if mark.sign in found]
    rest = sorted((mark for mark in found.values() if mark not in first), key=lambda m: m.sign)
    return [(mark, counts[mark.sign]) for mark in [*first, *rest]]
