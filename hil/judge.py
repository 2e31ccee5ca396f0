# SPDX-License-Identifier: GPL-2.0-or-later
"""From evidence and rule to a verdict.

The order of precedence, first that applies:

1. the machine was lost: ``crash``, or ``hang`` when it had to be reset;
2. the memory can't be made here: ``not-applicable``; anything else that went wrong before the call
   under test was made: ``harness-error``;
3. the deadline passed in the call under test or later: ``hang``; the child died by itself there:
   ``kernel-warning`` when the kernel had something to say, else ``harness-error``;
4. findings, in this order: ``kernel-warning``, ``wrongly-accepted``, ``wrongly-refused``,
   ``wrong-errno``, ``leak``, ``miscounted``, ``moved``, ``stayed``, ``corrupt``, ``stale``, and
   what the condition found;
5. no rule: ``no-rule``; else ``ok``.

Of several findings the first that no known defect excuses is the verdict; when all are excused, the
first that is not a warning of once a boot.  Findings need no rule, save accepted, refused and
errno: a leak is a leak on any kernel.
A verdict ``ok`` with ``known`` set: the known defect did not show, its entry is out of date.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hil.cells import Cell
from hil.evidence.frames import FOUR_GIB
from hil.evidence.log import taint_names, warnings
from hil.rules.known import Known, known_for, zone_names
from hil.rules.table import Rule, as_told, rule_for, why_none
from hil.system.release import Release
from hil.unfinished import Finding, number, part, unfinished
from hil.verdicts import Verdict

# What a module's licence, signature or origin sets, or what concerns firmware and user space, says
# nothing about the driver under test.  Left are M, B, D, W and L, and bits that are not known yet.
_HARMLESS_TAINT = sum(1 << bit for bit in (0, 1, 2, 3, 6, 8, 10, 11, 12, 13, 15, 16, 17, 18, 19))
_WARNED = 1 << 9


_WHILE_PINNED = frozenset({Verdict.MOVED, Verdict.STAYED, Verdict.CORRUPT, Verdict.STALE})


class Judgement(NamedTuple):
    """The verdict, one sentence with what was found and what was expected, and who says so."""

    verdict: Verdict
    reason: str
    known: Known | None = None
    rule: Rule | None = None


def facts(evidence: Mapping[str, Any]) -> dict[str, object]:
    """What rules may look at: the buffer's own facts, and what was seen of mapping and frames."""
    buffer = part(evidence, "buffer")
    found: dict[str, object] = dict(part(buffer, "facts"))
    found["movable"] = "Movable" in zone_names(evidence)
    during = part(part(evidence, "frames"), "during")
    found["scattered"] = not during.get("contiguous", True)
    found["above_4g"] = number(part(during, "first"), "frame") >= FOUR_GIB
    flags = part(buffer, "proof").get("VmFlags")
    if isinstance(flags, str):
        # GUP asks for both; TTM's mappings have VM_IO alone.
        found["pfnmap"] = not {"io", "pf"}.isdisjoint(flags.split())
    return found


def _new_taint(evidence: Mapping[str, Any]) -> int:
    taint = part(evidence, "taint")
    return number(taint, "after") & ~number(taint, "before") & ~_HARMLESS_TAINT


def _kernel_said(evidence: Mapping[str, Any]) -> Finding | None:
    told = warnings(evidence.get("log") or [])
    taint = _new_taint(evidence)
    if told:
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        return Finding(Verdict.KERNEL_WARNING, f"the kernel said: {told[0].strip()}{more}")
    if taint:
        names = ", ".join(taint_names(taint))
        return Finding(Verdict.KERNEL_WARNING, f"the kernel became tainted ({names})")
    return None


def _answer(evidence: Mapping[str, Any], rule: Rule) -> Finding | None:
    """Accepted or refused, and the errno."""
    call, errno = evidence.get("call") or "the call", evidence.get("errno")
    if errno is None:
        if rule.accept:
            return None
        return Finding(
            Verdict.WRONGLY_ACCEPTED,
            f"{call} accepted it, expected {' or '.join(rule.errnos)}: {rule.because}",
        )
    if rule.accept:
        return Finding(
            Verdict.WRONGLY_REFUSED, f"{call} gave {errno}, expected success: {rule.because}"
        )
    if errno not in rule.errnos:
        return Finding(
            Verdict.WRONG_ERRNO, f"{call} gave {errno}, expected {' or '.join(rule.errnos)}"
        )
    return None


