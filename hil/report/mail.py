# SPDX-License-Identifier: GPL-2.0-or-later
"""One bad cell as a mail to the maintainers: plain text, lines of 72, the reproducer inline."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hil.conditions import all_conditions
from hil.memory.base import all_classes
from hil.report.essence import answer, essentials, expected, kernel_said, words
from hil.report.grid import whole
from hil.report.sightings import BOTH, Sighting, Story, story
from hil.report.text import clean, command_line
from hil.verdicts import MEANING, Verdict

WIDTH = 72
_LOG_LINES = 80
_LISTS = {
    "v4l2": "linux-media@vger.kernel.org",
    "habanalabs": "dri-devel@lists.freedesktop.org",
    "exynos": "dri-devel@lists.freedesktop.org, linux-samsung-soc@vger.kernel.org",
    "io-uring": "io-uring@vger.kernel.org",
}
_MM, _REGRESSIONS = "linux-mm@kvack.org", "regressions@lists.linux.dev"
_CONFIG_SHOWN = ("NUMA", "CMA", "TRANSPARENT_HUGEPAGE", "PREEMPT", "DEBUG_VM", "KASAN")


def lines(
    found: Sequence[Sighting], focus: Sighting, program: str, no_program: str = ""
) -> Iterator[str]:
    """The mail about ``focus``; ``found`` are all sightings of the cell.

    ``program`` is the reproducer's C text; where it is empty ``no_program`` says why.
    """
    record = whole(focus.record)
    told = story(found, focus)
    yield from _head(record, focus, told)
    yield from _section("What was done", _done(record, focus))
    yield from _section("What was expected", _wanted(record))
    yield from _section("What was seen", _seen(record))
    yield from _section("On which kernels", [*_table(told), "", *_where(told, focus)])
    yield from _section("The machine", _machine(record, focus))
    said = kernel_said(record)
    if said:
        yield from _section("What the kernel said", _cut(said))
    yield from _section("Again", _again(record, focus))
    if tracked := _regzbot(record, focus, told):
        yield from _section("For regzbot", tracked)
    if program:
        status = "Exit status 0: all is as it must be; 1: it shows the defect; 2: it can't tell."
        yield from _section("Reproducer", _wrap(status))
        yield "\n8<---------- reproducer.c\n" + program.rstrip("\n") + "\n---------->8\n"
    else:
        yield from _section("Reproducer", _wrap(f"None that stands alone: {no_program}."))


def _head(record: Mapping[str, Any], focus: Sighting, told: Story) -> Iterator[str]:
    verdict, known = str(record.get("verdict")), record.get("known") or {}
    what = f"{record.get('driver') or record['pinner']}: {record['memory']}/{record['direction']}"
    condition = "" if record["condition"] == "steady" else f"/{record['condition']}"
    mark = "[REGRESSION] " if told.regression and not known else ""
    yield f"Subject: {mark}{clean(what)}{clean(condition)}: {verdict} on {focus.kernel}\n"
    fault = (record.get("attribution") or {}).get("to")
    kind = next((lists for name, lists in _LISTS.items() if record["pinner"].startswith(name)), "")
    to = [_MM] if fault == "mm" else [kind] if kind else [_MM]
    yield f"To: {', '.join(to)}\n"
    cc = [*([_MM] if fault != "mm" and _MM not in to else [])]
    cc += [_REGRESSIONS] if told.regression and not known else []
    if cc:
        yield f"Cc: {', '.join(cc)}\n"
    yield "\n"
    try:
        meaning = MEANING[Verdict(verdict)]
    except ValueError:
        meaning = "a verdict that this version does not know"
    yield from _wrap(f"{verdict}: {record.get('reason')}.".replace("..", "."))
    yield from _wrap(f"({verdict}: {meaning}.)")
    if known:
        yield "\n"
        because, reference = known.get("because"), known.get("reference")
        yield from _wrap(f"Known as {known.get('id')}: {because} ({reference}).")


def _done(record: Mapping[str, Any], focus: Sighting) -> Iterator[str]:
    evidence = record.get("evidence") or {}
    memory = all_classes().get(str(record["memory"]))
    buffer = evidence.get("buffer") or {}
    pinner = _pinner(record, focus)
    way = "the device writes it" if record["direction"] == "capture" else "the device reads it"
    size = f"; {buffer['length']} bytes, {buffer.get('pages')} pages" if "length" in buffer else ""
    yield from _item("cell", record["cell"])
    yield from _item("memory", (memory.summary if memory else record["memory"]) + size)
    if buffer.get("proof"):
        yield from _item("proof", words(buffer["proof"]))
    yield from _item("direction", f"{record['direction']}: {way}")
    device = ", ".join(str(pinner[key]) for key in ("node", "bus") if pinner.get(key))
    allocator = pinner.get("allocator")
    told = f"{record.get('driver')} ({device})" if device else str(record.get("driver"))
    yield from _item("pinned by", told + (f", allocator {allocator}" if allocator else ""))
    yield from _item("call", answer(record))
    condition = all_conditions().get(str(record["condition"]))
    yield from _item("meanwhile", condition.summary if condition else record["condition"])
    if evidence.get("note"):
        yield from _item("note", evidence["note"])


def _pinner(record: Mapping[str, Any], focus: Sighting) -> Mapping[str, Any]:
    of_run = focus.meta.get("pinners") or ()
    return next((p for p in of_run if p.get("name") == record["pinner"]), {})


def _wanted(record: Mapping[str, Any]) -> Iterator[str]:
    source = record.get("source") or {}
    yield from _item("answer", expected(record) or "no rule says")
    yield from _item("rule", record.get("rule"))
    for key in ("because", "source", "commit"):
        yield from _item(key, source.get(key))
    condition = all_conditions().get(str(record["condition"]))
    if condition is not None:
        yield from _item("must hold", condition.holds)
        yield from _item("on whose word", condition.why)


def _seen(record: Mapping[str, Any]) -> Iterator[str]:
    for line in essentials(record):
        # The rule and what it asks for stand in the section before.
        if not line.startswith(("expected:", "rule:", "known:")):
            yield from _wrap(line, "  ")


def _table(told: Story) -> Iterator[str]:
    width = max([len(str(kernel.release)) for kernel in told.kernels] + [6])
    for kernel in told.kernels:
        verdicts = Counter(
            f"{s.record.get('verdict')}"
            + (f" ({(s.record.get('evidence') or {}).get('errno')})"
               if (s.record.get("evidence") or {}).get("errno") else "")
            + (" known" if s.record.get("known") else "")
            for s in kernel.seen
        )  # fmt: skip
        told_of = ", ".join(name if n == 1 else f"{name}, {n} runs" for name, n in verdicts.items())
        yield f"  {kernel.release!s:{width}}  {kernel.state:12}  {told_of}\n"


def _where(told: Story, focus: Sighting) -> Iterator[str]:
    if not told.kernels or focus.release is None or not focus.stock:
        why = "modules of one's own were loaded" if not focus.stock else "the release has no number"
        yield from _wrap(f"The kernel of the run ({focus.kernel}) has no place among them: {why}.")
        return
    if told.first_bad is None:
        yield from _wrap(f"It is {focus.state} on {focus.kernel}: there is nothing to look for.")
        return
    if told.first_bad.state == BOTH:
        yield from _wrap(f"On {told.first_bad.release} it was good in one run and bad in another.")
    elif told.last_good is None:
        yield from _wrap(
            f"Bad on the oldest kernel on which it was told: {told.first_bad.release}. No good one "
            "before it is known."
        )
    else:
        _, bad = told.last_good, told.first_bad
        yield from _wrap(f"Last good {told.last_good.release}, first bad {bad.release}.")
        if not told.regression:
            yield from _wrap(
                "No regression between the two: what must happen differs by the rules."
            )
    if told.fixed is not None:
        yield from _wrap(f"Good again from {told.fixed.release} on: a fix lies before it.")


def _machine(record: Mapping[str, Any], focus: Sighting) -> Iterator[str]:
    meta = focus.meta
    yield from _item("board", meta.get("board"))
    yield from _item("uname", meta.get("uname"))
    yield from _item("kernel", meta.get("kernel_spec"))
    for name, text in (meta.get("versions") or {}).items():
        yield from _item("package" if name == "kernel" else name, text)
    yield from _item("acceleration", meta.get("acceleration"))
    config = meta.get("config") or {}
    shown = ", ".join(f"{name}={config[name]}" for name in _CONFIG_SHOWN if name in config)
    yield from _item("config", shown)
    for key in ("own_modules", "corrected_modules", "built_drivers"):
        if meta.get(key):
            yield from _item(key.replace("_", " "), meta[key])


def _again(record: Mapping[str, Any], focus: Sighting) -> Iterator[str]:
    spec = focus.meta.get("kernel_spec")
    board = focus.meta.get("board_file") or focus.meta.get("board")
    run = ["hil", "run", *(["--board", str(board)] if board else [])]
    run += ["--kernel", str(spec)] if spec else []
    yield f"  {command_line([*run, '-m', 'hw', '-k', str(record['cell'])])}\n"
    yield f"  {command_line(['hil', 'show', focus.folder.name, str(record['cell'])])}\n"
    named = str((record.get("source") or {}).get("source"))
    files = sorted(set(re.findall(r"\b(?:mm|drivers|fs|io_uring)/[\w/.-]+\.[ch]\b", named)))
    if files:
        yield from _wrap(f"Whom else to ask: scripts/get_maintainer.pl -f {' '.join(files)}", "  ")


def _regzbot(record: Mapping[str, Any], focus: Sighting, told: Story) -> list[str]:
    if not told.regression or told.last_good is None or told.first_bad is None:
        return []
    known = record.get("known") or {}
    found = []
    if known:
        found += _wrap(
            f"It is known as {known.get('id')} ({known.get('reference')}): send these lines only "
            "if it is not tracked."
        )
    if focus.meta.get("versions", {}).get("kernel"):
        found += _wrap("The kernels are a distribution's builds of these releases.")
    title = f"{record.get('driver')}: {record['memory']}/{record['direction']}: "
    found += [
        f"#regzbot introduced: v{told.last_good.release}..v{told.first_bad.release}\n",
        f"#regzbot title: {clean(title)}{record.get('verdict')}\n",
    ]
    return found


def _section(title: str, body: Iterator[str] | Sequence[str]) -> Iterator[str]:
    yield f"\n{title}\n{'-' * len(title)}\n"
    for line in body:
        yield line if line.endswith("\n") else f"{line}\n"


def _item(name: str, value: object) -> Iterator[str]:
    if value not in (None, "", [], {}):
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield from _wrap(f"{name}: {text}", "  ")


def _wrap(text: object, indent: str = "") -> list[str]:
    line = " ".join(clean(text).split())
    return [
        f"{part}\n"
        for part in textwrap.wrap(
            line, WIDTH, initial_indent=indent, subsequent_indent=indent + "  " * bool(indent),
            break_long_words=False, break_on_hyphens=False,
        )
    ]  # fmt: skip


def _cut(said: list[str]) -> list[str]:
    """The kernel's lines as they are: a mail that breaks them is of less use."""
    more = len(said) - _LOG_LINES
    if more > 0:
        half = _LOG_LINES // 2
        said = [*said[:half], f"... {more} lines are left out ...", *said[-half:]]
    return [f"  {line}" for line in said]
