# SPDX-License-Identifier: GPL-2.0-or-later
"""habanalabs after something happened to the driver or the card: pins must be as good as ever.

Each of these pinners does its thing to the machine before a session opens the node:

* ``-stock``: the distribution's own module, where the machine runs a corrected copy of it
  (hil/lab/corrections.py); what it answers to open(2) is the answer of the call under test
* ``-reload``: the module is taken out and put in again
* ``-reset``: a hard reset through sysfs
"""

from __future__ import annotations

import time
from collections.abc import Callable
from errno import EINVAL, ETIMEDOUT
from pathlib import Path
from typing import TYPE_CHECKING

from hil.cells import Direction
from hil.pinners.base import Node, PinResult
from hil.pinners.habanalabs import HabanaPinner, HabanaSession
from hil.system import modules

if TYPE_CHECKING:
    from hil.memory.base import Buffer

MODULE = "habanalabs"
NODE_SECONDS = 5.0
RESET_SECONDS = 15.0
_PCI = Path("/sys/bus/pci/devices")


class StockSession(HabanaSession):
    """The node is opened by ``pin``, so that a refusal of open(2) is evidence."""

    call = "open"

    def __init__(self, node: Path, direction: Direction) -> None:
        self._node, self._direction = node, direction
        self.fd, self._mapped = -1, []

    def pin(self, buffer: Buffer) -> PinResult:
        try:
            self._open(self._node)
        except OSError as error:
            return PinResult("open", error.errno or EINVAL, 0)
        return super().pin(buffer)


class LifePinner(HabanaPinner):
    """Does ``before`` and then opens the node; ``memory`` are the classes that it pins."""

    def __init__(
        self, node: Node, what: str, before: Callable[[], None], memory: tuple[str, ...]
    ) -> None:
        super().__init__(node)
        self.name = f"{self.name}-{what}"
        self.memory = memory
        self.conditions, self.meets_conditions = ("steady",), False
        self.directions = (Direction.CAPTURE,)
        self._before = before
        # All but the one cell that says what the stock module does take long and repeat little.
        self.slow = what != "stock"
        self.last = what == "stock"
        self.patience = 2.0

    def open(self, direction: Direction) -> HabanaSession:
        self._before()
        _wait_for(self.node)
        if self.slow:
            return HabanaSession(self.node, direction, patience=RESET_SECONDS)
        return StockSession(self.node, direction)


def _wait_for(node: Path) -> None:
    until = time.monotonic() + NODE_SECONDS
    while not node.exists():
        if time.monotonic() > until:
            raise OSError(ETIMEDOUT, f"{node} does not come back")
        time.sleep(0.02)


def stock(node: Node, file: Path | None) -> LifePinner:
    """With the stock module ``file`` in place of the one that runs; None where that is the one."""

    def before() -> None:
        if file is not None:
            modules.replace(MODULE, file)

    return LifePinner(node, "stock", before, ("anonymous",))


RELOADS = (
    "anonymous", "anonymous-untouched", "anonymous-zero-page", "anonymous-unaligned",
    "shared-anonymous", "thp", "thp-part", "hugetlb-2m-private", "hugetlb-2m-shared", "memfd",
    "tmpfs", "sysv", "ext4-private-untouched", "ext4-private-cowed", "readonly-private",
    "prot-none", "unmapped-first", "unmapped-middle", "anonymous-movable", "zero-length",
)  # fmt: skip
"""Twenty classes, taken and refused: a reload before each."""


def reload(node: Node, file: Path) -> LifePinner:
    """With the module taken out and put in again."""
    return LifePinner(node, "reload", lambda: modules.replace(MODULE, file), RELOADS)


def reset(node: Node) -> LifePinner:
    """After a hard reset, which the driver makes when nobody has the node open."""
    return LifePinner(
        node, "reset", lambda: hard_reset(_PCI / node.bus), ("anonymous", "hugetlb-2m-private")
    )


def hard_reset(device: Path) -> None:
    """Have the driver reset the card (sysfs hard_reset), and see that it did."""
    before = (device / "hard_reset_cnt").read_text()
    (device / "hard_reset").write_text("1")
    until = time.monotonic() + RESET_SECONDS
    while (device / "hard_reset_cnt").read_text() == before:
        if time.monotonic() > until:
            raise OSError(ETIMEDOUT, f"{device.name} was not reset")
        time.sleep(0.05)
