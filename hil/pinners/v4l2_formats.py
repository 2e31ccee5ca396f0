# SPDX-License-Identifier: GPL-2.0-or-later
"""Which formats a capture queue is tried with besides the one that it is found with.

A driver pins sizeimage bytes whatever they are to hold, but what it does with them depends on the
format: a compressed frame fills a part of its buffer, a card's program has an entry for each line.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hil.pinners.base import Node
from hil.uapi import v4l2 as uapi
from hil.uapi import v4l2_sizes

SMALL = {"tw68": (320, 240)}
"""Drivers whose usual format is a large one: what cells use.  230400 bytes are quick to look at,
and short enough for a bounce buffer in one piece (kernel/dma/swiotlb.c IO_TLB_SEGSIZE: 256 KiB)."""
_VARIED = ("uvcvideo", "tw68")
_MOST_CODES = 4
_PACKED = ("YUYV", "UYVY", "NV12", "GREY", "MJPG")
"""Of what a driver may offer, the codes that are worth a pinner."""


class Variant(NamedTuple):
    """A format of its own pinner: what shows in the name, and the struct v4l2_format."""

    suffix: str
    wanted: Any


def small(driver: str, present: Any) -> Any:
    """The format that a queue's cells use; None for the present one."""
    if driver not in SMALL or present.type != uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE:
        return None
    return changed(present, size=SMALL[driver])


def changed(present: Any, *, size: tuple[int, int] = (0, 0), code: int = 0) -> Any:
    """A copy of a single-planar format with another size or code, and lengths for the driver."""
    wanted = uapi.copy_format(present)
    pix = uapi.pix_format(wanted)
    if any(size):
        pix.width, pix.height = size
        pix.field = v4l2_sizes.V4L2_FIELD_ANY
    if code:
        pix.pixelformat = code
    pix.bytesperline = pix.sizeimage = 0
    return wanted


def variants(fd: int, node: Node, present: Any) -> list[Variant]:
    """Other codes in the present size, and the largest size; each as the driver would have it."""
    if node.driver not in _VARIED or present.type != uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE:
        return []
    own = uapi.pix_format(present)
    base = small(node.driver, present) or present
    found: list[Variant] = []
    for code in uapi.enum_formats(fd, present.type):
        text = code.to_bytes(4, "little").decode("ascii", "replace").strip()
        if code != own.pixelformat and text in _PACKED and len(found) < _MOST_CODES:
            found.append(Variant(f"-{text.lower()}", changed(base, code=code)))
    largest = max(
        [(own.width, own.height), *v4l2_sizes.frame_sizes(fd, own.pixelformat)],
        key=lambda size: size[0] * size[1],
    )
    pix = uapi.pix_format(base)
    if largest != (pix.width, pix.height):
        found.append(Variant(f"-{largest[0]}x{largest[1]}", changed(present, size=largest)))
    return [variant for variant in found if _takes(fd, variant.wanted)]


def _takes(fd: int, wanted: Any) -> bool:
    """Whether the driver leaves code and size as they are."""
    tried = uapi.copy_format(wanted)
    try:
        uapi.try_format(fd, tried)
    except OSError:
        return False
    one, other = uapi.pix_format(tried), uapi.pix_format(wanted)
    return (one.pixelformat, one.width, one.height) == (
        other.pixelformat,
        other.width,
        other.height,
    )
