# SPDX-License-Identifier: GPL-2.0-or-later
"""KCIDB's report data, schema v5.3: a checkout, a build, a test a cell, an issue a known defect.

Statuses, in KCIDB's own words of them:

* FAIL, "reported the tested code as faulty": every bad verdict.  A known defect too: the kernel has
  it; an issue says what it is and where that is written, an incident ties the test to it.
* PASS: ok.  Where a known defect did not show itself, the incident says ``present: false``.
* SKIP: not applicable.
* MISS, "the test didn't run": the suite or the machine was not ready before the call under test
  was made, or the run was stopped in the cell.
* ERROR, "the status of the tested code is unknown": it broke later, or no rule says what must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from hil.errors import HilError
from hil.report.essence import essentials, kernel_said
from hil.report.grid import whole
from hil.report.text import clean
from hil.runs.outcome import Outcome, outcome_of
from hil.runs.stream import Cells
from hil.verdicts import Verdict

ORIGIN = "userptr_hil"
EXCERPT = 16384
"""Letters that a log_excerpt may have."""

Record = Mapping[str, Any]
_ORIGIN = re.compile(r"[a-z0-9_]+")
_BEFORE_THE_CALL = (None, "open", "make", "before", "machine")
# Not among them: no-rule, and a verdict that this version does not know.
_FAILS = frozenset(v for v in Verdict if v.bad) - {Verdict.NO_RULE, Verdict.HARNESS_ERROR}
_MACHINES = {"aarch64": "arm64", "armv7l": "arm", "amd64": "x86_64", "armhf": "arm"}
_json = json.JSONEncoder(separators=(",", ":")).encode
# What may have to be cleaned: looking at the whole is quicker than looking at each part.
_UNFIT = re.compile(r"null|\\u00[01789]|\\ud")


def lines(
    cells: Cells, meta: Mapping[str, Any], in_flight: str | None = None, origin: str = ORIGIN
) -> Iterator[str]:
    """The document, a line a test.

    ``in_flight`` is the cell that a run was stopped in.  HilError for an origin that KCIDB refuses.
    """
    if not _ORIGIN.fullmatch(origin):
        raise HilError(
            f"{origin!r} cannot be an origin of KCIDB", "Use a-z, 0-9 and '_': --origin my_lab"
        )
    run = _Run(meta, origin)
    yield '{"version":{"major":5,"minor":3},\n'
    yield f'"checkouts":[{_encode(run.checkout())}],\n"builds":[{_encode(run.build())}],\n'
    yield '"tests":['
    comma = ""
    for record in cells:
        yield f"{comma}\n{_encode(run.test(whole(record)))}"
        comma = ","
    if in_flight is not None and in_flight not in cells.ids:
        yield f"{comma}\n{_encode(run.missed(in_flight))}"
    yield "\n]"
    for name, objects in (("issues", run.issues.values()), ("incidents", run.incidents)):
        if objects:
            yield f',\n"{name}":[\n' + ",\n".join(map(_encode, objects)) + "\n]"
    yield "}\n"


class _Run:
    """One run's objects; collects issues and incidents while its tests are made."""

    def __init__(self, meta: Mapping[str, Any], origin: str) -> None:
        self.meta, self.origin = meta, origin
        self.name = clean(meta.get("run") or "run")
        self.issues: dict[str, dict[str, Any]] = {}
        self.incidents: list[dict[str, Any]] = []
        kernel = clean(meta.get("kernel") or "unknown")
        package = (meta.get("versions") or {}).get("kernel")
        self._kernel, self._package = kernel, clean(package or "")
        machine = str(meta.get("machine") or "")
        self._machine = re.sub(r"[^a-z0-9_]", "_", _MACHINES.get(machine, machine).lower())
        self._checkout_id = self._id(self._package or kernel)
        # A kernel with a module of one's own in place of a stock one is another build each time.
        own = meta.get("own_modules") or meta.get("built_drivers")
        parts = [self._package or kernel, self._machine or "unknown", *([self.name] if own else [])]
        self._build_id = self._id(":".join(parts))
        self._environment = _without_empty(
            {
                "comment": clean(meta.get("board") or ""),
                "misc": {key: meta[key] for key in ("acceleration", "versions") if meta.get(key)},
            }
        )
        started = "".join(letter for letter in str(meta.get("started"))[:10] if letter.isdigit())
        # An issue told anew must have a higher number than before, or it is not taken.
        self._issue_version = int(started) if started else 1

    def _id(self, text: str) -> str:
        return f"{self.origin}:{text}"

    def _test_id(self, cell: str) -> str:
        return self._id(f"{self.name}:{clean(cell)}")

    def checkout(self) -> dict[str, Any]:
        """What was checked out is not known: only the release that came of it."""
        package = f", the distribution's package {self._package}" if self._package else ""
        return {
            "id": self._checkout_id,
            "origin": self.origin,
            "comment": f"Linux {self._kernel}{package}; its commit is not known here",
            "valid": True,
            "misc": {"kernel_spec": self.meta.get("kernel_spec") or ""},
        }

    def build(self) -> dict[str, Any]:
        misc = {
            key: self.meta[key]
            for key in ("config", "own_modules", "built_drivers", "corrected_modules", "uname")
            if self.meta.get(key)
        }
        told = {
            "id": self._build_id,
            "checkout_id": self._checkout_id,
            "origin": self.origin,
            "comment": clean(self.meta.get("uname") or self._kernel),
            "architecture": self._machine,
            "status": "PASS",
            "misc": misc,
        }
        return _without_empty(told)

    def test(self, record: Record) -> dict[str, Any]:
        cell = str(record["cell"])
        outcome = outcome_of(record)
        verdict = clean(record.get("verdict"))
        reason = clean(record.get("reason") or verdict)
        told: dict[str, Any] = {
            "id": self._test_id(cell),
            "build_id": self._build_id,
            "origin": self.origin,
            "path": path_of(cell),
            "environment": self._environment,
            "comment": f"{clean(cell)}: {verdict}: {reason}",
            "status": status_of(record),
            "misc": _misc(record, verdict, reason, outcome),
        }
        if isinstance(record.get("seconds"), (int, float)):
            told["duration"] = record["seconds"]
        if outcome not in (Outcome.PASS, Outcome.SKIP):
            told["log_excerpt"] = excerpt([reason, *essentials(record), *kernel_said(record)])
        if known := record.get("known"):
            self._tie(cell, known, present=outcome is not Outcome.UNEXPECTED_PASS)
        return told

    def missed(self, cell: str) -> dict[str, Any]:
        """The cell in which the run was stopped."""
        return {
            "id": self._test_id(cell),
            "build_id": self._build_id,
            "origin": self.origin,
            "path": path_of(cell),
            "environment": self._environment,
            "comment": f"{clean(cell)}: the run was stopped in it",
            "status": "MISS",
        }

    def _tie(self, cell: str, known: Mapping[str, Any], *, present: bool) -> None:
        name = clean(known.get("id") or "unnamed")
        reference = clean(known.get("reference") or "")
        if name not in self.issues:
            issue: dict[str, Any] = {
                "id": self._id(name),
                "version": self._issue_version,
                "origin": self.origin,
                "culprit": {"code": True, "tool": False, "harness": False},
                "comment": clean(known.get("because") or name),
                "misc": {"known": name, "reference": reference},
            }
            if url := re.search(r"https?://[^\s<>\"{}|\\^`\[\]]+", reference):
                issue["report_url"] = url[0]
            self.issues[name] = issue
        self.incidents.append(
            {
                "id": self._id(f"{self.name}:{clean(cell)}:{name}"),
                "origin": self.origin,
                "issue_id": self._id(name),
                "issue_version": self._issue_version,
                "test_id": self._test_id(cell),
                "present": present,
            }
        )


