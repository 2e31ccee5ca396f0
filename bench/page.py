# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures, and the tables that are made of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_BEGIN = "<!-- measured: {} writes from here -->"
_END = "<!-- measured: to here -->"


class Figure(NamedTuple):
    """One thing that was measured several times.

    ``beside`` is the key of the figure that it is compared with; its ratio is this one's median
    over that one's.  ``target`` is a limit of the median, ``ratio_target`` one of the ratio.
    """

    key: str
    title: str
    unit: str
    values: tuple[float, ...]
    command: str = ""
    beside: str = ""
    target: float | None = None
    ratio_target: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the median so that nobody has to compute it."""
        return {**self._asdict(), "values": list(self.values), "median": self.median}


def figure(value: Mapping[str, Any]) -> Figure:
    """A figure as `Figure.as_dict` wrote it."""
    fields = {name: value[name] for name in Figure._fields if name in value}
    return Figure(**{**fields, "values": tuple(fields["values"])})


def number(value: float, unit: str) -> str:
    """For people: ``"0.26 s"``, ``"12.3 ms"``, ``"101 MB"``."""
    if unit == "":
        return f"{value:.3g}"
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:.{places}f} {unit}"


def ratio(one: Figure, figures: Mapping[str, Figure]) -> float | None:
    """The figure's median over that of the figure beside it; None where there is none."""
    other = figures.get(one.beside)
    if other is None or not other.median:
        return None
    # ms against s: everything in the smaller unit
    factor = {"s": 1000.0, "ms": 1.0}
    return one.median * factor.get(one.unit, 1.0) / (other.median * factor.get(other.unit, 1.0))


def met(one: Figure, figures: Mapping[str, Figure]) -> bool | None:
    """Whether every target is met; None where there is no target, or nothing to compare with."""
    if one.target is not None and one.median > one.target:
        return False
    if one.ratio_target is None:
        return None if one.target is None else True
    found = ratio(one, figures)
    return None if found is None else found <= one.ratio_target


def row(one: Figure, figures: Mapping[str, Figure]) -> list[str]:
    """A table row: what, median, smallest to largest, runs, ratio, target."""
    low, high = min(one.values), max(one.values)
    spread = f"{number(low, one.unit).partition(' ')[0]} .. {number(high, one.unit)}"
    if len(one.values) == 1:
        spread = ""
    found = ratio(one, figures)
    shown = ""
    if found is not None:
        places = 2 if found < 10 else 0
        shown = f"{found:.{places}f} of {figures[one.beside].title}"
    goals = []
    if one.target is not None:
        goals.append(f"<= {one.target:g} {one.unit}".rstrip())
    if one.ratio_target is not None:
        goals.append(f"ratio <= {one.ratio_target:g}")
    goal = ", ".join(goals)
    verdict = met(one, figures)
    if verdict is not None:
        goal += ": met" if verdict else ": **not met**"
    return [one.title, number(one.median, one.unit), spread, str(len(one.values)), shown, goal]


HEAD = ("", "median", "min .. max", "runs", "beside it", "target")


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    """A Markdown table without the columns that are empty in every row."""
    kept = [i for i, name in enumerate(head) if i == 0 or any(r[i] for r in rows)]
    lines = [[head[i] for i in kept], ["---"] * len(kept), *([r[i] for i in kept] for r in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(title: str, about: str, own: Iterable[Figure], figures: Mapping[str, Figure]) -> str:
    """A heading, a table, and the commands behind it."""
    own = list(own)
    parts = [f"### {title}"]
    if about:
        parts.append(about)
    parts.append(table([row(one, figures) for one in own]))
    commands = dict.fromkeys(one.command for one in own if one.command)
    if commands:
        parts.append("```sh\n" + "\n".join(commands) + "\n```")
    return "\n\n".join(parts)


def replaced(text: str, inner: str, program: str = "bench/measure.py") -> str:
    """``text`` with what a program measured replaced; ValueError where its markers are missing."""
    marker = _BEGIN.format(program)
    before, begin, rest = text.partition(marker)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page has no {marker} .. {_END}")
    return f"{before}{marker}\n\n{inner.strip()}\n\n{_END}{after}"
