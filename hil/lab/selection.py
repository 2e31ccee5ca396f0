# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of a guest's cells the -k and -m expressions choose."""

from __future__ import annotations

from hil.errors import HilError
from hil.lab.expression import Expression, Matcher
from hil.lab.running import Guest


def select(guest: Guest, keywords: str, marks: str) -> list[str]:
    """The guest's cells that the -k and -m expressions choose, as pytest would in the guest.

    Evaluated here, so that a restored guest need not.
    """
    by_name, by_mark = _expression(keywords, "-k"), _expression(marks, "-m")
    chosen = []
    for cell in guest.cells:
        own = ["hw"]
        if cell in guest.slow:
            own.append("slow")
        if cell in guest.destructive:
            own.append("destructive")
        # All that pytest looks at: function with parameter, file, folders, marks.
        names = "\n".join((f"test_pinning[{cell}]", "test_pinning.py", "tests", *own)).lower()
        if by_name and not by_name.holds(_within(names)):
            continue
        if by_mark and not by_mark.holds(own.__contains__):
            continue
        chosen.append(cell)
    return chosen


def _expression(text: str, option: str) -> Expression | None:
    try:
        return Expression(text) if text.strip() else None
    except ValueError as error:
        raise HilError(
            f"{option} {text!r} is not an expression as pytest has it: {error}",
            "Words joined by and, or, not: -k 'hugetlb and not 1g'.",
        ) from error


def _within(text: str) -> Matcher:
    return lambda word: word.lower() in text
