# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pinner is: something that takes a user pointer and pins the pages behind it.

A new pinner is one file: a `Session` that makes the call under test, a `Pinner` that opens it, and
a ``survey`` that finds the devices; its line in hil/pinners/__init__.py makes it known.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hil.cells import Direction
from hil.errors import NotApplicableError

if TYPE_CHECKING:
    from hil.memory.base import Buffer


class PinResult(NamedTuple):
    """What the call under test answered."""

    call: str
    """Its name: VIDIOC_QBUF."""
    errno: int
    """0 when it was accepted."""
    companion_pages: int
    """Pages pinned besides those of the buffer under test: the other planes of a frame."""


class Transfer(NamedTuple):
    """What the device was made to do with a pinned buffer, and what came of it."""

    sent: bytes
    """Capture: what the device wrote.  Output: what the process had written into the buffer."""
    arrived: bytes
    """Capture: what the process reads in the buffer.  Output: what the device read of it."""
    how: str
    """How ``sent`` and ``arrived`` are known, for the evidence: "copied by the G2D and back"."""
    before: bytes = b""
    """Capture: what the process had put into the buffer for the device to overwrite.  Output: what
    was in it when it was pinned.  What arrived and still is that tells of other pages: stale."""
    known: bool = True
    """False where nobody knows what the device wrote: then it only must differ from ``before``, in
    each page, and ``sent`` says nothing.  Or, with ``sent`` empty, what it should have read."""


class Session(ABC):
    """One cell's open node.  A context manager: leaving it ends the life of everything in it."""

    length: int
    """The least bytes that the driver wants of the buffer under test."""
    call: str
    """The call under test."""

    @abstractmethod
    def pin(self, buffer: Buffer) -> PinResult:
        """The call under test.  Its own errno is in the result, never raised."""

    def transfer(self, buffer: Buffer) -> Transfer | None:
        """Have the device move its data through the buffer, which ``pin`` was given.

        None where nothing can be proven with this driver, NotApplicableError where it can't be
        proven just now.  OSError when the device refuses or does not answer in time: then the data
        never arrived.  `Buffer.read` and `Buffer.write` reach the memory as the process sees it,
        and give EFAULT where it may not.
        """
        return None

    @abstractmethod
    def stop(self) -> None:
        """Give the buffer back to user space, but keep what the driver keeps (STREAMOFF)."""

    @abstractmethod
    def release(self) -> None:
        """End of life: free the buffers, close the node.  Twice does no harm; OSError."""

    fd: int = -1
    """The open node's descriptor; -1 where there is none, or it is closed."""
    extra_pages: int = 0
    """Pages that it has pinned besides those of the buffer under test."""

    def free(self) -> None:
        """Give the buffers back and keep the node open (REQBUFS of 0)."""
        raise NotApplicableError("this driver gives buffers back only when the node is closed")

    def renew(self) -> None:
        """After ``free``: ready for a pin again."""
        raise NotApplicableError("this driver gives buffers back only when the node is closed")

    def start(self, buffer: Buffer) -> None:  # noqa: B027 - for those that can
        """Have the device work with the pinned buffer until ``stop``, where it can."""

    def dequeue(self) -> None:
        """Take back a finished buffer, without waiting for one.  OSError."""
        raise NotApplicableError("this driver has no queue")

    def ask(self) -> None:  # noqa: B027 - for those that can
        """Make a harmless call on the node that takes the locks that a pin takes, if there is one.

        No error of it matters.
        """

    def abandon(self) -> None:
        """Close this process's descriptor and nothing more; it need not be the last."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Setting(NamedTuple):
    """A setting of a device: the ioctl that puts it back."""

    node: Path
    what: str
    number: int
    argument: bytes


class Pinner(ABC):
    """A way to pin: one call on one queue of one device."""

    name: str
    """The first part of a cell's id: v4l2-vivid-video0-prepare."""
    driver: str
    family: str
    """Which rule table holds: vb2-vmalloc, vb2-dma-sg, vb2-dma-contig; vb2 when not known."""
    node: Path
    bus: str
    allocator: str
    """What maps the pages for the device, by evidence: vmalloc, dma-sg, dma-contig, unknown."""
    slow: bool
    directions: tuple[Direction, ...]
    memory: tuple[str, ...] = ()
    """The memory classes that it is meant for; empty is all."""
    conditions: tuple[str, ...] = ()
    """The only conditions that it meets; empty is all."""
    without: tuple[str, ...] = ()
    """Conditions that say nothing of its driver: it has no such state."""
    last = False
    """Its cells come after all others: what they leave behind is no place to go on."""
    patience = 1.0
    """How many deadlines its cells may take: what it does before a pin may take long."""
    traced: tuple[str, ...] = ()
    """mm's functions that its driver pins with: their flags are evidence (FOLL_LONGTERM)."""
    answered: str = ""
    """The kernel's function whose errno its driver makes another of: its answers are evidence."""
    note = ""
    """What a reader of any of its results must know: that a corrected module was tested."""
    meets_conditions: bool = False
    """Whether it is tried under conditions besides steady and those of its own."""
    slow_conditions = False
    """Whether they take more than their share of a short run: its cells are long ones."""

    def facts(self, buffer: Buffer) -> dict[str, object]:
        """What rules may look at of a buffer as this driver takes it."""
        return {}

    @abstractmethod
    def open(self, direction: Direction) -> Session:
        """Open the node and make it ready for the call under test.  OSError when it can't be."""

    def learn(self) -> dict[str, Any]:
        """Find out once, before the first cell, what its transfers will be compared with: JSON.

        It runs in a process of its own, as a device may not answer; the pinner that opens sessions
        gets the answer by `recall`, empty when there was none.
        """
        return {}

    def recall(self, found: dict[str, Any]) -> None:  # noqa: B027 - most have nothing to recall
        """Take over what `learn` found."""

    def settings(self) -> list[Setting]:
        """What its sessions change in the device, as it was before, in the order to put it back."""
        return []


class Node(NamedTuple):
    """A device node that was looked at, and why it pins nothing if it does not."""

    path: str
    driver: str
    bus: str
    card: str
    allocator: str
    pinners: tuple[str, ...]
    reason: str
    """Why it has no pinner, or what of it was left out; empty when there is nothing to say."""


class Survey(NamedTuple):
    """What discovery found."""

    pinners: list[Pinner]
    nodes: list[Node]

    def joined(self, other: Survey) -> Survey:
        """Both, each device once."""
        seen = {node.path for node in self.nodes}
        names = {pinner.name for pinner in self.pinners}
        return Survey(
            [*self.pinners, *(p for p in other.pinners if p.name not in names)],
            [*self.nodes, *(n for n in other.nodes if n.path not in seen)],
        )


def selected(only: Sequence[str], names: Sequence[str]) -> bool:
    """True when nothing is asked for in particular, or one of a device's names matches.

    A selector is a device path or a shell pattern for a node, driver, bus or pinner name.
    """
    if not only:
        return True
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, selector) for selector in only for name in names)
