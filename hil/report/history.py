# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil history` and `hil flaky` on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from hil.report.marks import Mark, mark_of
from hil.report.text import fit, signs_fit
from hil.runs.history import Flaky, Seen

_HEAD = ("kernel", "started", "board", "", "verdict", "errno", "known", "run")


def print_history(console: Console, cell: str, history: Sequence[Seen]) -> None:
    """One line a run, by kernel and time, and where the verdict changed."""
    console.print(Text(fit(console, cell), style="bold"), soft_wrap=True, highlight=False)
    signs = signs_fit(console)
    head = [Text(name, style="dim") for name in _HEAD]
    lines = [head]
    for seen in history:
        mark = mark_of_seen(seen)
        own = " (own modules)" if seen.run.modules else ""
        words = (
            seen.run.started.replace("T", " ").removesuffix("Z"), seen.run.board, seen.verdict,
            seen.answer, seen.known, seen.run.name + own,
        )  # fmt: skip
        sign = Text(mark.sign if signs else mark.plain, style=mark.style)
        started, board, *rest = (Text(fit(console, word)) for word in words)
        kernel = Text(fit(console, seen.run.kernel), style="bold")
        lines.append([kernel, started, board, sign, *rest])
    _print_lines(console, lines)
    for text in turns(history):
        console.print(Text(fit(console, text)), highlight=False)


def as_dict(seen: Seen) -> dict[str, object]:
    """One line for machines."""
    run = seen.run
    return {
        "kernel": run.kernel, "started": run.started, "board": run.board, "run": run.name,
        "status": run.status, "modules": run.modules.splitlines(), "verdict": seen.verdict,
        "outcome": seen.outcome, "errno": seen.answer or None, "known": seen.known or None,
    }  # fmt: skip


def turns(history: Sequence[Seen]) -> list[str]:
    """Where the newest runs of neighbouring kernels on one board differ, in words."""
    found = []
    newest = {(seen.run.board, seen.run.kernel): seen for seen in history if not seen.run.modules}
    chain: dict[str, Seen] = {}
    for (board, kernel), seen in newest.items():
        before = chain.get(board)
        chain[board] = seen
        if before is None:
            continue
        one, other = _told(before), _told(seen)
        if one != other:
            found.append(f"{before.run.kernel} {one}, {kernel} {other}")
    return found


def _told(seen: Seen) -> str:
    return f"{seen.verdict} ({seen.answer})" if seen.answer else seen.verdict


def mark_of_seen(seen: Seen) -> Mark:
    """The mark of a record, from what the index keeps of it."""
    errno = None if seen.answer in ("", "accepted") else seen.answer
    return mark_of(
        {
            "verdict": seen.verdict,
            "outcome": seen.outcome,
            "known": seen.known or None,
            "evidence": {"errno": errno},
        }
    )


def print_flaky(console: Console, flaky: Sequence[Flaky]) -> None:
    """One line a cell: how many of how many runs came to which verdict."""
    if not flaky:
        console.print("No cell's verdict differs between runs of one kernel on one board.")
        return
    machines: dict[tuple[str, str, str], list[Flaky]] = {}
    for one in flaky:
        machines.setdefault((one.kernel, one.board, one.modules), []).append(one)
    for (kernel, board, modules), cells in machines.items():
        own = f" with {', '.join(modules.splitlines())}" if modules else ""
        head = Text(fit(console, f"{kernel} on {board}{own}"), style="bold")
        console.print(head, highlight=False)
        lines = [[Text("  " + counts(one.verdicts)), Text(fit(console, one.cell))] for one in cells]
        _print_lines(console, lines)
    console.print("hil history CELL names the runs.", style="dim", highlight=False)


def counts(verdicts: Mapping[str, int]) -> str:
    """{"ok": 4, "moved": 1} as "ok 4/5, moved 1/5"."""
    total = sum(verdicts.values())
    order = sorted(verdicts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{verdict} {count}/{total}" for verdict, count in order)


def _print_lines(console: Console, lines: Sequence[Sequence[Text]]) -> None:
    """A table whose lines are never broken: each is one line for whoever pipes it on."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        whole = Text()
        for text, width in zip(line, widths, strict=True):
            if width:
                whole.append_text(text).append(" " * (width - len(text) + 2))
        whole.rstrip()
        console.print(whole, soft_wrap=True, highlight=False)