def _counted(evidence: Mapping[str, Any], rule: Rule | None) -> list[Finding]:
    """Pins while held and after the end of life."""
    found: list[Finding] = []
    pins = part(evidence, "pins")
    after = pins.get("after")
    live = number(after, "live") if isinstance(after, Mapping) else 0
    if live > 0:
        found.append(Finding(Verdict.LEAK, f"{live} pins are still held at the end, expected 0"))
    elif live < 0:
        found.append(Finding(Verdict.MISCOUNTED, f"{-live} more pins were released than acquired"))
    during = pins.get("during")
    if not isinstance(during, Mapping):
        return found
    held, buffer = number(during, "live"), part(evidence, "buffer")
    if evidence.get("errno") is not None:
        # A refusal gives back what it got, the other planes' pages too (err: in __prepare_userptr).
        if held > 0 and live <= 0:
            reason = f"{held} pins are held after the refusal, expected 0"
            found.insert(0, Finding(Verdict.LEAK, reason))
        return found
    own = number(buffer, "pages") if rule is None or rule.pinned or not rule.accept else 0
    companions = number(buffer, "companion_pages")
    if rule is not None and rule.by_folio and own:
        own = max(1, min(own, held - companions))
    if held != own + companions:
        planes = f" and {companions} of other planes" if companions else ""
        found.append(
            Finding(
                Verdict.MISCOUNTED,
                f"{held} pins while held, expected {own} for the buffer's pages{planes}",
            )
        )
    return found


def _frames(evidence: Mapping[str, Any], rule: Rule | None) -> list[Finding]:
    """Where the pages were, what they held, and whether the driver has the right ones."""
    found: list[Finding] = []
    accepted = evidence.get("errno") is None
    pages = number(part(evidence, "buffer"), "pages")
    moved = number(evidence, "moved_pages")
    if accepted and moved and part(evidence, "condition").get("frames_stay", True):
        reason = f"{moved} of {pages} pages changed their frame while pinned, expected none"
        found.append(Finding(Verdict.MOVED, reason))
    stayed = number(evidence, "unsuitable_pages")
    if accepted and stayed and (rule is None or rule.must_leave_movable):
        reason = (
            f"{stayed} of {pages} pages are pinned in ZONE_MOVABLE or CMA, expected them to be "
            "migrated out first"
        )
        found.append(Finding(Verdict.STAYED, reason))
    found += _flags(evidence)
    data = part(evidence, "data")
    wrong = number(data, "corrupt_bytes")
    if data.get("failed"):
        reason = f"no data arrived: the device gave {data['failed']}"
        found.append(Finding(Verdict.CORRUPT, reason))
    elif wrong:
        of = f" of {data['bytes']}" if "bytes" in data else ""
        found.append(Finding(Verdict.CORRUPT, f"{wrong}{of} bytes are wrong, expected none"))
    outside = number(data, "guard_bytes")
    if outside:
        reason = f"{outside} bytes around the buffer changed, expected none"
        found.append(Finding(Verdict.CORRUPT, reason))
    if data.get("kept_old_pages") is False:
        reason = "the device has other pages than it had, expected those that were pinned"
        found.append(Finding(Verdict.CORRUPT, reason))
    if data.get("stale"):
        reason = "the device has other pages than the process, expected the same"
        found.append(Finding(Verdict.STALE, reason))
    second = part(evidence, "second_pin")
    changed = number(second, "changed_frames")
    if second and second.get("errno") is None and changed and not number(second, "acquired"):
        reason = (
            f"the second pin took no pages although {changed} frames had changed: the device keeps "
            "the old ones, expected the new ones"
        )
        found.append(Finding(Verdict.STALE, reason))
    return found


def _flags(evidence: Mapping[str, Any]) -> list[Finding]:
    """What a driver asked of mm, where its calls were traced (hil/evidence/pincalls.py)."""
    calls = evidence.get("pin_calls") or []
    if evidence.get("errno") is not None:
        return []
    found: list[Finding] = []
    short = [call for call in calls if "FOLL_LONGTERM" not in call["flags"]]
    if short:
        reason = (
            f"{short[0]['function']} was called with flags {short[0]['value']}, expected "
            "FOLL_LONGTERM among them: nothing is migrated out of ZONE_MOVABLE and CMA"
        )
        found.append(Finding(Verdict.STAYED, reason))
    return found


