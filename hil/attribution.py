# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault a bad verdict is: the driver's or mm's, by what the control did with the same memory.

The control pins the same class of memory on the same kernel at the same moment, through no driver.
It is judged by rules of its own, so it need not give the same answer: what counts is whether it is
as it must be too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hil.verdicts import Verdict

DRIVER = "driver"
MM = "mm"
UNCLEAR = "unclear"

# What is left out took the machine or the suite with it, or is said of what no control does.
_ASKED = frozenset({
    Verdict.WRONGLY_ACCEPTED, Verdict.WRONGLY_REFUSED, Verdict.WRONG_ERRNO, Verdict.LEAK,
    Verdict.MISCOUNTED, Verdict.MOVED, Verdict.STAYED, Verdict.CORRUPT, Verdict.STALE,
    Verdict.NOT_HELD, Verdict.KERNEL_WARNING,
})  # fmt: skip
# The kernel may say these once a boot: that the control does not meet them again proves nothing.
_ONCE = frozenset({Verdict.KERNEL_WARNING})


def asked(record: Mapping[str, Any], control: str) -> bool:
    """Whether the control called ``control`` can say something about this record."""
    return record["pinner"] != control and record["verdict"] in _ASKED


def attribute(record: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """``to`` whom the verdict of ``record`` goes, and ``why``, with the control's own in short."""
    name, verdict = control["pinner"], Verdict(control["verdict"])
    if verdict is Verdict.OK and record["verdict"] not in _ONCE:
        to, why = DRIVER, f"{name} pins the same memory as it must"
    elif verdict in _ASKED:
        to, why = MM, f"{name} fails with the same memory, without the driver: {verdict}"
    else:
        to, why = UNCLEAR, f"{name} tells nothing: {verdict}"
    evidence = control.get("evidence") or {}
    return {
        "to": to,
        "why": why,
        "control": name,
        "verdict": str(verdict),
        "reason": control["reason"],
        "errno": evidence.get("errno"),
        "pins": evidence.get("pins"),
        "frames": evidence.get("frames"),
    }
