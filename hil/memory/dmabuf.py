# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of DMA-BUF exporters: udmabuf, and a DRM device's dumb buffer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof, shmem
from hil.memory.base import PAGE, Buffer, buffer_of, fill, memory_class, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


@memory_class("udmabuf", "a DMA-BUF made of a memfd by /dev/udmabuf, mapped")
def udmabuf(bench: Bench, length: int, direction: Direction) -> Buffer:
    from hil.uapi import udmabuf as uapi

    try:
        device = os.open("/dev/udmabuf", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise NotApplicableError(
            f"/dev/udmabuf: {error.strerror}: needs CONFIG_UDMABUF (Debian: from 6.12 on) and "
            "modprobe udmabuf"
        ) from error
    length = round_up(length, PAGE)
    memfd = shmem.memfd(length, mm.F_SEAL_SHRINK)
    try:
        fd = uapi.create(device, memfd, length)
    finally:
        os.close(memfd)
        os.close(device)
    buffer = buffer_of(mm.mmap(length, flags=mm.MAP_SHARED, fd=fd), length)
    buffer.at_close(os.close, fd)
    fill(buffer.address, length)
    _describe(buffer, "dmabuf")
    return buffer


@memory_class("drm-dumb-buffer", "a dumb buffer of a DRM device, mapped")
def drm_dumb_buffer(bench: Bench, length: int, direction: Direction) -> Buffer:
    from hil.uapi import drm

    tried: list[str] = []
    for card in bench.drm:
        try:
            fd = os.open(card, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            tried.append(f"{card}: {error.strerror}")
            continue
        try:
            offset, size = drm.create_dumb(fd, round_up(length, PAGE))
            address = mm.mmap(size, flags=mm.MAP_SHARED, fd=fd, offset=offset)
        except OSError as error:  # a render-only device, say
            os.close(fd)
            tried.append(f"{card}: {error.strerror}")
            continue
        buffer = buffer_of(address, size)
        buffer.at_close(os.close, fd)
        fill(address, size)
        _describe(buffer, card.name)
        # Which helper the driver uses decides what its mappings are.
        buffer.facts["driver"] = drm.driver(fd)
        return buffer
    raise NotApplicableError(
        "no DRM device gives a dumb buffer (modprobe vgem or vkms): "
        + ("; ".join(tried) or "there is no /dev/dri/card*")
    )


def _describe(buffer: Buffer, name: str) -> None:
    fields = proof.smaps(buffer.address)
    found = str(fields.get("Name", ""))
    proof.must(name in found, f"a mapping of {name}", found or "no mapping")
    flags = str(fields.get("VmFlags", ""))
    buffer.proof = {"Name": found, "VmFlags": flags}
    buffer.facts["pfnmap"] = "pf" in flags.split()
