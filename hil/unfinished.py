# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cell comes to that did not run to its end: steps 1 to 3 of hil/judge.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hil.evidence.log import warnings
from hil.verdicts import Verdict

STAGES = ("open", "make", "before", "pin", "during", "hold", "release", "after", "done")
"""The stages of a cell in order; evidence names the last one reached."""


class Finding(NamedTuple):
    """Something that is not as it must be, and one sentence about it."""

    verdict: Verdict
    reason: str


def part(evidence: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of the evidence; empty where there is none."""
    value = evidence.get(key)
    return value if isinstance(value, Mapping) else {}


def number(mapping: Mapping[str, Any], key: str) -> int:
    """A number in it; 0 where there is none."""
    value = mapping.get(key)
    return value if isinstance(value, int) else 0


def _past_call(stage: str) -> bool:
    return stage in STAGES and STAGES.index(stage) >= STAGES.index("pin")


def _console(evidence: Mapping[str, Any]) -> str:
    """What a dead machine's console says of the reason: the first fault, and where it struck."""
    lines = [_untimed(str(line)) for line in evidence.get("console") or []]
    told = warnings(lines)
    if not told:
        return ""
    first = next((t for mark in _CAUSES for t in told if mark in t), told[0])
    where = next((line for line in lines if line.startswith("RIP: 0010:")), "")
    return f": {first}" + (f" at {where.removeprefix('RIP: 0010:')}" if where else "")


# A panic only repeats what a BUG or an oops before it said better.
_CAUSES = ("BUG", "general protection", "Oops", "Kernel panic")


def _untimed(line: str) -> str:
    """A console line without its time stamp, so that the same fault reads the same each time."""
    stamp, bracket, rest = line.partition("] ")
    return rest.strip() if bracket and stamp.lstrip().startswith("[") else line.strip()


def _child_end(child: Mapping[str, Any]) -> str:
    if child.get("signal"):
        return f"died of signal {child['signal']}"
    return f"ended with status {child.get('exit')}"


def unfinished(evidence: Mapping[str, Any]) -> Finding | None:
    """Steps 1 to 3: the cell did not run to its end."""
    lost = evidence.get("machine_lost")
    stage = str(evidence.get("stage") or "open")
    call = evidence.get("call") or "the call under test"
    if lost:
        where = f" in stage {stage!r}" if stage in STAGES else ""
        if lost == "hang":
            told = f"the machine hung{where} and was reset{_console(evidence)}"
            return Finding(Verdict.HANG, told)
        return Finding(Verdict.CRASH, f"the machine went down{where}{_console(evidence)}")
    setup = part(evidence, "setup")
    if "not_applicable" in setup:
        return Finding(Verdict.NOT_APPLICABLE, str(setup["not_applicable"]))
    child = part(evidence, "child")
    if child.get("hung"):
        if not _past_call(stage):
            return Finding(Verdict.HARNESS_ERROR, f"the deadline passed in stage {stage!r}")
        during = {"pin": f"{call} did not come back", "done": "the cell's process did not end"}
        what = during.get(stage, f"stage {stage!r} after {call} did not end")
        stuck = "" if child.get("killed") else " and can't be killed"
        return Finding(Verdict.HANG, f"{what} within the deadline{stuck}")
    if setup:
        error = str(setup.get("error", "unknown error")).strip()
        return Finding(Verdict.HARNESS_ERROR, f"stage {stage!r} failed: {error}")
    if stage != "done":
        said = warnings(evidence.get("log") or [])
        if said and _past_call(stage):
            return Finding(
                Verdict.KERNEL_WARNING,
                f"the cell's process {_child_end(child)} in stage {stage!r}: {said[0].strip()}",
            )
        return Finding(
            Verdict.HARNESS_ERROR,
            f"the cell's process {_child_end(child)} in stage {stage!r}",
        )
    return None