def status_of(record: Record) -> str:
    """KCIDB's status of a cell; see the module."""
    verdict = record.get("verdict")
    if verdict == Verdict.OK:
        return "PASS"
    if verdict == Verdict.NOT_APPLICABLE:
        return "SKIP"
    if verdict == Verdict.HARNESS_ERROR:
        stage = (record.get("evidence") or {}).get("stage")
        return "MISS" if stage in _BEFORE_THE_CALL else "ERROR"
    return "FAIL" if verdict in _FAILS else "ERROR"


def path_of(cell: str) -> str:
    """The cell's id as a path of KCIDB: "userptr_hil.PINNER.MEMORY.DIRECTION.CONDITION"."""
    return ".".join(["userptr_hil", *map(_part, cell.split("/"))])


@lru_cache(4096)
def _part(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name) or "_"


def excerpt(told: list[str]) -> str:
    """Lines of a log, cut in the middle where they are more than KCIDB takes."""
    text = "\n".join(told) + "\n"
    if len(text) <= EXCERPT:
        return text
    cut = "\n[... {} letters are left out ...]\n"
    half = (EXCERPT - len(cut) - len(str(len(text)))) // 2
    return text[:half] + cut.format(len(text) - 2 * half) + text[-half:]


def _misc(record: Record, verdict: str, reason: str, outcome: Outcome) -> dict[str, Any]:
    evidence = record.get("evidence") or {}
    found: dict[str, Any] = {"verdict": verdict, "reason": reason, "outcome": str(outcome)}
    names = ["driver", "memory", "direction", "condition", "kernel", "expected", "rule"]
    of_evidence = ["call", "errno", "stage"]
    if outcome not in (Outcome.PASS, Outcome.SKIP):
        names += ["source", "known"]
        of_evidence += ["pins", "moved_pages", "unsuitable_pages", "data", "taint"]
    found |= {name: record[name] for name in names if record.get(name)}
    if told := record.get("attribution"):
        found["attribution"] = {key: told.get(key) for key in ("to", "why", "verdict")}
    found["evidence"] = {name: evidence[name] for name in of_evidence if evidence.get(name)}
    return found


def _without_empty(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value not in ("", None, {}, [])}


def _cleaned(value: Any) -> Any:
    """The same without null and without letters that no reader takes."""
    if isinstance(value, Mapping):
        return {clean(k): _cleaned(part) for k, part in value.items() if part is not None}
    if isinstance(value, (list, tuple)):
        return [_cleaned(part) for part in value if part is not None]
    return value if isinstance(value, (bool, int, float)) else clean(value)


def _encode(value: Mapping[str, Any]) -> str:
    """JSON as KCIDB takes it: no null, no NUL, no half of a surrogate pair."""
    text = _json(value)
    return _json(_cleaned(value)) if _UNFIT.search(text) else text
