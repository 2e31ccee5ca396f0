# SPDX-License-Identifier: GPL-2.0-or-later
"""What a seeded fault is: one TOML file each, in tests/faults.

A fault names lines of the distribution's source and what they become, and which verdicts name the
mistake.  No source is in this project but the lines that are edited.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hil import tables
from hil.errors import HilError
from hil.lab.board import ROOT
from hil.lab.expression import Expression
from hil.verdicts import Verdict

FOLDER = ROOT / "tests" / "faults"
UNCHANGED = "unchanged"
"""The name of the control: the same modules, built the same way, with nothing edited."""


@dataclass(frozen=True)
class Edit:
    """A place in one file; the first of ``old`` that is there exactly once becomes ``new``."""

    old: tuple[str, ...]
    """More than one where kernels differ."""
    new: str
    """``{0}`` in it is the text that was found."""
    file: str = ""
    """Of the kernel's source; the fault's own ``file`` where it is empty."""
    always: bool = False
    """It mends what would keep the driver from being tested at all: the control has it too."""


@dataclass(frozen=True)
class Fault:
    """One mistake in one driver."""

    summary: str
    because: str
    """What it breaks for the users of a kernel that has it."""
    module: str
    """What is built, as /proc/modules spells it."""
    file: str
    edit: tuple[Edit, ...]
    cells: str
    """Cells in which it may show, as `hil run -k` has it."""
    verdicts: tuple[str, ...]
    """Those that name this mistake; one of them must come."""
    like: str = ""
    """A real commit that made or mended such a mistake."""
    board: str = "virtual-x86"
    marks: str = "hw and not slow"
    sources: tuple[str, ...] = ()
    """Folders and files of the kernel's source to build from; the file's own folder if empty."""
    name: str = field(default="", compare=False)

    @property
    def paths(self) -> tuple[str, ...]:
        """What to take out of the kernel's source."""
        return self.sources or (self.file.rpartition("/")[0],)


def load(path: Path) -> Fault:
    """One file; HilError for what is wrong with it."""
    found = tables.build(Fault, {**tables.load(path), "name": path.stem}, str(path))
    for verdict in found.verdicts:
        try:
            bad = Verdict(verdict).bad
        except ValueError:
            raise tables.unknown_key(verdict, list(Verdict), f"{path}: verdicts") from None
        if not bad or verdict == Verdict.HARNESS_ERROR:
            raise HilError(f"{path}: {verdict!r} tells of no mistake", "Expected a bad verdict.")
    if not found.verdicts or not found.edit or any(not edit.old for edit in found.edit):
        raise HilError(f"{path}: a fault needs [[edit]] with 'old', and 'verdicts'")
    for text in (found.cells, found.marks):
        try:
            Expression(text)
        except ValueError as error:
            raise HilError(
                f"{path}: {text!r}: {error}", "Expected words as for `hil run -k`."
            ) from error
    return found


def everything() -> list[Fault]:
    """All faults, by name."""
    return [load(path) for path in sorted(FOLDER.glob("*.toml"))]


def chosen(names: Sequence[str], boards: Sequence[str] = ()) -> list[Fault]:
    """Faults by name or shell pattern, of these boards; HilError for a name that fits none."""
    faults = everything()
    for name in names:
        if not any(fnmatch.fnmatchcase(fault.name, name) for fault in faults):
            raise tables.unknown_key(name, [fault.name for fault in faults], "hil faults")
    for board in boards:
        if all(fault.board != board for fault in faults):
            there = ", ".join(sorted({fault.board for fault in faults}))
            raise HilError(f"no fault is for the board {board!r}", f"There are some for: {there}.")
    return [
        fault for fault in faults
        if (not names or any(fnmatch.fnmatchcase(fault.name, name) for name in names))
        and (not boards or fault.board in boards)
    ]  # fmt: skip


def apply(fault: Fault, files: dict[str, str], *, control: bool = False) -> dict[str, str]:
    """The files (path: text) that the fault changes, edited; HilError where it does not fit.

    A ``control`` gets no more than what is done always.
    """
    changed: dict[str, str] = {}
    for edit in fault.edit:
        path = edit.file or fault.file
        text = changed.get(path, files.get(path))
        if text is None:
            raise HilError(f"{fault.name}: this kernel's source has no {path}")
        old = next((old for old in edit.old if text.count(old) == 1), None)
        if old is None:
            counts = ", ".join(f"{old!r} {text.count(old)} times" for old in edit.old)
            raise HilError(
                f"{fault.name}: {path} of this kernel has {counts}, expected one of them once",
                f"The source has changed: amend {fault.name}.toml, or take another kernel.",
            )
        if edit.always or not control:
            changed[path] = text.replace(old, edit.new.replace("{0}", old))
    return changed
