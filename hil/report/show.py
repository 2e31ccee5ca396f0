# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil show`: a run's matrix again, or one cell's whole evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hil.errors import HilError
from hil.report.grid import whole
from hil.report.marks import mark_of
from hil.report.matrix import print_matrix
from hil.report.text import command_line, fit
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, outcome_of

_CANDIDATES = 12
_STAGES = ("before", "during", "after")
_BEFORE_THE_CALL = ("open", "make", "before", "pin")


def show_run(console: Console, folder: RunFolder) -> None:
    """Print what ran where, the matrix and the lists beneath it."""
    contents = folder.scan()
    meta = folder.read_meta()
    console.print(_line(console, _title(folder, meta), "bold"), highlight=False)
    details = [command_line(meta["command"])] if meta.get("command") else []
    details += _times(meta)
    if details:
        console.print(_line(console, ", ".join(details)), highlight=False)
    console.print()
    print_matrix(console, contents.records, meta)
    for text in contents.torn:
        console.print(_line(console, text, "bold"), highlight=False)
    status = meta.get("status", "complete")
    if status != "complete":
        told = f"This run is {status}"
        if contents.in_flight:
            told += f"; it stopped in {contents.in_flight}"
        console.print(_line(console, f"{told}. Go on with: hil run --resume {folder.name}"))


def show_cell(console: Console, folder: RunFolder, text: str) -> None:
    """Print all evidence of one cell: its id, or a part that only one id has.

    HilError naming the candidates when several have it, or the nearest when none has.
    """
    record = whole(find_cell(folder.records(), text))
    _print_judgement(console, record)
    _print_evidence(console, dict(record.get("evidence") or {}))


def find_cell(records: Sequence[Mapping[str, Any]], text: str) -> Mapping[str, Any]:
    """The record whose cell's id is `text`, or the only one whose id holds all words of it."""
    by_id = {str(record["cell"]): record for record in records}
    return by_id[find_id(list(by_id), text)]


def find_id(names: Sequence[str], text: str, where: str = "this run") -> str:
    """The cell's id that `text` is, or the only one that holds all words of it.

    HilError with those that fit when several do, or the nearest ones when none does.
    """
    words = text.split()
    if text in names:
        return text
    fitting = [name for name in names if words and all(word in name for word in words)]
    # A memory class whose name begins another's: "memfd" is not meant to find "memfd-thp".
    exact = [name for name in fitting if all(word in name.split("/") for word in words)]
    for found in (fitting, exact):
        if len(found) == 1:
            return found[0]
    if fitting:
        raise HilError(f"{text!r} fits {len(exact or fitting)} cells", _listing(exact or fitting))
    near = get_close_matches(text, names, _CANDIDATES, 0.5) or [
        name for name in names if any(word in name for word in words)
    ]
    hint = f"The nearest are:\n  {_listing(near)}" if near else "`hil show RUN` prints the matrix."
    raise HilError(f"no cell {text!r} among the {len(names)} of {where}", hint)


def _listing(names: Sequence[str]) -> str:
    more = len(names) - _CANDIDATES
    lines = [*names[:_CANDIDATES], *([f"and {more} more"] if more > 0 else [])]
    return "\n  ".join(lines)


def _title(folder: RunFolder, meta: Mapping[str, Any]) -> str:
    title = folder.name
    if meta.get("kernel"):
        title += f": {meta['kernel']}"
    return f"{title} on {meta['board']}" if meta.get("board") else title


def _times(meta: Mapping[str, Any]) -> list[str]:
    started, finished = meta.get("started"), meta.get("finished")
    if not started:
        return []
    times = [f"started {started}"]
    try:
        spent = datetime.fromisoformat(str(finished)) - datetime.fromisoformat(str(started))
    except (ValueError, TypeError):  # not finished, or one time has a zone and the other none
        return times
    return [*times, f"took {spent.total_seconds():.0f} s"]


def _whose(record: Mapping[str, Any]) -> str | None:
    found = record.get("attribution")
    return f"{found['to']}: {found['why']}" if found else None


