# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that the emulator or KVM fails while it boots gets one more try; any other does not."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.errors import NotCompletedError
from hil.lab import cache, emulator, kvm, ram
from hil.lab.hardware import Boot
from hil.lab.virtual import VirtualBoard, _EmulatorError, _KvmError


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


class Accelerated(Board):
    """Its snapshot goes by the accelerator."""

    def __init__(self, *boots: Any) -> None:
        super().__init__(*boots)
        self.cold, self.emulated, self.acceleration = True, False, "KVM"
        self.boot = Boot(Path(), Path(), Path(), "", "kvm", None)  # type: ignore[arg-type]
        self._lock = threading.RLock()

    def _key(self) -> str:
        return self.boot.accelerator

    def _boot_once(self, console: Path, folder: Path, *, last: bool = False) -> Any:
        return super()._boot_once(console, folder, last=len(self.boots) == 1)

    def _prepare(self, vm: Any) -> None:
        pass


def test_where_kvm_fails_a_kernel_it_is_emulated_and_that_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered: list[str] = []
    monkeypatch.setattr(kvm, "distrust", lambda why: remembered.append(why) or why)
    monkeypatch.setattr(ram, "folder", lambda: Path(tempfile.mkdtemp(dir=tmp_path)))
    board = Accelerated(_KvmError("internal error"), SimpleNamespace(vm=None))
    assert board._started(tmp_path / "console.log").vm is None
    assert (board.key, board.emulated) == ("tcg,thread=multi", True)
    assert board.acceleration == "TCG, as KVM does not serve: internal error"
    assert remembered == ["internal error"]
    assert board.said == ["internal error: once more, emulated"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 host")
def test_what_a_kernel_found_of_kvm_outweighs_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "root", lambda: tmp_path)
    monkeypatch.setattr(kvm, "find", lambda _: Path(sys.executable))
    monkeypatch.setattr(kvm, "_DEVICE", Path(os.devnull))
    monkeypatch.setattr(kvm, "probe", lambda *_: (True, "it answered"))
    assert kvm.kvm_works() == (True, "it answered")
    kvm.distrust("a kernel does not run")
    assert kvm.kvm_works() == (False, "a kernel does not run")
