# SPDX-License-Identifier: GPL-2.0-or-later
"""Controls, inputs and outputs of a V4L2 node, as include/uapi/linux/videodev2.h has them.

Wrappers raise OSError with the call's errno.
"""

from __future__ import annotations

from typing import Any

import v4l2

from hil.uapi.v4l2 import i32, ioctl

Control: Any = v4l2.v4l2_control
QueryControl: Any = v4l2.v4l2_queryctrl
QueryMenu: Any = v4l2.v4l2_querymenu

STRUCTURES: dict[str, Any] = {
    "v4l2_control": Control,
    "v4l2_queryctrl": QueryControl,
    "v4l2_querymenu": QueryMenu,
}

VIDIOC_G_CTRL: int = v4l2.VIDIOC_G_CTRL & 0xFFFFFFFF
VIDIOC_S_CTRL: int = v4l2.VIDIOC_S_CTRL & 0xFFFFFFFF
VIDIOC_QUERYCTRL: int = v4l2.VIDIOC_QUERYCTRL & 0xFFFFFFFF
VIDIOC_QUERYMENU: int = v4l2.VIDIOC_QUERYMENU & 0xFFFFFFFF
VIDIOC_G_INPUT: int = v4l2.VIDIOC_G_INPUT & 0xFFFFFFFF
VIDIOC_S_INPUT: int = v4l2.VIDIOC_S_INPUT & 0xFFFFFFFF
VIDIOC_G_OUTPUT: int = v4l2.VIDIOC_G_OUTPUT & 0xFFFFFFFF
VIDIOC_ENUMINPUT: int = v4l2.VIDIOC_ENUMINPUT & 0xFFFFFFFF
VIDIOC_ENUMOUTPUT: int = v4l2.VIDIOC_ENUMOUTPUT & 0xFFFFFFFF

V4L2_CTRL_FLAG_NEXT_CTRL = 0x80000000


def controls(fd: int) -> dict[str, int]:
    """The node's controls: name -> id; empty where it has none."""
    found: dict[str, int] = {}
    query = QueryControl(id=V4L2_CTRL_FLAG_NEXT_CTRL)
    while True:
        try:
            ioctl(fd, VIDIOC_QUERYCTRL, query)
        except OSError:  # EINVAL ends the list, ENOTTY: there are none
            return found
        found[_text(query.name)] = int(query.id)
        query.id |= V4L2_CTRL_FLAG_NEXT_CTRL


def get_control(fd: int, identity: int) -> int:
    wanted = Control(id=identity)
    ioctl(fd, VIDIOC_G_CTRL, wanted)
    return int(wanted.value)


def set_control(fd: int, identity: int, value: int) -> None:
    ioctl(fd, VIDIOC_S_CTRL, Control(id=identity, value=value))


def menu(fd: int, identity: int, most: int = 64) -> dict[str, int]:
    """The items of a menu control: text -> value; some values may be left out by the driver."""
    found: dict[str, int] = {}
    for index in range(most):
        item = QueryMenu(id=identity, index=index)
        try:
            ioctl(fd, VIDIOC_QUERYMENU, item)
        except OSError:
            continue
        found[_text(item.name)] = index
    return found


def get_input(fd: int) -> int:
    """The index of the input that a capture node is connected to; ENOTTY where it has none."""
    index = i32()
    ioctl(fd, VIDIOC_G_INPUT, index)
    return int(index.value)


def set_input(fd: int, index: int) -> None:
    """Connect to another input; drivers change the format with it."""
    ioctl(fd, VIDIOC_S_INPUT, i32(index))


def get_output(fd: int) -> int:
    index = i32()
    ioctl(fd, VIDIOC_G_OUTPUT, index)
    return int(index.value)


def inputs(fd: int) -> list[str]:
    """The names of a capture node's inputs, by index."""
    return _names(fd, VIDIOC_ENUMINPUT, v4l2.v4l2_input)


def outputs(fd: int) -> list[str]:
    """The names of an output node's outputs, by index."""
    return _names(fd, VIDIOC_ENUMOUTPUT, v4l2.v4l2_output)


def _names(fd: int, number: int, kind: Any) -> list[str]:
    found: list[str] = []
    while True:
        item = kind(index=len(found))
        try:
            ioctl(fd, number, item)
        except OSError:
            return found
        found.append(_text(item.name))


def _text(raw: bytes) -> str:
    return bytes(raw).partition(b"\0")[0].decode("utf-8", "replace")
