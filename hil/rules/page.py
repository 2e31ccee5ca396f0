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
from hil.rules.toml import matches
from hil.system.release import FINAL, Release

DOCS = FOLDER.parent.parent / "docs" / "rules"
FAMILIES = ("vb2-vmalloc", "vb2-dma-sg", "vb2-dma-contig", "exynos-g2d", "habanalabs", "io-uring")

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


def _outcome(found: Table, row: Row, release: Release, way: Table | None = None) -> str:
    errnos = found.errnos(row, release) if way is None else way.seen(found, row, release)
    text = _WORDS.get(row.expect) or " or ".join(errnos)
    if row.expect == "accept" and not row.pinned:
        text += ", no pin"
    return text


def _answers(
    found: Table, memory: str, direction: str, release: Release, way: Table | None = None
) -> list[tuple[str, str]]:
    """(answer, the facts that it holds with) of every row for a class; without a fact first.

    ``way`` is the table that rests on this one, by which an errno comes to user space.
    """
    rows = [
        row for row in rows_for(found, release)
        if direction in row.directions and row.names(memory)
    ]  # fmt: skip
    under: list[tuple[str, str]] = []
    base = table(found.base) if found.base else None
    if base is not None and not any(not row.when and not row.instead_of for row in rows):
        way_there = found.base_direction or direction
        under = _answers(base, memory, way_there, release, found)
    takes = any(text.startswith(_WORDS["accept"]) for text, _ in under)
    told = list(under)
    for row in rows:
        if row.instead_of and takes != (row.instead_of == "accept"):
            continue
        facts = " and ".join(key for key, value in row.when.items() if value)
        told.append((_outcome(found, row, release, way), facts))
    return sorted(dict.fromkeys(told), key=lambda pair: bool(pair[1]))


def _square(found: Table, memory: str, release: Release) -> str:
    """What the table says of a class on one release, both directions."""
    told: list[str] = []
    for direction in Direction:
        parts = [
            text + (f" when {facts}" if facts else "")
            for text, facts in _answers(found, memory, direction, release)
        ]
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
    if row.instead_of:
        base = {"accept": "would take", "refuse": "would refuse"}[row.instead_of]
        expected += f", in place of what the base {base}"
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


def _base(found: Table) -> list[str]:
    """What a table takes over from another one."""
    text = [f"## What is as in {found.base}", "", "All that no rule below says, see"]
    text[-1] += f" [{found.base}.md]({found.base}.md)."
    if found.base_direction:
        text.append(f"Both directions are as its {found.base_direction}.")
    if found.base_errnos:
        text.append(
            f"Whatever errno it names, user space is told {' or '.join(found.base_errnos)}."
        )
    return text


def page(found: Table, names: Iterable[str], known: Iterable[Known]) -> str:
    """The whole page as Markdown; ``names`` are the memory classes in their order."""
    names = list(names)
    ranges = columns(found, names)
    lines = [
        "<!-- SPDX-License-Identifier: GPL-2.0-or-later -->",
        f"<!-- Made from hil/rules/{found.family}.toml by python -m hil.rules.page: edit that. -->",
        "",
        f"# What {found.family} must do with user memory, kernel by kernel",
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
    if not found.funnels:
        lines.append("There are none.")
    if found.base:
        lines += ["", *_base(found)]
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
            (_known(e) for e in known if any(matches(f, found.family) for f in e.families)),
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
