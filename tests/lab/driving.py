# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs `hil` as a person would, and reads what it left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hil.lab.board import BOARDS

HIL = Path(sys.executable).with_name("hil")


class Hil:
    """A `hil` that has been started, alone in its process group, as a shell does it."""

    def __init__(self, *arguments: object, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [str(HIL), *map(str, arguments)],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.guests: set[int] = set()
        self.output = ""

    def wait(self) -> int:
        """Its exit status, when it has ended by itself."""
        self.output = self.process.communicate()[0]
        return self.process.returncode

    def until(self, there: Callable[[], object], seconds: float = 90) -> None:
        """Wait for something to be there while it runs; notes its guests."""
        deadline = time.monotonic() + seconds
        while not there():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, "it did not come that far"
            self._note_guests()
            time.sleep(0.01)
        self._note_guests()

    def _note_guests(self) -> None:
        # A child is its thread's, and each guest is driven by a thread of its own.
        children = ""
        for file in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):
                children += file.read_text()
        for child in children.split():
            with suppress(OSError):
                if "qemu-system" in Path(f"/proc/{child}/cmdline").read_text().partition("\0")[0]:
                    self.guests.add(int(child))

    def interrupt(self) -> int:
        """Ctrl-C: the signal goes to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, to hil alone."""
        self.process.kill()
        self.wait()

    def guests_gone(self, seconds: float = 5) -> bool:
        """Whether all guests that were seen have gone."""
        deadline = time.monotonic() + seconds
        while any(_runs(pid) for pid in self.guests) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not any(_runs(pid) for pid in self.guests)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Run:
    """A run folder."""

    def __init__(self, out: Path) -> None:
        self.path = (out / "latest").resolve()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def records(self) -> list[dict[str, Any]]:
        journal = self.path / "journal.jsonl"
        return [json.loads(line) for line in journal.read_text().splitlines()]

    @property
    def cells(self) -> list[str]:
        return [record["cell"] for record in self.records]

    @property
    def meta(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        return found


def lines(out: Path, count: int) -> Callable[[], bool]:
    """Whether the journal of the latest run has so many lines."""

    def there() -> bool:
        try:
            return (out / "latest/journal.jsonl").read_bytes().count(b"\n") >= count
        except OSError:
            return False

    return there


def copy_of_the_board(folder: Path, old: str = "", new: str = "", more: str = "") -> Path:
    """A board file like virtual-x86, but for some text."""
    text = (BOARDS / "virtual-x86.toml").read_text()
    assert old in text
    file = folder / "copy.toml"
    file.write_text(text.replace(old, new, 1) + more)
    return file


# The last one is steady again, in the guest after the worst.
CONDITIONS = [
    "exit", "segfault", "suite-dies", "spin", "stuck", "panic", "vanish", "freeze", "steady",
]  # fmt: skip


def misbehaving_board(folder: Path) -> Path:
    """A board file with all conditions that go wrong on purpose."""
    names = ", ".join(f'"{name}"' for name in CONDITIONS)
    return copy_of_the_board(folder, more=f"\n[suite]\nconditions = [{names}]\n")


def finished(*arguments: object, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status and output of a `hil` that ran to its end."""
    hil = Hil(*arguments, env=env)
    try:
        return hil.wait(), hil.output
    except BaseException:
        hil.interrupt()
        raise
