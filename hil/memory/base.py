# SPDX-License-Identifier: GPL-2.0-or-later
"""What a memory class is, and the parts that all of them are made of.

A class is one function in the file of its family::

    @memory_class("thp", "a whole 2 MiB transparent huge page")
    def thp(bench: Bench, length: int, direction: Direction) -> Buffer: ...

It returns a buffer that is proven to be of its class, or raises NotApplicableError with what this
kernel or machine lacks and how to enable it.  Any other error is a defect of the suite.
A cell makes its buffer in a child process, which ends with the cell if the class is said to be
``alone``, or the process is not what it was when the buffer is closed (hil/runs/footprint.py).
What a class changes in the machine goes through ``bench.guard``.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hil.uapi import access, mm

if TYPE_CHECKING:
    from array import array

    from hil.cells import Direction
    from hil.memory.bench import Bench

PAGE = mm.PAGE
HUGE = 2 * mm.MIB
"""A PMD's span with 4 KiB pages on x86-64, arm64 and arm with LPAE."""

FAMILIES = (
    "anonymous",
    "apart",
    "thp",
    "hugetlb",
    "shmem",
    "sealed",
    "pagecache",
    "fsdax",
    "pfnmap",
    "v4l2_mmap",
    "dmabuf",
    "access",
    "beyond_eof",
    "userfault",
    "movable",
    "pagestate",
    "limits",
    "pointers",
    "remapped",
)
"""The modules of this package that hold classes, in the order that reports show them."""


class Buffer:
    """User memory to be handed to a driver.

    ``address`` and ``length`` (bytes) go to the driver as they are: they may be unaligned, or
    invalid on purpose.  ``proof`` shows that the buffer is what its class says; ``facts`` are what
    rules may look at.  ``settle``, when set, runs between a pin that was stopped and a second pin
    of the same pointer.  ``moved_to`` is the address of the mapping when it is no longer at
    ``address`` (mremap).  ``neighbours`` are addresses of further pages of this process, whose
    frames follow the first page's, where a class has made sure of that.  ``fd`` is the file that is
    mapped, where there is one.  ``pinned`` are the pagemap words of what a driver has pinned, once
    it has: the process may have other pages by then.
    """

    __slots__ = (
        "_undo", "address", "facts", "fd", "length", "moved_to", "neighbours", "pinned", "proof",
        "settle",
    )  # fmt: skip

    def __init__(
        self,
        address: int,
        length: int,
        proof: dict[str, object] | None = None,
        facts: dict[str, object] | None = None,
    ) -> None:
        self.address = address
        self.length = length
        self.moved_to: int | None = None
        self.fd = -1
        self.proof: dict[str, object] = proof or {}
        self.facts: dict[str, object] = facts or {}
        self.settle: Callable[[], None] | None = None
        self.neighbours: tuple[int, ...] = ()
        self.pinned: array[int] | None = None
        self._undo: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    @property
    def view(self) -> int:
        """Where the process reaches the memory now."""
        return self.address if self.moved_to is None else self.moved_to

    def read(self, length: int | None = None) -> bytes:
        """What the process sees in the buffer, from its start; EFAULT where it may not look."""
        return access.peek(self.view, self.length if length is None else length)

    def write(self, data: bytes) -> None:
        """Write as the process, from the buffer's start; EFAULT where it may not."""
        access.poke(self.view, data)

    def of_file(self, fd: int) -> None:
        """Take over the descriptor of the file that is mapped."""
        self.fd = fd
        self.at_close(os.close, fd)

    def at_close(self, call: Callable[..., object], *arguments: Any) -> None:
        """Have ``close`` run this; the last thing added goes first."""
        self._undo.append((call, arguments))

    def close(self) -> None:
        """Give back descriptors, mappings, children and threads; twice does no harm."""
        while self._undo:
            call, arguments = self._undo.pop()
            call(*arguments)

    @property
    def pages(self) -> int:
        """How many base pages [address, address + length) touches."""
        if self.length <= 0:
            return 0
        return (self.address + self.length - 1) // PAGE - self.address // PAGE + 1


Maker = Callable[["Bench", int, "Direction"], Buffer]


