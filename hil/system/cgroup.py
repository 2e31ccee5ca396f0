# SPDX-License-Identifier: GPL-2.0-or-later
"""A control group made for one cell, so that memory pressure stays inside of it.

Documentation/admin-guide/cgroup-v2.rst.  The guard removes the group and takes the memory
controller away again where it was not enabled for children of the root before.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError

if TYPE_CHECKING:
    from hil.system.guard import Guard

ROOT = Path("/sys/fs/cgroup")


class Group:
    """A group below the root, without members yet."""

    def __init__(self, guard: Guard | None, name: str) -> None:
        """NotApplicableError where there is no cgroup v2 with the memory controller."""
        try:
            there = (ROOT / "cgroup.controllers").read_text().split()
            enabled = (ROOT / "cgroup.subtree_control").read_text().split()
        except OSError:
            raise NotApplicableError(f"no cgroup v2 at {ROOT}") from None
        if "memory" not in there:
            raise NotApplicableError(f"{ROOT} has no memory controller (needs CONFIG_MEMCG)")
        if guard is None:
            raise NotApplicableError("no guard to remove the control group again")
        if "memory" not in enabled:
            guard.will_write(ROOT / "cgroup.subtree_control", "-memory")
            (ROOT / "cgroup.subtree_control").write_text("+memory")
        self.path = ROOT / name
        guard.will_rmdir(self.path)
        with contextlib.suppress(FileExistsError):  # of a cell before: empty, its limits are set
            self.path.mkdir()

    def enter(self) -> None:
        """This process, and those that it forks from now on."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def limit(self, name: str, value: int | str) -> None:
        (self.path / name).write_text(str(value))

    def current(self) -> int:
        """Bytes charged to the group."""
        return int((self.path / "memory.current").read_text())

    def events(self) -> dict[str, int]:
        """memory.events: low, high, max, oom, oom_kill."""
        lines = (self.path / "memory.events").read_text().splitlines()
        return {name: int(count) for name, count in (line.split() for line in lines)}
