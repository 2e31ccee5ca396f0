# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine offers to the makers of memory classes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.memory import proof
from hil.system.numa import prefer
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.system.guard import Guard

_PROVIDE = {
    "ext4": "mount an ext4 file system and name a directory on it",
    "xfs": "mount an XFS file system and name a directory on it",
    "btrfs": "mount a Btrfs file system and name a directory on it",
    "tmpfs": "mount a tmpfs and name a directory on it",
    "tmpfs-huge": "mount a tmpfs with huge=always and name a directory on it",
    "fsdax-ext4": "mount ext4 with -o dax on a pmem device and name a directory on it",
    "fsdax-xfs": "mount XFS (before 6.0 made with -m reflink=0) with -o dax on a pmem device and "
    "name a directory on it",
}
_DEVICES = ("device-dax", "pci-bar")
KINDS = (*_PROVIDE, *_DEVICES)
"""What `Bench.find` may be told: directories by kind, a device-dax node, a sysfs resource file."""

# Only where anybody may write scratch files anyway: a found file system is the user's own.
_FOUND_IN = ("/tmp", "/var/tmp", "/dev/shm")


class Bench:
    """The machine's facts, built once a session and shared by the cells' children.

    ``busy_node`` is the device node under test, set by the runner before each cell; ``guard``,
    where there is one, is the only way that a class may change the machine.  ``plain_node`` is
    where ordinary memory is kept, if another node is set aside for movable memory.
    """

    __slots__ = (
        "bar",
        "busy_node",
        "devdax",
        "directories",
        "drm",
        "guard",
        "movable_node",
        "plain_node",
        "second_node",
        "seed",
    )

    def __init__(self) -> None:
        self.directories: dict[str, Path] = {}
        self.movable_node: int | None = None
        self.second_node: int | None = None
        self.plain_node: int | None = None
        self.devdax: Path | None = None
        self.bar: Path | None = None
        self.drm: list[Path] = []
        self.busy_node: Path | None = None
        self.guard: Guard | None = None
        self.seed = 1
        """What the races' random numbers begin with."""

    def directory(self, kind: str) -> Path:
        """A writable directory on such a file system; NotApplicableError where there is none."""
        found = self.directories.get(kind)
        if found is None:
            raise NotApplicableError(f"no {kind} directory on this machine: {_PROVIDE[kind]}")
        return found

    @classmethod
    def find(cls, scratch: Mapping[str, Path], guard: Guard | None = None) -> Bench:
        """Look at the machine.  ``scratch`` names things by kind and wins over what is found.

        ValueError for a kind that does not exist (see KINDS).  From here on this process and the
        children that it forks take their memory from ``plain_node``.
        """
        for kind in scratch:
            if kind not in KINDS:
                raise ValueError(f"no such kind of directory: {kind!r}; known: {', '.join(KINDS)}")
        bench = cls()
        bench.guard = guard
        named = {kind: Path(path) for kind, path in scratch.items()}
        bench.devdax = named.pop("device-dax", None) or _devdax(Path("/sys/bus/dax/devices"))
        bench.bar = named.pop("pci-bar", None) or _bar(Path("/sys/bus/pci/devices"))
        bench.directories = _found_directories() | named
        bench.movable_node = _movable_node()
        bench.second_node = _second_node()
        if bench.movable_node is not None and bench.second_node is not None:
            bench.plain_node = 0 if bench.movable_node != 0 else bench.second_node
            # Else it would hang on the CPU that a cell happens to run on whether its pages are
            # movable.  The movable classes choose their node themselves.
            prefer(bench.plain_node)
        bench.drm = sorted(Path("/dev/dri").glob("card*"))
        with contextlib.suppress(OSError):
            proof.flag_words([0])  # opens it once for all cells
        return bench


def parse_mounts(text: str) -> list[tuple[str, str, str]]:
    """(mount point, type, options) of each line of /proc/mounts, later mounts last."""
    found = []
    for line in text.splitlines():
        _, point, kind, options, *_ = line.split(" ")
        for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\134", "\\")):
            point = point.replace(code, letter)
        found.append((point, kind, options))
    return found


def kind_of(path: str, mounts: list[tuple[str, str, str]]) -> str | None:
    """Which kind of directory ``path`` is, by the mount that it lies on; None when of no use."""
    best = ("", "", "")
    for mount in mounts:
        point = mount[0].rstrip("/")
        # The last of equals wins: it is mounted over the others.
        if (path == point or path.startswith(point + "/")) and len(mount[0]) >= len(best[0]):
            best = mount
    _, kind, text = best
    options = text.split(",")
    if "ro" in options or kind not in ("ext4", "xfs", "btrfs", "tmpfs"):
        return None
    if "dax" in options or "dax=always" in options:
        kind = f"fsdax-{kind}"
    elif kind == "tmpfs" and any(o.startswith("huge=") and o != "huge=never" for o in options):
        kind = "tmpfs-huge"
    return kind if kind in _PROVIDE else None


def _found_directories() -> dict[str, Path]:
    mounts = parse_mounts(Path("/proc/self/mounts").read_text())
    found: dict[str, Path] = {}
    for name in _FOUND_IN:
        kind = kind_of(os.path.realpath(name), mounts)
        if kind and kind not in found and os.access(name, os.W_OK):
            found[kind] = Path(name)
    return found


def _movable_node() -> int | None:
    """The node with the largest ZONE_MOVABLE."""
    best, pages = None, 0
    for zone in frames.zones():
        if zone.name == "Movable" and zone.end - zone.start > pages:
            best, pages = zone.node, zone.end - zone.start
    return best


def _second_node() -> int | None:
    """A node besides the first that has memory."""
    nodes = sorted({zone.node for zone in frames.zones() if zone.node >= 0})
    return nodes[1] if len(nodes) > 1 else None


def _devdax(devices: Path) -> Path | None:
    """The first device-dax node on RAM that forgets anyway: memmap= or set aside by firmware.

    One on real persistent memory may hold somebody's data: that has to be named.
    """
    for device in sorted(devices.glob("dax*")):
        where = os.path.realpath(device)
        node = Path("/dev", device.name)
        if ("/e820_pmem" in where or "/hmem" in where) and node.exists():
            return node
    return None


# Devices with a BAR that is nothing but memory: QEMU's ivshmem, edu and pci-testdev.
_HARMLESS = {("0x1af4", "0x1110"), ("0x1234", "0x11e8"), ("0x1b36", "0x0005")}
_RESOURCE_MEM = 0x200


def _bar(devices: Path) -> Path | None:
    """sysfs resourceN of a memory BAR of 1 MiB or more, of a device that no driver uses."""
    best: tuple[bool, Path] | None = None
    for device in sorted(devices.glob("*")):
        if (device / "driver").exists():
            continue
        try:
            identity = tuple((device / f).read_text().strip() for f in ("vendor", "device"))
            table = (device / "resource").read_text().splitlines()
        except OSError:
            continue
        for number, line in enumerate(table[:6]):
            start, end, flags = (int(word, 16) for word in line.split())
            resource = device / f"resource{number}"
            if flags & _RESOURCE_MEM and end - start + 1 >= mm.MIB and resource.exists():
                harmless = identity in _HARMLESS
                if best is None or harmless > best[0]:
                    best = (harmless, resource)
    return best[1] if best else None