class MemoryClass(NamedTuple):
    """One kind of memory; ``make(bench, length, direction)`` makes a buffer of it.

    The buffer is at least ``length`` bytes long, except where a bad length is the point.
    """

    name: str
    family: str
    summary: str
    make: Maker
    slow: bool
    alone: bool = False
    """Its process is not what it was: another limit, a thread, a child."""


_classes: dict[str, MemoryClass] = {}


def register(
    name: str, summary: str, make: Maker, family: str, *, slow: bool = False, alone: bool = False
) -> None:
    """Add one class; for families that make their classes in a loop."""
    if name in _classes:
        raise ValueError(f"memory class {name!r} is there twice")
    _classes[name] = MemoryClass(name, family, summary, make, slow, alone)


def memory_class(
    name: str, summary: str, *, slow: bool = False, alone: bool = False
) -> Callable[[Maker], Maker]:
    """Register a maker; the family is its module's name."""

    def add(make: Maker) -> Maker:
        family = make.__module__.rpartition(".")[2]
        register(name, summary, make, family, slow=slow, alone=alone)
        return make

    return add


def all_classes() -> dict[str, MemoryClass]:
    """Every memory class by name, in the order that reports show them."""
    for family in FAMILIES:
        importlib.import_module(f"hil.memory.{family}")
    # A module imported on its own before this call has put its classes first.
    order = {family: place for place, family in enumerate(FAMILIES)}
    return dict(sorted(_classes.items(), key=lambda item: order[item[1].family]))


def round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


# Where buffers are put: far below where the kernel itself puts mappings (top down from the stack),
# so that no later mapping of the interpreter or of a library falls into a hole made on purpose, and
# above a classic executable's heap.  It fits the smallest user space there is: arm64 with 39 bits.
_FIRST = 0x10_0000_0000 if mm.WORD_BITS == 64 else 0x5000_0000
_next = _FIRST


def reserve(length: int, align: int = HUGE) -> int:
    """Choose ``length`` bytes of address space that nothing is mapped in; nothing gets mapped.

    2 MiB or more stay free on either side, so that no neighbour is merged with it or guards it.
    """
    global _next  # noqa: PLW0603 - a process has one address space
    address = round_up(_next, align)
    _next = round_up(address + length, HUGE) + HUGE
    return address


def place(
    length: int,
    prot: int = mm.PROT_RW,
    flags: int = mm.MAP_PRIVATE | mm.MAP_ANONYMOUS,
    fd: int = -1,
    *,
    offset: int = 0,
    align: int = HUGE,
) -> int:
    """Map ``length`` bytes in a place of their own, at a multiple of ``align``."""
    for _ in range(16):
        address = reserve(length, align)
        try:
            return mm.mmap(
                length, prot, flags | mm.MAP_FIXED_NOREPLACE, fd, offset=offset, address=address
            )
        except FileExistsError:
            continue  # somebody's mapping is there: try further up
    raise MemoryError(f"no room for {length} bytes")


def unmap_all() -> None:
    """Take away what is mapped where buffers are put; the next one comes to the first place."""
    global _next  # noqa: PLW0603 - a process has one address space
    if _next > _FIRST:
        mm.munmap(_FIRST, _next - _FIRST)
    _next = _FIRST


_PERIOD = 251
_PATTERN = bytes(range(_PERIOD)) * (256 * mm.KIB // _PERIOD)


def fill(address: int, length: int) -> None:
    """Write the pattern: byte i is i mod 251, so no two of 251 neighbouring pages are alike."""
    done = 0
    while done < length:
        part = min(len(_PATTERN), length - done)
        ctypes.memmove(address + done, _PATTERN, part)
        done += part


def populate(address: int, length: int) -> None:
    """Bring the pages in for reading."""
    try:
        mm.madvise(address, length, mm.MADV_POPULATE_READ)
    except OSError:  # before 5.14
        ctypes.string_at(address, length)


def pattern(length: int, start: int = 0) -> bytes:
    """The bytes that ``fill`` writes from offset ``start`` on."""
    phase = start % _PERIOD
    whole = _PATTERN * (-(-(phase + length) // len(_PATTERN)))
    return whole[phase : phase + length]


def buffer_of(address: int, length: int, mapped: int = 0) -> Buffer:
    """A buffer that unmaps itself at close: ``mapped`` bytes when more than its length."""
    buffer = Buffer(address, length)
    buffer.at_close(mm.munmap, address, mapped or round_up(length, PAGE))
    return buffer