def _condition(
    cell: Cell, family: str, release: Release, evidence: Mapping[str, Any]
) -> list[Finding]:
    """What the condition looked at itself, and found otherwise."""
    found: list[Finding] = []
    for check in part(evidence, "condition").get("checks") or []:
        expected = check["expected"]
        if check["verdict"] == Verdict.WRONG_ERRNO:
            # The condition says what the kernel's mm gives; a driver may make another of it.
            expected = as_told(family, tuple(expected))
        verdict = Verdict(check["verdict"])
        if "rule" in check:
            words = _ruled(cell, family, release, evidence, check["rule"])
            if words is None:
                continue
            expected = list(dict.fromkeys([*expected, *words]))
            if check["gave"] == _ACCEPTED:
                verdict = Verdict.WRONGLY_ACCEPTED
            elif _ACCEPTED not in expected:
                verdict = Verdict.WRONG_ERRNO
        if check["gave"] not in expected:
            wanted = " or ".join(str(value) for value in expected)
            reason = f"{check['what']}: {check['gave']}, expected {wanted}"
            found.append(Finding(verdict, reason))
    return found


_ACCEPTED = "accepted"


def _ruled(
    cell: Cell,
    family: str,
    release: Release,
    evidence: Mapping[str, Any],
    asked: Mapping[str, Any],
) -> tuple[str, ...] | None:
    """What a further call may answer by the rules; None where there is none."""
    seen = {**facts(evidence), **asked["facts"]}
    rule = rule_for(family, str(asked["memory"]), cell.direction, release, seen)
    if rule is None:
        return None
    return (_ACCEPTED,) if rule.accept else rule.errnos


def _rule(
    cell: Cell, family: str, release: Release, evidence: Mapping[str, Any]
) -> tuple[Rule | None, str]:
    """The rule, and the memory class that it is for: a condition may make one of another."""
    answer = part(part(evidence, "condition"), "answer")
    memory = str(answer.get("like", cell.memory))
    rule = rule_for(family, memory, cell.direction, release, facts(evidence))
    if rule is None or "errnos" not in answer:
        return rule, memory
    if answer.get("accept") and evidence.get("errno") is None:
        return rule, memory
    errnos, because = as_told(family, tuple(answer["errnos"])), str(answer["because"])
    return rule._replace(accept=False, errnos=errnos, pinned=False, because=because), memory


def must_refuse(cell: Cell, family: str, release: Release, evidence: Mapping[str, Any]) -> bool:
    """Whether the call must not have accepted what it did, by the evidence that there is so far."""
    rule, _ = _rule(cell, family, release, evidence)
    return rule is not None and not rule.accept


def _unjudged(evidence: Mapping[str, Any]) -> str:
    pins = part(evidence, "pins")
    if not isinstance(pins.get("during"), Mapping) or not isinstance(pins.get("after"), Mapping):
        return "; pins not judged: this kernel has no nr_foll_pin counters"
    return ""


def _outdated(known: list[Known], evidence: Mapping[str, Any]) -> Known | None:
    """A defect that this cell had to show and did not."""
    refused = evidence.get("errno") is not None
    return next(
        (
            entry
            for entry in known
            if entry.always
            and entry.met(evidence)
            # What was rightly refused can't show what befalls pinned memory.
            and not (refused and _WHILE_PINNED.issuperset(entry.verdicts))
        ),
        None,
    )


def judge(
    cell: Cell, family: str, driver: str, release: Release, evidence: Mapping[str, Any]
) -> Judgement:
    """Judge one cell by its evidence; see the module for the order of precedence."""
    known = known_for(cell, driver, family, release)
    told = warnings(evidence.get("log") or [])

    def excuse(finding: Finding) -> Known | None:
        return next((k for k in known if k.excuses(finding.verdict, evidence, told)), None)

    ended = unfinished(evidence)
    rule, memory = _rule(cell, family, release, evidence)
    if ended is not None:
        return Judgement(*ended, excuse(ended), rule)

    found: list[Finding] = []
    said = _kernel_said(evidence)
    if said is not None:
        found.append(said)
    answer = _answer(evidence, rule) if rule is not None else None
    if answer is not None:
        found.append(answer)
    found += _counted(evidence, rule)
    found += _frames(evidence, rule)
    found += _condition(cell, family, release, evidence)
    if found:
        excuses = [excuse(finding) for finding in found]
        telling = [n for n, entry in enumerate(excuses) if entry is not None and not entry.once]
        first = excuses.index(None) if None in excuses else next(iter(telling), 0)
        others = ", ".join(dict.fromkeys(f.verdict for n, f in enumerate(found) if n != first))
        reason = found[first].reason + (f"; also {others}" if others else "")
        return Judgement(found[first].verdict, reason, excuses[first], rule)
    if rule is None:
        reason = why_none(family, memory, cell.direction, release)
        return Judgement(Verdict.NO_RULE, reason)
    call, errno = evidence.get("call") or "the call", evidence.get("errno")
    reason = f"{call} {'accepted it' if errno is None else f'gave {errno}'}, as it must"
    return Judgement(Verdict.OK, reason + _unjudged(evidence), _outdated(known, evidence), rule)
