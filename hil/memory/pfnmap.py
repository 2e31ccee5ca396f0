# SPDX-License-Identifier: GPL-2.0-or-later
"""Device memory mapped by number: device-dax, and a PCI BAR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.base import HUGE, PAGE, Buffer, buffer_of, memory_class, place, populate, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


@memory_class("device-dax", "persistent memory mapped from a device-dax node")
def device_dax(bench: Bench, length: int, direction: Direction) -> Buffer:
    """Only read here: there may be data on it."""
    if bench.devdax is None:
        raise NotApplicableError(
            "no device-dax node that may be used: make one (ndctl create-namespace -m devdax) and "
            "name it as device-dax"
        )
    folder = Path("/sys/bus/dax/devices", bench.devdax.name)
    align, size = HUGE, 0
    try:
        align = int((folder / "align").read_text())
        size = int((folder / "size").read_text())
    except OSError:
        pass
    length = round_up(length, align)
    if size and size < length:
        raise NotApplicableError(f"{bench.devdax} has {size} bytes, {length} are needed")
    try:
        fd = os.open(bench.devdax, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise NotApplicableError(f"{bench.devdax}: {error.strerror}") from error
    buffer = buffer_of(place(length, flags=mm.MAP_SHARED, fd=fd, align=max(align, HUGE)), length)
    buffer.at_close(os.close, fd)
    populate(buffer.address, length)
    sight = proof.Sight(buffer.address, length)
    zones = proof.zone_names(buffer.address, length)
    ordinary = [name for name in zones if name.partition("/")[2] not in ("Device", "")]
    proof.must(sight.whole and not ordinary, "pages of device memory", {**sight.summary(), **zones})
    buffer.proof = {**sight.summary(), "zones": zones, "node": str(bench.devdax), "align": align}
    return buffer


@memory_class("pci-bar", "a PCI device's memory BAR, mapped from sysfs (VM_PFNMAP)")
def pci_bar(bench: Bench, length: int, direction: Direction) -> Buffer:
    """Never touched here: what a BAR does when it is read is the device's affair."""
    if bench.bar is None:
        raise NotApplicableError(
            "no PCI device without a driver has a memory BAR of 1 MiB or more: add one (QEMU: "
            "-device ivshmem-plain) or unbind a driver"
        )
    length = round_up(length, PAGE)
    if bench.bar.stat().st_size < length:
        raise NotApplicableError(f"{bench.bar} is smaller than the {length} bytes needed")
    try:
        fd = os.open(bench.bar, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise NotApplicableError(f"{bench.bar}: {error.strerror}") from error
    try:
        address = mm.mmap(length, flags=mm.MAP_SHARED, fd=fd)
    except OSError as error:  # lockdown(7), CONFIG_IO_STRICT_DEVMEM
        os.close(fd)
        raise NotApplicableError(f"{bench.bar} cannot be mapped: {error.strerror}") from error
    buffer = buffer_of(address, length)
    buffer.at_close(os.close, fd)
    flags = proof.flags_of(address)
    proof.must("pf" in flags and "io" in flags, "a mapping with VM_IO and VM_PFNMAP", flags)
    buffer.proof = {"VmFlags": " ".join(flags), "resource": str(bench.bar)}
    return buffer
