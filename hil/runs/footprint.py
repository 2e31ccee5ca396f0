# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a process is what it was before a cell, so that the next cell may run in it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NamedTuple

from hil.evidence import frames
from hil.memory import base
from hil.uapi import access, mm


class Footprint(NamedTuple):
    """What a cell can leave behind in its process, as far as a few system calls tell.

    Limits, capabilities and policies are not among them: classes and conditions that change those
    say so (`MemoryClass.alone`, `Condition.alone`).
    """

    free: int
    """The lowest descriptor that is free: one that was left open takes it."""
    threads: int
    children: bool
    pages: int
    """Size of the address space in pages (proc(5) statm); Python's own heap grows, too."""

    @classmethod
    def now(cls) -> Footprint:
        """This process's."""
        free = os.dup(0)
        os.close(free)
        children = True
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            children = False
        size = int(Path("/proc/self/statm").read_text().split()[0])
        return cls(free, threading.active_count(), children, size)


class Process:
    """A process that is to run cells, and what it was like before the first."""

    def __init__(self) -> None:
        # What is opened once for a process is no cell's.
        page = mm.mmap(mm.PAGE)
        access.poke(page, access.peek(page, 1))
        frames.entries(page, mm.PAGE)
        mm.munmap(page, mm.PAGE)
        base.unmap_all()  # its parent's
        self._before = Footprint.now()
        self._mapped = _mapped()

    def as_it_was(self) -> bool:
        """Take away what is left of buffers, and see whether anything else is there."""
        base.unmap_all()
        now = Footprint.now()
        if now[:-1] != self._before[:-1]:
            return False
        if now.pages != self._before.pages:
            # Its heap may have grown, no file or device may be mapped that was not.
            if _mapped() != self._mapped:
                return False
            self._before = now
        return True


def _mapped() -> list[str]:
    """Each mapping but those that come with running: private anonymous memory, heap, libraries."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    named = [(line, Path(line.split(maxsplit=5)[5]).name) for line in lines if line.count(" ") > 5]
    return [line for line, name in named if name != "[heap]" and ".so" not in name]
