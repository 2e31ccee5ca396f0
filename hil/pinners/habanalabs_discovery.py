# SPDX-License-Identifier: GPL-2.0-or-later
"""Which Habana Labs accelerators this machine has, and whether their nodes can be used.

The driver's nodes: /dev/accel/accelN of the class accel from 6.2 on, /dev/hlN of a class of its own
before.  The control nodes beside them map nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from errno import EBUSY, EINVAL, EPERM
from pathlib import Path

from hil.errors import HilError
from hil.pinners.base import Node, Pinner, Survey, selected

DRIVER = "habanalabs"
_SUBSYSTEMS = ("accel", "habanalabs")
_PCI, _VENDOR = Path("/sys/bus/pci/devices"), "0x1da3"
# In a guest of the virtual lab (hil/lab/initramfs.py).
_LOADED, _STOCK, _CORRECTIONS = Path("/mod"), Path("/hil/stock"), Path("/hil/corrections")


def survey(only: Sequence[str] = ()) -> Survey:
    """Look at every such node, or at those that ``only`` selects."""
    pinners: list[Pinner] = []
    nodes = [node for node in left_out() if selected(only, (DRIVER, node.bus))]
    there = any(Path("/sys/class", name).exists() for name in _SUBSYSTEMS)
    for path, bus in devices() if there else ():
        name = f"{DRIVER}-{Path(path).name}"
        if not selected(only, (path, Path(path).name, DRIVER, bus, name)):
            continue
        node = Node(path, DRIVER, bus, _card(bus), "none", (), "")
        found, reason = look(node)
        pinners += found
        nodes.append(node._replace(pinners=tuple(p.name for p in found), reason=reason))
    return Survey(pinners, nodes)


def left_out() -> list[Node]:
    """Cards that no driver has taken: habanalabs is not loaded, or its probe failed."""
    found = []
    for folder in sorted(_PCI.glob("*")):
        try:
            vendor = (folder / "vendor").read_text().strip()
        except OSError:
            continue
        if vendor == _VENDOR and not (folder / "driver").exists():
            reason = f"no driver has taken it: is {DRIVER} loaded? If it is, its probe failed, and "
            reason += "the kernel log says why"
            bus = folder.name
            found.append(Node(str(folder), DRIVER, bus, _card(bus), "none", (), reason))
    return found


def devices() -> Iterator[tuple[str, str]]:
    """(node, bus address) of every compute node of the driver, in the order of their names."""
    try:
        import pyudev
    except ImportError as error:
        raise HilError(
            f"libudev can't be loaded: {error}", "install the distribution's package libudev1"
        ) from error
    context = pyudev.Context()
    found = []
    for subsystem in _SUBSYSTEMS:
        for device in context.list_devices(subsystem=subsystem):
            parent = device.parent
            if device.device_node and parent is not None and parent.driver == DRIVER:
                found.append((device.device_node, parent.sys_name))
    # accel_controlD0, hl_controlD0
    yield from sorted(item for item in found if "control" not in Path(item[0]).name)


def _card(bus: str) -> str:
    """The card's PCI identity."""
    folder = _PCI / bus
    try:
        vendor, device = ((folder / name).read_text().strip() for name in ("vendor", "device"))
    except OSError:
        return ""
    return f"{vendor[2:]}:{device[2:]}"


def look(node: Node) -> tuple[list[Pinner], str]:
    """The pinners of a node, and why there is none."""
    from hil.pinners import habanalabs_life as life
    from hil.pinners.habanalabs import HabanaPinner, open_node

    stock, loaded = (place / f"{DRIVER}.ko" for place in (_STOCK, _LOADED))
    try:
        os.close(open_node(Path(node.path)))
    except OSError as error:
        reason = _refusals.get(error.errno or 0, f"open gives {error.strerror}")
        return ([life.stock(node, None)] if error.errno == EINVAL else []), reason
    pinners: list[Pinner] = [HabanaPinner(node)]
    if loaded.exists():
        pinners.append(life.reload(node, loaded))
    pinners.append(life.reset(node))
    note = correction()
    for pinner in pinners:
        pinner.note = note
    if stock.exists():
        pinners.append(life.stock(node, stock))
    return pinners, ""


def correction() -> str:
    """What was corrected in the module that runs, in a guest of the virtual lab."""
    try:
        lines = _CORRECTIONS.read_text().splitlines()
    except OSError:
        return ""
    told = dict(line.split("\t", 1) for line in lines)
    return f"corrected {DRIVER}.ko: {told[DRIVER]}" if DRIVER in told else ""


_refusals = {
    EBUSY: "is in use by another program: the driver admits one",
    EPERM: "the driver gave the device up (EPERM), or you may not open it: see the kernel log",
    EINVAL: "every open gives EINVAL: hl_fops lacks FOP_UNSIGNED_OFFSET (drm_open_helper)",
}
