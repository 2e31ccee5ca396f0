# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that the emulator fails while it boots gets one more try; any other does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hil.errors import NotCompletedError
from hil.lab import emulator
from hil.lab.virtual import VirtualBoard, _EmulatorError


def test_what_a_stale_breakpoint_looks_like() -> None:
    assert emulator.fault(["[    2.20] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI"])
    assert emulator.fault(["[    2.20] int3: 0000 [#1] SMP NOPTI"])
    assert not emulator.fault(["[    2.20] Oops: 0002 [#1] SMP", "[    2.21] int3: 0000 [#2] SMP"])
    assert not emulator.fault(["[    2.20] kprobes: int3 at 0000"])
    assert not emulator.fault([])


class Board(VirtualBoard):
    """Boots by a list: an error is raised, anything else is the guest."""

    def __init__(self, *boots: Any) -> None:
        self.boots, self.said = list(boots), []
        self._say = self.said.append

    def _boot_once(self, console: Path, folder: Path, *, last: bool = False) -> Any:
        assert folder.is_dir()
        assert last == (len(self.boots) == 1)
        boot = self.boots.pop(0)
        if isinstance(boot, Exception):
            folder.rmdir()
            raise boot
        return boot


def test_the_second_boot_counts(tmp_path: Path) -> None:
    board = Board(_EmulatorError("a stale breakpoint"), "guest")
    (tmp_path / "ram").mkdir()
    assert board._boot(tmp_path / "console.log", tmp_path / "ram") == "guest"
    assert board.said == ["the guest went down of a stale breakpoint while it booted: once more"]


def test_a_guest_that_fails_by_itself_is_not_booted_again(tmp_path: Path) -> None:
    board = Board(NotCompletedError("it panics"), "guest")
    (tmp_path / "ram").mkdir()
    with pytest.raises(NotCompletedError, match="it panics"):
        board._boot(tmp_path / "console.log", tmp_path / "ram")
    assert board.boots == ["guest"]
