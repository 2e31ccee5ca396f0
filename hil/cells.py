# SPDX-License-Identifier: GPL-2.0-or-later
"""A cell: who pins what, in which direction, while what happens."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Direction(enum.StrEnum):
    """Which way the data goes, in V4L2's words."""

    CAPTURE = "capture"
    """The device writes the memory: the pin needs FOLL_WRITE."""
    OUTPUT = "output"
    """The device reads the memory."""


class Cell(NamedTuple):
    """One test, one line in the journal, one square in the matrix.

    The id is plain words between slashes and stays the same over kernels and runs, because history
    and bisection hang on it: ``v4l2-vivid-video0/anonymous-movable/capture/steady``.
    """

    pinner: str
    memory: str
    direction: Direction
    condition: str

    @property
    def id(self) -> str:
        return f"{self.pinner}/{self.memory}/{self.direction}/{self.condition}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read an id back; ValueError when it has not four parts or no such direction."""
        parts = text.split("/")
        if len(parts) != 4:
            raise ValueError(f"{text!r} is not PINNER/MEMORY/DIRECTION/CONDITION")
        return cls(parts[0], parts[1], Direction(parts[2]), parts[3])
