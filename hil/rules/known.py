# SPDX-License-Identifier: GPL-2.0-or-later
"""Known defects: which bad verdicts a kernel is known for, and where that is written.

An entry excuses exactly the verdicts that it names, in the cells, driver families and kernels that
it names and only where the evidence meets its conditions.  It never changes what a rule asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hil.cells import Cell
from hil.rules import toml
from hil.system.release import Release, Span
from hil.verdicts import Verdict

FILE = Path(__file__).with_name("known.toml")

_KEYS = ("id", "cells", "since", "verdict", "because", "source", "reference")
_OPTIONAL = ("family", "driver", "until", "when", "always", "once", "rearm")
_WHEN_KEYS = ("zone", "log", "said", "fact")


class Known(NamedTuple):
    """One known defect."""

    id: str
    cells: tuple[str, ...]
    """Patterns of cell ids, ``*`` stands for anything."""
    families: tuple[str, ...]
    drivers: tuple[str, ...]
    span: Span
    verdicts: tuple[Verdict, ...]
    zone: str
    """When set: before or during the pin some page lay in a zone of this name."""
    log: str
    """When set: each of the kernel's warnings has this text (for the verdict kernel-warning)."""
    said: str
    """When set: some line of the kernel's log during the cell, or of a dead machine's console."""
    fact: str
    """When set: this fact of the buffer is true."""
    once: bool
    """A warning that comes once a boot and leaves the machine as it was: the next cell may run."""
    rearm: bool
    """The same, but every cell that meets the defect is to show it: the warning is armed again."""
    always: bool
    """Each cell that meets the conditions shows it: one that is ok means that it is gone."""
    because: str
    source: str
    reference: str

    def concerns(self, cell: Cell, driver: str, family: str, release: Release) -> bool:
        return (
            self.span.holds(release)
            and any(toml.matches(pattern, family) for pattern in self.families)
            and any(toml.matches(pattern, driver) for pattern in self.drivers)
            and any(toml.matches(pattern, cell.id) for pattern in self.cells)
        )

    def met(self, evidence: Mapping[str, Any]) -> bool:
        """Does the evidence meet the conditions that do not hang on the verdict?"""
        lines = [*(evidence.get("log") or ()), *(evidence.get("console") or ())]
        if self.said and not any(self.said in str(line) for line in lines):
            return False
        facts = (evidence.get("buffer") or {}).get("facts") or {}
        if self.fact and not facts.get(self.fact):
            return False
        return not self.zone or self.zone in zone_names(evidence)

    def excuses(self, verdict: Verdict, evidence: Mapping[str, Any], warnings: list[str]) -> bool:
        if verdict not in self.verdicts or not self.met(evidence):
            return False
        if verdict is Verdict.KERNEL_WARNING and self.log:
            return bool(warnings) and all(self.log in line for line in warnings)
        return True


def zone_names(evidence: Mapping[str, Any]) -> set[str]:
    """The names of all zones that the buffer's pages were seen in: {"Normal", "Movable"}."""
    names: set[str] = set()
    for moment in ("before", "during"):
        zones = ((evidence.get("frames") or {}).get(moment) or {}).get("zones") or {}
        names.update(str(label).rpartition("/")[2] for label in zones)
    return names


def _known(path: Path, number: int, row: Any) -> Known:
    where = f"entry {row['id']!r}" if isinstance(row.get("id"), str) else f"entry {number}"
    toml.check_keys(path, where, row, _KEYS, _OPTIONAL)
    verdicts: list[Verdict] = []
    for name in toml.strings(path, where, row, "verdict"):
        try:
            verdicts.append(Verdict(name))
        except ValueError:
            raise toml.fail(path, where, f"{name!r} in 'verdict' is no verdict") from None
    excusable = [verdict for verdict in verdicts if verdict.bad]
    never = (Verdict.NO_RULE, Verdict.HARNESS_ERROR)
    if not verdicts or excusable != verdicts or any(verdict in never for verdict in verdicts):
        raise toml.fail(path, where, "'verdict' must name verdicts that say something bad")
    when = row.get("when", {})
    if not isinstance(when, dict):
        raise toml.fail(path, where, f"'when' is {when!r}, expected a table")
    toml.check_keys(path, where, when, (), _WHEN_KEYS)
    return Known(
        toml.text(path, where, row, "id"),
        toml.strings(path, where, row, "cells"),
        toml.strings(path, where, row, "family") or ("*",),
        toml.strings(path, where, row, "driver") or ("*",),
        toml.span(path, where, row),
        tuple(verdicts),
        toml.text(path, where, when, "zone"),
        toml.text(path, where, when, "log"),
        toml.text(path, where, when, "said"),
        toml.text(path, where, when, "fact"),
        bool(row.get("once", False)),
        bool(row.get("rearm", False)),
        bool(row.get("always", False)),
        toml.text(path, where, row, "because"),
        toml.text(path, where, row, "source"),
        toml.text(path, where, row, "reference"),
    )


def read(path: Path) -> tuple[Known, ...]:
    """Read and check a file of known defects; HilError names the entry and key at fault."""
    content = toml.load(path)
    toml.check_keys(path, "top", content, ("known",))
    entries = tuple(_known(path, number, row) for number, row in enumerate(content["known"], 1))
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise toml.fail(path, f"entry {entry.id!r}", "this id is there twice")
        if not entry.reference:
            raise toml.fail(path, f"entry {entry.id!r}", "'reference' is empty: who else saw it?")
        seen.add(entry.id)
    return entries


_entries: tuple[Known, ...] | None = None
_by_kernel: dict[Release, list[Known]] = {}


def all_known() -> tuple[Known, ...]:
    """The project's own entries, read once."""
    global _entries  # noqa: PLW0603
    if _entries is None:
        _entries = read(FILE)
    return _entries


def known_for(cell: Cell, driver: str, family: str, release: Release) -> list[Known]:
    """The defects that this cell may show on this kernel, in the order of the file."""
    if release not in _by_kernel:
        _by_kernel[release] = [entry for entry in all_known() if entry.span.holds(release)]
    return [e for e in _by_kernel[release] if e.concerns(cell, driver, family, release)]
