# SPDX-License-Identifier: GPL-2.0-or-later
"""A cell's evidence in few lines of plain text, for those who read it outside this suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hil.report.text import clean

Record = Mapping[str, Any]
_BEFORE_THE_CALL = ("open", "make", "before", "pin")


def expected(record: Record) -> str:
    """What the rule asks for: "accepted", "refused with EFAULT or EINVAL"; empty without one."""
    wanted = record.get("expected")
    if not wanted:
        return ""
    if wanted.get("accept"):
        return "accepted"
    return f"refused with {' or '.join(wanted.get('errnos') or ['an errno'])}"


def answer(record: Record) -> str:
    """What the call under test came to: "VIDIOC_QBUF: EFAULT", or that it was not reached."""
    evidence = record.get("evidence") or {}
    call = evidence.get("call")
    if not call or "errno" not in evidence:
        return ""
    stage = evidence.get("stage")
    if evidence["errno"] is None and stage in _BEFORE_THE_CALL:
        return f"{call}: {'did not come back' if stage == 'pin' else 'not reached'}"
    return f"{call}: {evidence['errno'] or 'accepted'}"


def citation(record: Record) -> str:
    """The rule and what it rests on, in one line."""
    source = record.get("source") or {}
    parts = [str(record.get("rule") or "")]
    parts += [str(source[key]) for key in ("source", "commit") if source.get(key)]
    return ", ".join(part for part in parts if part)


def essentials(record: Record) -> list[str]:
    """Expectation, answer, pins, frames, data: one line each, only those that there are."""
    return [clean(" ".join(line.split())) for line in _essentials(record)]


def _essentials(record: Record) -> Iterator[str]:
    evidence = record.get("evidence") or {}
    if said := answer(record):
        yield said
    if wanted := expected(record):
        yield f"expected: {wanted}"
    if rule := citation(record):
        yield f"rule: {rule}"
    known = record.get("known")
    if known:
        yield f"known: {known.get('id')}: {known.get('reference')}"
    yield from _pins(evidence.get("pins") or {})
    for moment, look in (evidence.get("frames") or {}).items():
        if look and look.get("zones"):
            zones = ", ".join(f"{count} in {zone}" for zone, count in look["zones"].items())
            yield f"pages {moment}: {zones}"
    for key in ("moved_pages", "unsuitable_pages"):
        if evidence.get(key):
            yield f"{key.replace('_', ' ')}: {evidence[key]}"
    for key in ("second_pin", "data", "setup"):
        if evidence.get(key):
            yield f"{key.replace('_', ' ')}: {words(evidence[key])}"
    for check in (evidence.get("condition") or {}).get("checks") or ():
        yield f"{check.get('what')}: {check.get('gave')}, expected {words(check.get('expected'))}"
    found = record.get("attribution")
    if found:
        yield f"at fault: {found.get('to')}: {found.get('why')}"


def _pins(pins: Mapping[str, Any]) -> Iterator[str]:
    for moment, count in pins.items():
        if moment != "before" and isinstance(count, Mapping):
            told = ", ".join(f"{count.get(key)} {key}" for key in ("acquired", "released", "live"))
            yield f"pins {moment}: {told}"


def words(value: object) -> str:
    """A value of the evidence as one would say it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, (list, tuple)):
        return " or ".join(map(words, value))
    return str(value)


def kernel_said(record: Record) -> list[str]:
    """The kernel's log of the cell, a stuck call's stack, a dead machine's console; clean."""
    evidence = record.get("evidence") or {}
    child = evidence.get("child") or {}
    lines: list[str] = []
    for part in (evidence.get("log"), child.get("stack"), evidence.get("console")):
        if part:
            lines += str(part).splitlines() if isinstance(part, str) else map(str, part)
    return [clean(" ".join(line.split("\n"))) for line in lines]
