# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual board's RAM as files: laid out, and filled with file systems, before it starts.

Each memory part of the machine is a sparse file.  A running guest shares it or has a private copy
on write; the second is what makes restoring a snapshot cost nothing (hil/lab/snapshot.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from hil import tables
from hil.errors import HilError
from hil.lab import cache
from hil.lab.board import Machine, Pmem
from hil.lab.rootfs import GuestRoot

# Where RAM goes on by machine type: on q35 with 2.75 GiB or more, RAM ends at 2 GiB below the PCI
# hole and the rest is at 4 GiB (QEMU hw/i386/pc_q35.c pc_q35_init).
_LOW_END = {"q35": 2 << 30}
_ALL_LOW = {"q35": 0xB000_0000, "virt": 3 << 30}
# Where RAM begins (QEMU hw/arm/virt.c: VIRT_MEM).
_BASE = {"q35": 0, "virt": 1 << 30}
_HIGH_START = 4 << 30


_SHM = Path("/dev/shm")
_RAM = "hil-ram-"


class Part(NamedTuple):
    """One memory backend: ``id`` names the QEMU object and the file."""

    id: str
    size: int


def parts(machine: Machine) -> list[Part]:
    """The machine's memory backends, nodes first, in QEMU's order."""
    nodes = [Part(f"node{i}", tables.size(n.size, "size")) for i, n in enumerate(machine.nodes)]
    dimms = [Part(f"dimm{i}", tables.size(d.size, "size")) for i, d in enumerate(machine.dimms)]
    return nodes + dimms


class Region(NamedTuple):
    """Guest-physical RAM: ``size`` bytes at ``address`` are in the file ``part``, at ``offset``."""

    part: str
    offset: int
    address: int
    size: int


def regions(machine: Machine) -> list[Region]:
    """Where the RAM of the nodes lies, in the order of addresses; DIMMs are not told."""
    nodes = [part for part in parts(machine) if part.id.startswith("node")]
    total = sum(part.size for part in nodes)
    low = total if total < _ALL_LOW[machine.type] else _LOW_END[machine.type]
    found = []
    position = 0
    for part in nodes:
        offset = 0
        while offset < part.size:
            # A node may go on above the PCI hole.
            below = position < low
            size = min(part.size - offset, low - position) if below else part.size - offset
            base = _BASE[machine.type]
            address = base + position if below else _HIGH_START + position - low
            found.append(Region(part.id, offset, address, size))
            offset, position = offset + size, position + size
    return found


def pmem_addresses(machine: Machine) -> list[int]:
    """The guest physical address of each pmem piece: one after another from ``pmem_start`` on."""
    addresses = []
    address = tables.size(machine.pmem_start, "pmem-start")
    for pmem in machine.pmem:
        addresses.append(address)
        address += tables.size(pmem.size, "size")
    return addresses


def command_line(machine: Machine) -> str:
    """The e820 options that make the kernel see the pmem pieces."""
    pieces = zip(machine.pmem, pmem_addresses(machine), strict=True)
    return " ".join(f"memmap={pmem.size}!{address >> 20}M" for pmem, address in pieces)


def prepare(folder: Path, machine: Machine, root: GuestRoot) -> None:
    """Make the RAM files in ``folder`` and lay the file systems where the kernel will find them."""
    backends = parts(machine)
    for part in backends:
        with (folder / part.id).open("wb") as file:
            file.truncate(part.size)
    for pmem, address in zip(machine.pmem, pmem_addresses(machine), strict=True):
        image = filesystem(pmem, root)
        if image is None:
            continue
        end = address + image.stat().st_size
        for region in regions(machine):
            if region.address <= address and end <= region.address + region.size:
                break
        else:
            raise HilError(
                f"pmem of {pmem.size} at {address:#x} does not fit into any node's RAM",
                "Give a node more memory in the board file, or set machine.pmem-start.",
            )
        _copy_sparse(image, folder / region.part, region.offset + address - region.address)


def copy(source: Path, folder: Path, machine: Machine) -> None:
    """Copy the RAM files of ``source``, a guest that stands still, into ``folder``: no holes."""
    for part in parts(machine):
        with (source / part.id).open("rb") as reader, (folder / part.id).open("wb") as writer:
            writer.truncate(part.size)
            position = 0
            while position < part.size:
                try:
                    position = os.lseek(reader.fileno(), position, os.SEEK_DATA)
                except OSError:
                    break  # nothing but a hole from here on
                end = os.lseek(reader.fileno(), position, os.SEEK_HOLE)
                os.lseek(writer.fileno(), position, os.SEEK_SET)
                while position < end:
                    position += os.sendfile(
                        writer.fileno(), reader.fileno(), position, end - position
                    )


def filesystem(pmem: Pmem, root: GuestRoot) -> Path | None:
    """An image of the file system that a pmem piece starts with, made once and cached."""
    if pmem.filesystem == "devdax":
        return None
    maker = list(_MAKERS[pmem.filesystem])
    if pmem.filesystem == "xfs" and "dax" in pmem.options:
        # Up to 5.19 XFS refuses DAX on a file system that can reflink (fs/xfs/xfs_super.c).
        maker += ["-m", "reflink=0"]
    key = f"{pmem.filesystem}-{pmem.size}{'-dax' if 'dax' in pmem.options else ''}-{root.tools}"
    image = cache.root() / "filesystems" / key
    if image.exists():
        return image
    with cache.lock("filesystems"):
        if image.exists():
            return image
        image.parent.mkdir(parents=True, exist_ok=True)
        fresh = image.with_name(f".{image.name}.{os.getpid()}")
        with cache.full_disk_is_an_error(image.parent, f"the {pmem.filesystem} image"):
            with fresh.open("wb") as file:
                file.truncate(tables.size(pmem.size, "size"))
            root.run([*maker, str(fresh)])
        fresh.rename(image)
    return image


_MAKERS = {
    # 4 KiB blocks for DAX; nothing newer than 5.10 knows, so that one image serves every kernel.
    "ext4": ("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^orphan_file,^metadata_csum_seed"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
    "swap": ("mkswap",),
}


def _copy_sparse(source: Path, target: Path, offset: int) -> None:
    """Copy the data of ``source``, not its holes or zeros, into ``target`` from ``offset`` on."""
    block = 1 << 16
    empty = bytes(block)
    with source.open("rb") as reader, target.open("r+b") as writer:
        position = 0
        while True:
            try:
                position = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(reader.fileno(), position, os.SEEK_HOLE)
            while position < end:
                data = os.pread(reader.fileno(), min(block, end - position), position)
                if data != empty[: len(data)]:
                    os.pwrite(writer.fileno(), data, offset + position)
                position += len(data)


def folder() -> Path:
    """A new folder for the RAM files of a cold guest, with the name of this process in it."""
    return Path(tempfile.mkdtemp(prefix=f"{_RAM}{os.getpid()}-", dir=_place()))


def clean() -> None:
    """Remove what killed processes left: half-made parts, and the RAM of guests."""
    for part in ("filesystems", "images", "initramfs", "snapshots"):
        cache.clear(cache.root() / part)
    for place in (_SHM, cache.root()):
        for left in place.glob(f"{_RAM}*"):
            if not Path("/proc", left.name.removeprefix(_RAM).partition("-")[0]).exists():
                shutil.rmtree(left, ignore_errors=True)


def _place() -> Path:
    """Where the RAM files of a cold guest go: memory if there is room, else the cache."""
    if _SHM.is_dir() and shutil.disk_usage(_SHM).free > 2 << 30:
        return _SHM
    return cache.root()
