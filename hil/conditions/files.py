# SPDX-License-Identifier: GPL-2.0-or-later
"""The file behind the pinned pages is cut, punched or sealed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried
from hil.conditions.mapping import whole
from hil.errors import NotApplicableError
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene

_FILES = ("memfd", "tmpfs", "hugetlb-2m-memfd", "ext4-private-untouched", "ext4-shared")
_KEEPS = (
    "the device keeps the old pages: what it writes is not seen any more, what it reads is what "
    "was there before"
)


def _file(scene: Scene) -> tuple[int, int]:
    """Descriptor and size of the mapped file."""
    fd = scene.buffer.fd
    if fd < 0:
        raise NotApplicableError("no file is mapped")
    return fd, os.fstat(fd).st_size


class Truncate(Condition):
    name = "truncate"
    alone = False
    summary = "the file is cut to nothing and made as long as before again"
    holds = f"{_KEEPS}; private copies go too"
    why = "mm/truncate.c truncate_pagecache, unmap_mapping_range with even_cows"
    classes = _FILES
    may_lose = True

    def during(self, scene: Scene) -> None:
        fd, size = _file(scene)
        os.ftruncate(fd, 0)
        os.ftruncate(fd, size)
        scene.lost()


class PunchHole(Condition):
    name = "punch-hole"
    alone = False
    summary = "a hole is punched where the pinned pages are in the file"
    holds = f"{_KEEPS}; private copies stay"
    why = "mm/shmem.c shmem_fallocate, fs/ext4 ext4_punch_hole: unmap without even_cows"
    classes = _FILES
    may_lose = True

    def during(self, scene: Scene) -> None:
        fd, size = _file(scene)
        shared = scene.shared
        mode = mm.FALLOC_FL_PUNCH_HOLE | mm.FALLOC_FL_KEEP_SIZE
        gave = tried(mm.fallocate, fd, mode, 0, size)
        scene.facts["fallocate"] = gave
        if gave == "0" and shared:
            scene.lost()


class SealWrite(Condition):
    name = "seal-write"
    alone = False
    summary = "the memfd is unmapped and F_SEAL_WRITE is asked for, while pinned and afterwards"
    holds = "EBUSY while the device may still write; granted when it has let go"
    why = "mm/memfd.c memfd_wait_for_pins"
    classes = ("memfd",)
    may_lose = True

    def during(self, scene: Scene) -> None:
        fd, _ = _file(scene)
        mm.munmap(*whole(scene))
        scene.lost()
        scene.check("F_SEAL_WRITE while pinned", tried(mm.add_seals, fd, mm.F_SEAL_WRITE), "EBUSY")

    def after(self, scene: Scene) -> None:
        gave = tried(mm.add_seals, scene.buffer.fd, mm.F_SEAL_WRITE)
        scene.check("F_SEAL_WRITE afterwards", gave, "0", verdict="leak")


FILES: tuple[type[Condition], ...] = (Truncate, PunchHole, SealWrite)
