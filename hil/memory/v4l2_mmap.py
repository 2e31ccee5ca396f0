# SPDX-License-Identifier: GPL-2.0-or-later
"""The MMAP buffer of another V4L2 queue."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.base import PAGE, Buffer, buffer_of, fill, memory_class, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


@memory_class("v4l2-mmap-buffer", "the MMAP buffer of another queue whose allocator is vmalloc")
def v4l2_mmap_buffer(bench: Bench, length: int, direction: Direction) -> Buffer:
    busy = os.path.realpath(bench.busy_node) if bench.busy_node else ""
    tried: list[str] = []
    for node in sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name)):
        if os.path.realpath(node) == busy:
            continue
        try:
            buffer = _from(node, length)
        except OSError as error:
            tried.append(f"{node}: {error.strerror or error}")
        except NotApplicableError as error:
            tried.append(f"{node}: {error.reason}")
        else:
            return buffer
    raise NotApplicableError(
        "no other video node lends an MMAP buffer from videobuf2-vmalloc (modprobe vivid n_devs=2 "
        f"gives some): {'; '.join(tried) or 'there is no other node'}"
    )


def _from(node: Path, length: int) -> Buffer:
    from hil.uapi import v4l2

    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        capability = v4l2.querycap(fd)
        kind = _queue(v4l2, capability.caps)
        offset, size = _request(v4l2, fd, kind, length)
        buffer = buffer_of(mm.mmap(size, flags=mm.MAP_SHARED, fd=fd, offset=offset), size)
    except BaseException:
        os.close(fd)
        raise
    buffer.at_close(os.close, fd)
    flags = proof.flags_of(buffer.address)
    try:
        # vm_insert_page marks the mapping VM_MIXEDMAP; remap_pfn_range, the way of dma-contig,
        # would make it VM_PFNMAP.
        proof.must("mm" in flags and "pf" not in flags, "a mapping with VM_MIXEDMAP", flags)
        fill(buffer.address, buffer.length)
        sight = proof.Sight(buffer.address, buffer.length)
        proof.must(sight.whole, "a buffer with all of its pages", sight.summary())
    except NotApplicableError:
        buffer.close()
        raise
    buffer.proof = {**sight.summary(), "VmFlags": " ".join(flags), "node": str(node)}
    buffer.facts["driver"] = capability.driver.decode()
    return buffer


def _queue(v4l2: Any, caps: int) -> int:
    if caps & v4l2.V4L2_CAP_STREAMING:
        if caps & v4l2.V4L2_CAP_VIDEO_CAPTURE:
            return int(v4l2.V4L2_BUF_TYPE_VIDEO_CAPTURE)
        if caps & (v4l2.V4L2_CAP_VIDEO_OUTPUT | v4l2.V4L2_CAP_VIDEO_M2M):
            return int(v4l2.V4L2_BUF_TYPE_VIDEO_OUTPUT)
    raise NotApplicableError("no single-planar video queue that streams")


def _request(v4l2: Any, fd: int, kind: int, length: int) -> tuple[int, int]:
    """Have one MMAP buffer of ``length`` bytes or more; its mmap offset and size."""
    wanted = v4l2.get_format(fd, kind)
    if v4l2.plane_sizes(wanted)[0] >= length:
        v4l2.reqbufs(fd, kind, 1, v4l2.V4L2_MEMORY_MMAP)
        index = 0
    else:
        # CREATE_BUFS takes a larger size without a change of format; vb2 rounds it up to pages.
        wanted.fmt.pix.sizeimage = round_up(length, PAGE)
        index = v4l2.create_bufs(fd, 1, v4l2.V4L2_MEMORY_MMAP, wanted).index
    found = v4l2.querybuf(fd, kind, index, v4l2.V4L2_MEMORY_MMAP)
    size = round_up(found.length, PAGE)
    if found.length < length:
        raise NotApplicableError(f"its buffers have {found.length} bytes, {length} are needed")
    return int(found.m.offset), int(size)
