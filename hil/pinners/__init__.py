# SPDX-License-Identifier: GPL-2.0-or-later
"""Who pins.  Each kind has a ``survey(only) -> Survey``."""

from __future__ import annotations

from collections.abc import Sequence

from hil.errors import HilError
from hil.pinners import exynos_g2d, habanalabs_discovery, io_uring, v4l2_discovery
from hil.pinners.base import Node, Pinner, PinResult, Session, Survey, Transfer

__all__ = ["Node", "PinResult", "Pinner", "Session", "Survey", "Transfer", "discover", "survey"]

_KINDS = (
    v4l2_discovery.survey,
    exynos_g2d.survey,
    habanalabs_discovery.survey,
    io_uring.survey,
)


def survey(only: Sequence[str] = ()) -> Survey:
    """Look at every device of this machine, or at those that ``only`` selects.

    Selectors are device paths or shell patterns for node, driver, bus or pinner names.  The order
    of pinners and nodes is stable.  HilError when a selector matches no device at all.
    """
    pinners: list[Pinner] = []
    nodes: list[Node] = []
    for look in _KINDS:
        found = look(only)
        pinners += found.pinners
        nodes += found.nodes
    if only and not nodes:
        raise HilError(
            f"no device matches {', '.join(only)}",
            "name a device path (/dev/video0), a driver (vivid), a bus (platform:vivid-000) or a "
            "pinner; without a selector every device is used",
        )
    return Survey(pinners, nodes)


def discover(only: Sequence[str] = ()) -> list[Pinner]:
    """The pinners of this machine, in a stable order; ``survey`` tells of the other nodes too."""
    return survey(only).pinners
