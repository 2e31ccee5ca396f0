# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil diff`: what changed between two runs, the gravest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from hil.report.history import counts
from hil.report.marks import Mark, mark_of
from hil.report.text import fit, gist, signs_fit
from hil.runs.diff import MEANING, Difference, Kind, answer, differences
from hil.runs.history import History, Run
from hil.runs.outcome import Outcome, outcome_of
from hil.runs.stream import Cells

_CELLS = 6
_VERDICTS = (Kind.NEW, Kind.FIXED, Kind.STILL, Kind.APPEARED, Kind.GONE, Kind.VERDICT)
Counts = dict[str, Counter[str]]


class Compared(NamedTuple):
    """Two runs, and what differs between them."""

    old: Run
    new: Run
    differences: list[Difference]
    """Without SAME ones, by kind."""
    same: int
    seen: tuple[Counts, Counts]
    """Cell -> verdict -> number of runs, over all runs of what each of the two tested."""

    def of(self, kind: Kind) -> list[Difference]:
        """Those of one kind."""
        return [found for found in self.differences if found.kind is kind]

    @property
    def status(self) -> int:
        """1 where something is newly bad, else 0."""
        return int(any(found.kind is Kind.NEW for found in self.differences))


def compare(history: History, old: Run, new: Run) -> Compared:
    """Compare two runs, with what other runs of the same kernels tell of flaky cells.

    A cell that is bad on one side only is flaky when the other side's kernel has shown that verdict
    too, in a run other than these two: two runs alone tell of no chance.
    """
    names = (old.name, new.name)
    others = [history.verdicts(run, without=names) for run in (old, new)]
    found: list[Difference] = []
    same = 0
    for one in differences(Cells(old.path / "journal.jsonl"), Cells(new.path / "journal.jsonl")):
        if one.kind is Kind.SAME:
            same += 1
        elif one.kind in _VERDICTS and _by_chance(one, others[0], others[1]):
            found.append(_lean(one)._replace(kind=Kind.FLAKY))
        else:
            found.append(_lean(one))
    order = list(Kind)
    found.sort(key=lambda one: order.index(one.kind))
    return Compared(old, new, found, same, (history.verdicts(old), history.verdicts(new)))


def _by_chance(found: Difference, old: Counts, new: Counts) -> bool:
    assert found.old is not None
    assert found.new is not None
    was, now = str(found.old.get("verdict")), str(found.new.get("verdict"))
    if was == now:
        return False
    old_too = bool(old.get(found.cell, Counter())[now])
    new_too = bool(new.get(found.cell, Counter())[was])
    if found.kind in (Kind.NEW, Kind.APPEARED):
        return old_too
    if found.kind in (Kind.FIXED, Kind.GONE):
        return new_too
    return old_too or new_too


def _lean(found: Difference) -> Difference:
    """Without evidence that is not printed: of 100,000 cells it would fill the memory."""
    return found._replace(old=_short(found.old), new=_short(found.new))


def _short(record: dict[str, Any] | None) -> dict[str, Any] | None:
    if record is None:
        return None
    evidence = record.get("evidence") or {}
    kept = {key: evidence[key] for key in ("call", "errno", "stage") if key in evidence}
    names = ("cell", "verdict", "outcome", "known", "reason", "expected")
    return {**{key: record[key] for key in names if key in record}, "evidence": kept}


def as_json(compared: Compared) -> dict[str, Any]:
    """The same for machines."""
    kinds = Counter(str(found.kind) for found in compared.differences)
    return {
        "first": _run(compared.old),
        "second": _run(compared.new),
        "counts": {str(kind): kinds[kind] for kind in Kind if kind is not Kind.SAME}
        | {"same": compared.same},
        "differences": [
            {
                "cell": found.cell,
                "kind": str(found.kind),
                "first": _result(found.old),
                "second": _result(found.new),
                "evidence": {name: list(pair) for name, pair in found.evidence.items()},
                "seen": [dict(seen.get(found.cell, {})) for seen in compared.seen],
            }
            for found in compared.differences
        ],
    }


def _run(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run._asdict().items() if key != "path"}


