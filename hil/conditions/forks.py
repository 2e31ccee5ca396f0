# SPDX-License-Identifier: GPL-2.0-or-later
"""The process forks while the device has its memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, write_all
from hil.memory.base import pattern

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.memory.base import Buffer

_WHY = (
    "mm/memory.c copy_present_page: a pinned page is copied for the child at once (70e806e4e645, "
    "5.9; GUP-fast 57efa1fe5957, 5.11 and 5.10.4); hugetlb since 4eae4efa2c29 (5.12)"
)
_HOLDS = (
    "parent and device go on with the same pages; the child of private memory sees the bytes of "
    "the time of the fork"
)


class Twin:
    """A forked child that reads and writes its copy of the buffer when it is told."""

    def __init__(self, scene: Scene, size: int, *, keeps_node: bool = False) -> None:
        self.size = size
        ask_read, self._ask = os.pipe2(os.O_CLOEXEC)
        self._told, tell_write = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if not keeps_node:
                    scene.session.abandon()
                os.close(self._ask)
                _serve(scene.buffer, size, ask_read, tell_write)
            finally:
                os._exit(0)
        os.close(ask_read)
        os.close(tell_write)

    def read(self) -> bytes:
        """What the child sees; short where it could not look."""
        os.write(self._ask, b"r")
        data = b""
        while len(data) < self.size:
            part = os.read(self._told, self.size - len(data))
            if not part:
                break
            data += part
        return data

    def write(self) -> None:
        os.write(self._ask, b"w")
        os.read(self._told, 1)

    def end(self) -> None:
        os.close(self._ask)
        os.waitpid(self.pid, 0)
        os.close(self._told)


def _serve(buffer: Buffer, size: int, ask: int, tell: int) -> None:
    while word := os.read(ask, 1):
        if word == b"w":
            buffer.write(pattern(size, start=199))
            os.write(tell, b".")
            continue
        write_all(tell, buffer.read(size))


def _size(scene: Scene) -> int:
    return min(scene.buffer.length, scene.session.length)


class _Fork(Condition):
    holds, why = _HOLDS, _WHY

    def during(self, scene: Scene) -> None:
        self.old = scene.buffer.read(_size(scene))
        self.shared = scene.shared
        self.twin = Twin(scene, len(self.old))
        self.change(scene)

    def change(self, scene: Scene) -> None:
        raise NotImplementedError

    def verify(self, scene: Scene) -> None:
        sees = self.twin.read()
        wanted = scene.buffer.read(len(self.old)) if self.shared else self.wanted()
        wrong = abs(len(sees) - len(wanted))
        if sees != wanted:
            wrong += sum(1 for a, b in zip(sees, wanted, strict=False) if a != b)
        whose = "the parent's" if self.shared else "its own"
        scene.check(f"bytes of the child that are not {whose}", wrong, 0, verdict="corrupt")
        self.twin.end()

    def wanted(self) -> bytes:
        return self.old


class ForkChildWrites(_Fork):
    name = "fork-child-writes"
    summary = "fork; the child writes its copy of the buffer"

    def change(self, scene: Scene) -> None:
        self.twin.write()
        if not self.shared:
            now = scene.buffer.read(len(self.old))
            changed = sum(1 for a, b in zip(self.old, now, strict=True) if a != b)
            scene.check("bytes of the parent that the child changed", changed, 0, verdict="corrupt")

    def wanted(self) -> bytes:
        return pattern(self.twin.size, start=199)


class ForkParentWrites(_Fork):
    name = "fork-parent-writes"
    summary = "fork; the parent writes the buffer"

    def change(self, scene: Scene) -> None:
        scene.buffer.write(pattern(len(self.old), start=57))


class ForkChildOutlives(Condition):
    name = "fork-child-outlives"
    summary = "fork; the child keeps the node open when the parent has closed it"
    holds = "the buffers live as long as the node is open: pinned until the child closes it too"
    why = f"drivers/media/common/videobuf2 vb2_fop_release; fs/file_table.c fput; {_WHY}"

    def end(self, scene: Scene) -> None:
        twin = Twin(scene, 1, keeps_node=True)
        held = scene.pinned_pages + scene.session.extra_pages
        scene.session.abandon()
        scene.check_held("when the parent has closed the node and the child has not", held)
        twin.end()


FORKS: tuple[type[Condition], ...] = (ForkChildWrites, ForkParentWrites, ForkChildOutlives)
