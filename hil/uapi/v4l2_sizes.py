# SPDX-License-Identifier: GPL-2.0-or-later
"""The sizes and fields of V4L2's pictures: the part of videodev2.h that few pinners need."""

from __future__ import annotations

from typing import Any

import v4l2

from hil.uapi.v4l2 import ioctl

FrameSize: Any = v4l2.v4l2_frmsizeenum

STRUCTURES: dict[str, Any] = {"v4l2_frmsizeenum": FrameSize}

VIDIOC_ENUM_FRAMESIZES: int = v4l2.VIDIOC_ENUM_FRAMESIZES & 0xFFFFFFFF

V4L2_FRMSIZE_TYPE_DISCRETE = 1

V4L2_FIELD_ANY = 0
V4L2_FIELD_TOP = 2
V4L2_FIELD_BOTTOM = 3


def frame_sizes(fd: int, code: int) -> list[tuple[int, int]]:
    """The discrete widths and heights of a pixel format; none where the driver tells ranges."""
    found: list[tuple[int, int]] = []
    while True:
        size = FrameSize(index=len(found), pixel_format=code)
        try:
            ioctl(fd, VIDIOC_ENUM_FRAMESIZES, size)
        except OSError:  # EINVAL ends the list, ENOTTY: this driver has none
            return found
        if size.type != V4L2_FRMSIZE_TYPE_DISCRETE:
            return []
        found.append((size.discrete.width, size.discrete.height))
