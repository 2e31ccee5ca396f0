# SPDX-License-Identifier: GPL-2.0-or-later
"""What a condition is: what happens to the memory while a driver has it pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hil.memory.base import Buffer
    from hil.pinners.base import Pinner, Session


class Condition:
    """One thing that may happen; a subclass overrides the moments that it needs.

    Both run in the cell's own process.  NotApplicableError where this machine can't do it.
    """

    name: str
    """The last part of a cell's id."""
    summary: str
    only_on_demand = False
    """True for those that run only where a board names them."""
    destructive = False
    """True where a driver that fails takes the machine with it: such cells run last."""

    def concerns(self, pinner: Pinner, memory: str) -> bool:
        """Whether it makes sense with this pinner and memory class."""
        return True

    def before(self, buffer: Buffer, session: Session) -> None:
        """Prepare, before the counters are read and the buffer is pinned."""

    def during(self, buffer: Buffer, session: Session) -> None:
        """Do it, when the driver has accepted the buffer."""
