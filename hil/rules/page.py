# SPDX-License-Identifier: GPL-2.0-or-later
"""Documentation pages made from the rule tables: ``python -m hil.rules.page [FOLDER]``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from hil.cells import Direction
from hil.rules.known import Known, all_known
from hil.rules.table import (
    ADDRESS,
    ANY_PAGE,
    FIRST_PAGE,
    FOLDER,
    LATER_PAGE,
    Row,
    Table,
    rows_for,
    table,
)
from hil.system.release import FINAL, Release

DOCS = FOLDER.parent.parent / "docs" / "rules"
FAMILIES = ("vb2-vmalloc", "io-uring")

_LAST_MINOR = {4: 20, 5: 19, 6: 19}
_NEWEST = 1_000_000
_WHERE = {
    FIRST_PAGE: "at the first page",
    LATER_PAGE: "at a later page",
    ANY_PAGE: "at any page",
    ADDRESS: "by the address",
}
_WORDS = {"accept": "take", "absent": "–"}


def series(found: Table) -> list[tuple[int, int]]:
    """Every mainline series from the table's first to its last."""
    major, minor = found.first[:2]
    every: list[tuple[int, int]] = []
    while (major, minor) <= found.last[:2]:
        every.append((major, minor))
        if minor == _LAST_MINOR.get(major):
            major, minor = major + 1, 0
        else:
            minor += 1
    return every


def _outcome(found: Table, row: Row, release: Release) -> str:
    text = _WORDS.get(row.expect) or " or ".join(found.errnos(row, release))
    if row.expect == "accept" and not row.pinned:
        text += ", no pin"
    return text


def _square(found: Table, memory: str, release: Release) -> str:
    """What the table says of a class on one release, both directions."""
    told: list[str] = []
    for direction in Direction:
        parts: list[str] = []
        for row in rows_for(found, release):
            if direction in row.directions and row.names(memory):
                facts = " and ".join(key for key, value in row.when.items() if value)
                text = _outcome(found, row, release) + (f" when {facts}" if facts else "")
                # What holds without any fact comes first.
                parts.insert(0 if row.when and not facts else len(parts), text)
        told.append("; ".join(parts) or "no rule")
    return told[0] if told[0] == told[1] else " / ".join(told)


def columns(found: Table, names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Heading and squares of each range of series that the table does not tell apart."""
    names = list(names)
    merged: list[tuple[tuple[int, int], tuple[int, int], list[str]]] = []
    for major, minor in series(found):
        squares = []
        for name in names:
            newest = _square(found, name, Release(major, minor, _NEWEST, FINAL))
            oldest = _square(found, name, Release(major, minor, 0, FINAL))
            squares.append(newest if newest == oldest else f"{newest} \\*")
        if merged and merged[-1][2] == squares:
            merged[-1] = (merged[-1][0], (major, minor), squares)
        else:
            merged.append(((major, minor), (major, minor), squares))
    return [
        (f"{a[0]}.{a[1]}" if a == b else f"{a[0]}.{a[1]} to {b[0]}.{b[1]}", squares)
        for a, b, squares in merged
    ]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _grid(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [_line(head), _line("---" for _ in head), *(_line(row) for row in rows)]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _rule(found: Table, row: Row) -> list[str]:
    if row.expect == "refuse":
        expected = f"refuse {_WHERE[row.at]}"
        expected += f" with {' or '.join(row.errnos)}" if row.errnos else ""
    else:
        expected = {"accept": "take", "absent": "there is no such memory"}[row.expect]
        expected += "" if row.pinned else " without a pin"
    if len(row.directions) == 1:
        expected += f", {row.directions[0]} only"
    for key, value in row.when.items():
        expected += f", when {'' if value else 'not '}{key}"
    return [
        f"**{row.id}** ({row.span}): {expected}. {row.because[0].upper()}{row.because[1:]}.",
        f"Memory: {_codes(row.memory)}.",
        f"Source: {row.source}." + (f" Commit: {row.commit}." if row.commit else ""),
        "",
    ]


def _known(entry: Known) -> list[str]:
    verdicts = ", ".join(entry.verdicts)
    return [
        entry.id,
        str(entry.span),
        verdicts,
        entry.because,
        f"{entry.source}; {entry.reference}",
    ]


def _by_folio(found: Table) -> list[str]:
    if found.by_folio is None:
        return []
    return [f"On {found.by_folio} neighbouring pages of a folio may share a pin."]


def page(found: Table, names: Iterable[str], known: Iterable[Known]) -> str:
    """The whole page as Markdown; ``names`` are the memory classes in their order."""
    names = list(names)
    ranges = columns(found, names)
    lines = [
        "<!-- SPDX-License-Identifier: GPL-2.0-or-later -->",
        f"<!-- Made from hil/rules/{found.family}.toml by python -m hil.rules.page: edit that. -->",
        "",
        f"# What {found.family} must do with a USERPTR, kernel by kernel",
        "",
        "`take`: the buffer is accepted, each page pinned once and none left in ZONE_MOVABLE. An",
        "errno: it is refused with that. Two answers are capture / output. `–`: the kernel has no",
        "such memory. `*`: older stable releases of that series do otherwise, see the rules below.",
        *_by_folio(found),
        "",
        *_grid(
            ["memory", *(head for head, _ in ranges)],
            ([f"`{name}`", *(s[place] for _, s in ranges)] for place, name in enumerate(names)),
        ),
        "",
        "## How an errno reaches user space",
        "",
        "A refusal by the address or at the first page shows its own errno, save for these:",
        "",
    ]
    for funnel in found.funnels:
        lines += [
            f"- **{funnel.id}** ({funnel.span}): a refusal {_WHERE[funnel.at]} becomes "
            f"{' or '.join(funnel.errnos)}. {funnel.because[0].upper()}{funnel.because[1:]}.",
            f"  Source: {funnel.source}." + (f" Commit: {funnel.commit}." if funnel.commit else ""),
        ]
    lines += ["", "## The rules", ""]
    for row in found.rows:
        lines += _rule(found, row)
    lines += [
        "## Known defects",
        "",
        "They change no rule: the cell is bad, and reported as known.",
        "",
        *_grid(
            ["id", "kernels", "verdicts", "why", "source and reference"],
            (_known(e) for e in known),
        ),
    ]
    return "\n".join(lines) + "\n"


def write(folder: Path = DOCS) -> list[Path]:
    """Write the pages of all families; returns their paths."""
    from hil.memory.base import all_classes

    written = []
    for family in FAMILIES:
        found = table(family)
        assert found is not None, family
        path = folder / f"{family}.md"
        path.write_text(page(found, all_classes(), all_known()), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for path in write(*(Path(name) for name in sys.argv[1:2])):
        print(path)