def _result(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if record is None:
        return None
    return {
        "verdict": record.get("verdict"),
        "outcome": str(outcome_of(record)),
        "errno": answer(record),
        "known": (record.get("known") or {}).get("id"),
        "reason": record.get("reason"),
    }


def print_diff(console: Console, compared: Compared, *, every: bool = False) -> None:
    """Print kind by kind, cells with the same fate together; ``every``: name each cell."""
    old, new = compared.old, compared.new
    for name, run in (("first ", old), ("second", new)):
        told = f"{name} {run.kernel} on {run.board}, {run.cells} cells: {run.name}"
        if run.status != "complete":
            told += f" ({run.status})"
        console.print(Text(fit(console, told)), soft_wrap=True, highlight=False)
    if old.selection != new.selection:
        told = f"They chose their cells differently: {old.selection or 'all'} / "
        console.print(Text(fit(console, told + (new.selection or "all")), style="bold"))
    for kind in Kind:
        found = compared.of(kind)
        if found:
            _print_kind(console, compared, kind, found, every)
    console.print()
    kinds = Counter(one.kind for one in compared.differences)
    parts = [f"{kinds[kind]} {kind}" for kind in Kind if kinds[kind]]
    line = Text(", ".join([*parts, f"{compared.same} the same"]))
    line.append(": " if parts else "", "")
    line.append("new bad cells" if compared.status else "no new bad cell", "bold")
    console.print(line, highlight=False)


def _print_kind(
    console: Console, compared: Compared, kind: Kind, found: Sequence[Difference], every: bool
) -> None:
    console.print()
    head = Text(f"{kind}: {len(found)}", style="bold")
    console.print(head.append(f"  {MEANING[kind]}", "dim"), highlight=False)
    signs = signs_fit(console)
    for line, reason, own in _groups(found, _title(kind, signs)):
        title = Text("  ")
        for text, style in line:
            title.append(fit(console, text), style)
        title.append(f"  {len(own)} {'cell' if len(own) == 1 else 'cells'}", "dim")
        console.print(title, highlight=False)
        if reason:
            told = Text(fit(console, " ".join(reason.split())))
            console.print(Padding(told, (0, 0, 0, 4), expand=False), highlight=False)
        shown = own if every else own[:_CELLS]
        for one in shown:
            name = f"    {one.cell}{_frequency(compared, one)}"
            console.print(Text(fit(console, name), "dim"), soft_wrap=True, highlight=False)
        if len(own) > len(shown):
            more = f"    and {len(own) - len(shown)} more: --every names them"
            console.print(Text(more, style="dim"))


Title = tuple[tuple[str, str], ...]


def _groups(
    found: Iterable[Difference], title: Callable[[Difference], tuple[Title, str]]
) -> list[tuple[Title, str, list[Difference]]]:
    """Title, the first one's reason, and the differences that share the title and its gist."""
    groups: dict[tuple[Title, str], tuple[Title, str, list[Difference]]] = {}
    for one in found:
        line, reason = title(one)
        groups.setdefault((line, gist(reason)), (line, reason, []))[2].append(one)
    return sorted(groups.values(), key=lambda group: -len(group[2]))


def _title(kind: Kind, signs: bool) -> Callable[[Difference], tuple[Title, str]]:
    """What stands over cells that share it: from what to what, and a reason."""

    def sign(record: Mapping[str, Any]) -> tuple[str, str]:
        mark: Mark = mark_of(record)
        return (mark.sign if signs else mark.plain, mark.style)

    def of(one: Difference) -> tuple[Title, str]:
        arrow = (" → " if signs else " -> ", "")
        if one.old is None or one.new is None:
            record = one.old or one.new or {}
            bad = outcome_of(record).bad
            return (sign(record),), str(record.get("reason")) if bad else ""
        if kind is Kind.ERRNO:
            return ((answer(one.old) or "-", ""), arrow, (answer(one.new) or "-", "")), ""
        if kind is Kind.EVIDENCE:
            parts = [f"{n}: {_words(a)}{arrow[0]}{_words(b)}" for n, (a, b) in one.evidence.items()]
            return (("; ".join(parts), ""),), ""
        verdicts = f"  {one.old.get('verdict')}{arrow[0]}{one.new.get('verdict')}"
        reason = str(one.new.get("reason") or "")
        if outcome_of(one.new) is Outcome.PASS:  # it says nothing that the signs do not
            reason = f"was: {one.old.get('reason')}"
        return (sign(one.old), arrow, sign(one.new), (verdicts, "")), reason

    return of


def _words(value: object) -> str:
    names = {True: "yes", False: "no", None: "none"}
    return names[value] if value is None or isinstance(value, bool) else str(value)


def _frequency(compared: Compared, one: Difference) -> str:
    """How often each verdict came, where a kernel came to more than one."""
    told = []
    for run, seen in zip((compared.old, compared.new), compared.seen, strict=True):
        verdicts = seen.get(one.cell, Counter())
        if len(verdicts) > 1:
            told.append(f"{run.kernel}: {counts(verdicts)}")
    return f"  ({'; '.join(dict.fromkeys(told))})" if told else ""
