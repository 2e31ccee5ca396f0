# SPDX-License-Identifier: GPL-2.0-or-later
"""Sees whether other guests run on this machine, which would spoil a measurement."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")

_EVERY = 0.25
_AGAIN = 5
_QUIET = 4.0
"""Seconds without another guest until nobody is taken to be at work."""


def _parents() -> dict[int, tuple[str, int]]:
    """Name and parent of every process (proc(5): the name is in parentheses)."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = file.read_text().rpartition(")")
        except OSError:  # it has ended
            continue
        pid, _, name = before.partition(" (")
        found[int(pid)] = (name, int(after.split()[1]))
    return found


def others() -> list[int]:
    """The QEMU processes that do not descend from this one."""
    parents = _parents()
    found = []
    for pid, (name, _) in parents.items():
        if not name.startswith("qemu-system"):
            continue
        above = pid
        while above > 1 and above != os.getpid():
            above = parents.get(above, ("", 0))[1]
        if above != os.getpid():
            found.append(pid)
    return found


class Neighbours(threading.Thread):
    """Counts how often other guests were seen."""

    def __init__(self, patience: float, say: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.patience = patience
        """Seconds, all in all, that may go into waiting and repeating."""
        self.spoilt = 0
        """Measurements that were kept although another guest ran."""
        self._say = say
        self._seen = 0
        self._last = 0.0

    def run(self) -> None:
        while True:
            if others():
                self._seen += 1
                self._last = time.monotonic()
            time.sleep(_EVERY)

    def undisturbed(self, work: Callable[[], Value]) -> Value:
        """Do the work while no other guest runs; again when one came meanwhile."""
        for _ in range(_AGAIN):
            self._wait()
            before, began = self._seen, time.monotonic()
            value = work()
            if self._seen == before:
                return value
            if self.patience <= 0:
                break
            self._say("another guest ran meanwhile: once more")
            self.patience -= time.monotonic() - began
        self.spoilt += 1
        return value

    def _wait(self) -> None:
        began = time.monotonic()
        while (now := time.monotonic()) - self._last < _QUIET and now - began < self.patience:
            time.sleep(_EVERY)
        self.patience -= time.monotonic() - began