def _print_judgement(console: Console, record: Mapping[str, Any]) -> None:
    mark = mark_of(record)
    outcome = outcome_of(record)
    console.print(_line(console, record["cell"], "bold"), soft_wrap=True, highlight=False)
    line = Text("  ").append(f" {mark.plain} ", mark.style)
    line.append(f" {fit(console, record.get('verdict'))}")
    if outcome in (Outcome.KNOWN, Outcome.UNEXPECTED_PASS):
        line.append(f" ({outcome})")
    console.print(line, highlight=False)
    expected = record.get("expected")
    must = "no rule says"
    if expected:
        errnos = ", ".join(expected.get("errnos") or [])
        must = "accepted" if expected.get("accept") else f"refused with {errnos}"
    known = record.get("known") or {}
    _print_pairs(
        console,
        "",
        {
            "reason": record.get("reason"),
            "must be": must,
            "rule": record.get("rule"),
            **(record.get("source") or {}),
            "whose": _whose(record),
            "known": known.get("id"),
            "known because": known.get("because"),
            "reference": known.get("reference"),
            "kernel": record.get("kernel"),
            "driver": record.get("driver"),
        },
    )


def _print_evidence(console: Console, evidence: dict[str, Any]) -> None:
    stage = evidence.pop("stage", None)
    call = evidence.pop("call", None)
    errno = evidence.pop("errno", None)
    result = errno
    if errno is None and call and stage is not None:
        result = "not made" if stage in _BEFORE_THE_CALL else "accepted"
    buffer = dict(evidence.pop("buffer", None) or {})
    child = dict(evidence.pop("child", None) or {})
    long = {"kernel log": evidence.pop("log", None)}
    long |= {"kernel stack": child.pop("stack", None), "tasks": child.pop("tasks", None)}
    _print_pairs(
        console,
        "Call",
        {
            "call": call,
            "result": result,
            "last stage": None if stage == "done" else stage,
            "set-up": evidence.pop("setup", None),
        },
    )
    _print_pairs(console, "Buffer", buffer)
    for name in ("pins", "frames", "hugepages"):
        _print_stages(console, name.capitalize(), evidence.pop(name, None))
    counts = {
        name: evidence.pop(name, None) or None for name in ("moved_pages", "unsuitable_pages")
    }
    _print_pairs(console, "", counts)
    for title, value in long.items():
        _print_lines(console, title.capitalize(), value)
    for name, value in (*list(evidence.items()), ("child", child)):
        if isinstance(value, Mapping):
            _print_pairs(console, name.replace("_", " ").capitalize(), value)
        else:
            _print_pairs(console, "", {name: value})


def _print_pairs(console: Console, title: str, pairs: Mapping[str, Any]) -> None:
    shown = {name: value for name, value in pairs.items() if not _empty(value)}
    if not shown:
        return
    if title:
        console.print(_line(console, f"\n{title}", "bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=13)
    table.add_column(overflow="fold")
    for name, value in shown.items():
        table.add_row(_line(console, name.replace("_", " ")), _line(console, _words(value)))
    console.print(Padding(table, (0, 0, 0, 2), expand=False), highlight=False)


def _print_stages(console: Console, title: str, parts: Mapping[str, Any] | None) -> None:
    """Before, during and after side by side."""
    if not parts or _empty(parts):
        return
    stages = [stage for stage in _STAGES if stage in parts]
    stages += [stage for stage in parts if stage not in stages]
    names = list(dict.fromkeys(name for stage in stages for name in parts[stage] or {}))
    console.print(_line(console, f"\n{title}", "bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=13)
    for _ in stages:
        table.add_column(overflow="fold")
    table.add_row("", *(_line(console, stage, "dim") for stage in stages))
    for name in names:
        values = [(parts[stage] or {}).get(name) for stage in stages]
        row = ["-" if _empty(value) else _words(value) for value in values]
        table.add_row(_line(console, name), *(_line(console, text) for text in row))
    console.print(Padding(table, (0, 0, 0, 2), expand=False), highlight=False)


def _print_lines(console: Console, title: str, value: object) -> None:
    if _empty(value):
        return
    console.print(_line(console, f"\n{title}", "bold"))
    lines = value if isinstance(value, list) else str(value).splitlines()
    for line in lines:
        console.print(_line(console, f"  {line}"), soft_wrap=True, highlight=False)


def _line(console: Console, text: object, style: str = "") -> Text:
    return Text(fit(console, text), style=style)


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        parts = (f"{key} {_words(part)}" for key, part in value.items() if not _empty(part))
        return ", ".join(parts)
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _empty(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_empty, value.values()))
    return value is None or value in ("", [])
