# SPDX-License-Identifier: GPL-2.0-or-later
"""Boards as data: what a machine under test is, real or virtual."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil import tables
from hil.conditions import all_conditions
from hil.errors import HilError
from hil.lab.architectures import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ROOT / "lab-config" / "boards"
FILESYSTEMS = ("ext4", "xfs", "btrfs", "swap", "devdax")
TRANSPORTS = ("", "pci-proxy", "vfio-user", "registers")


@dataclass(frozen=True)
class Node:
    """A NUMA node's RAM that is there at boot."""

    size: str


@dataclass(frozen=True)
class Dimm:
    """RAM that the kernel hot-adds from ACPI, in a NUMA node of its own."""

    size: str
    node: int


@dataclass(frozen=True)
class Pmem:
    """A piece of RAM that the kernel shows as /dev/pmemN, filled on the host before boot.

    ``filesystem`` is one of FILESYSTEMS; ``devdax`` makes it a device-dax character device.
    """

    size: str
    filesystem: str
    mount: str = ""
    options: str = ""


@dataclass(frozen=True)
class Silicon:
    """A device model in Python that runs beside QEMU (hil/silicon/)."""

    model: str
    """A name of hil/silicon/models.py, or "FILE.py:Class"."""
    transport: str = ""
    """One of TRANSPORTS; empty for a PCI device is whichever the QEMU has."""
    address: str = ""
    """registers: the guest-physical address of the reserved RAM that holds them."""
    interrupt: str = ""
    """registers: "QOM-PATH GPIO-NAME NUMBER" of the interrupt controller's input."""
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """A virtual machine's hardware."""

    arch: str
    type: str
    nodes: tuple[Node, ...]
    cpu: str = "max"
    cpu_emulated: str = "max"
    """The same under TCG, where some features cost more than they bring."""
    cpus: int = 2
    cpus_for_cells: int = 2
    """CPUs that stay online when the guest is up; with fewer, more guests run side by side."""
    dimms: tuple[Dimm, ...] = ()
    pmem: tuple[Pmem, ...] = ()
    pmem_start: str = "4G"
    """The guest-physical address of the first piece of pmem."""
    devices: tuple[str, ...] = ()
    silicon: tuple[Silicon, ...] = ()
    """Device models; a board with a PCI one boots cold, for QEMU does not know its state."""
    command_line: str = ""
    device_tree: str = ""
    """An overlay for QEMU's device tree: a source file beside the project's boards, or a path."""


@dataclass(frozen=True)
class RamDisk:
    """A RAM disk that the guest makes a file system on: where there is no persistent memory."""

    size: str
    filesystem: str
    mount: str = ""


@dataclass(frozen=True)
class Webcam:
    """A webcam in Python that a guest plugs into its own virtual USB host controller."""

    transfer: str = "bulk"
    """"bulk" or "isochronous"."""
    rate: int = 200
    """Frames a second."""
    formats: tuple[str, ...] = ()
    """Of YUYV, NV12, GREY and MJPG; empty is all."""
    sizes: tuple[str, ...] = ()
    """As "320x240"; empty is that and 640x480."""

    @property
    def model(self) -> str:
        """In the short form that ``python -m hil.silicon.webcam`` takes."""
        parts = (self.transfer, str(self.rate), "+".join(self.formats), "+".join(self.sizes))
        return ",".join(parts)


@dataclass(frozen=True)
class Guest:
    """What runs inside a virtual machine before the suite does."""

    drivers: tuple[str, ...] = ()
    """Modules that bring the devices under test; loaded first."""
    modules: tuple[str, ...] = ()
    """Modules that the memory classes need."""
    ramdisks: tuple[RamDisk, ...] = ()
    build: tuple[str, ...] = ()
    """Drivers that stock kernels lack: recipes of lab-config/drivers, loaded in this order."""
    unmodified: tuple[str, ...] = ()
    """Modules that are built without the corrections of their source."""
    packages: tuple[str, ...] = ()
    """Debian packages that the image has besides, for the clients."""
    clients: tuple[str, ...] = ()
    """Test programs of others, as shell commands: run by ``hil run --clients``."""
    module_options: dict[str, str] = field(default_factory=dict)
    firmware: dict[str, str] = field(default_factory=dict)
    """Files of zeros that stand for a device's firmware: name below /lib/firmware, size."""
    webcams: tuple[Webcam, ...] = ()
    """They need the drivers vhci_hcd and uvcvideo."""
    scratch: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Which part of the suite a board runs; empty means all of it."""

    devices: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    control: bool = True
    """Whether a virtual board runs the control's cells beside the drivers'."""


@dataclass(frozen=True)
class Board:
    """One machine under test.  ``kind`` is "virtual" (QEMU) or "local" (this very machine)."""

    name: str
    kind: str
    summary: str = ""
    machine: Machine | None = None
    guest: Guest = field(default_factory=Guest)
    suite: Suite = field(default_factory=Suite)
    scratch: dict[str, str] = field(default_factory=dict)
    text: str = field(default="", repr=False)
    """The board file itself: a guest gets it as it is."""


def lasting(name: str) -> str:
    """A board's name, or its file's whole path: found from another folder too."""
    return str(Path(name).absolute()) if name.endswith(".toml") else name


def load(name: str) -> Board:
    """The board called ``name`` in lab-config/boards, or that of the TOML file ``name``."""
    path = Path(name) if name.endswith(".toml") else BOARDS / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in BOARDS.glob("*.toml")))
        raise HilError(
            f"no board {name!r}: {path} does not exist",
            f"Boards here: {known}. A path that ends in .toml names a board file of your own.",
        )
    board = tables.build(Board, {**_whole(path), "text": path.read_text()}, str(path))
    _check(board, path)
    return board


def _whole(path: Path) -> dict[str, Any]:
    """The file's tables, over those of the board that its key ``base`` names."""
    content = tables.load(path)
    base = content.pop("base", None)
    if base is None:
        return content
    under = BOARDS / f"{base}.toml"
    if not isinstance(base, str) or not under.exists() or under == path:
        raise HilError(
            f"{path}: base: found {base!r}", "Expected the name of another board of the project."
        )
    return _over(_whole(under), content)


def _over(under: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """Tables key by key; everything else, arrays of tables too, takes the place of what was."""
    merged = dict(under)
    for key, value in content.items():
        there = under.get(key)
        both = isinstance(value, dict) and isinstance(there, dict)
        merged[key] = _over(there, value) if both and there is not None else value
    return merged


def overlay(machine: Machine) -> Path:
    """The file that ``device-tree`` names."""
    name = Path(machine.device_tree)
    return name if name.is_absolute() else BOARDS / name


def _check(board: Board, path: Path) -> None:
    if board.kind not in ("virtual", "local"):
        raise HilError(
            f"{path}: kind: found {board.kind!r}, expected 'virtual' or 'local'",
            "A virtual board is booted in QEMU; a local one is the machine the suite starts on.",
        )
    if board.kind == "virtual" and board.machine is None:
        raise HilError(f"{path}: a virtual board needs a [machine] table", "See virtual-x86.toml.")
    for i, webcam in enumerate(board.guest.webcams):
        from hil.silicon.webcam import descriptors  # few boards need it

        try:
            descriptors.parse(webcam.model)
        except ValueError as error:
            raise HilError(
                f"{path}: guest.webcams[{i}]: {error}", "See docs/boards/capture.md."
            ) from None
    if board.machine is None:
        return
    tables.size(board.machine.pmem_start, f"{path}: machine.pmem-start")
    for i, pmem in enumerate(board.machine.pmem):
        tables.size(pmem.size, f"{path}: machine.pmem[{i}]: size")
        if pmem.filesystem not in FILESYSTEMS:
            raise HilError(
                f"{path}: machine.pmem[{i}]: found filesystem {pmem.filesystem!r}",
                f"Expected one of {', '.join(FILESYSTEMS)}.",
            )
    sizes = [n.size for n in board.machine.nodes] + [d.size for d in board.machine.dimms]
    for i, size in enumerate(sizes):
        tables.size(size, f"{path}: machine: memory part {i}: size")
    arch = ARCHITECTURES.get(board.machine.arch)
    for key, found, expected in (
        ("arch", board.machine.arch, tuple(ARCHITECTURES)),
        ("type", board.machine.type, arch.machines if arch else ()),
    ):
        if found not in expected:
            raise HilError(
                f"{path}: machine.{key}: found {found!r}", f"Expected {' or '.join(expected)}."
            )
    if board.machine.device_tree and not overlay(board.machine).exists():
        raise HilError(
            f"{path}: machine.device-tree: {overlay(board.machine)} does not exist",
            "It is the source of an overlay (dtc -@ -I dts).",
        )
    if board.machine.pmem and board.machine.type != "q35":
        raise HilError(
            f"{path}: machine.pmem: only an x86 kernel makes it of RAM (memmap=)",
            "Use [[guest.ramdisks]].",
        )
    for i, disk in enumerate(board.guest.ramdisks):
        tables.size(disk.size, f"{path}: guest.ramdisks[{i}]: size")
        if disk.filesystem not in FILESYSTEMS[:4]:
            raise HilError(
                f"{path}: guest.ramdisks[{i}]: found filesystem {disk.filesystem!r}",
                f"Expected one of {', '.join(FILESYSTEMS[:4])}.",
            )
    for name, size in board.guest.firmware.items():
        tables.size(size, f"{path}: guest.firmware: {name}")
    for i, silicon in enumerate(board.machine.silicon):
        _check_silicon(silicon, f"{path}: machine.silicon[{i}]")
    conditions = all_conditions()
    for name in board.suite.conditions:
        if name not in conditions:
            raise HilError(
                f"{path}: suite.conditions: found {name!r}",
                f"Expected some of {', '.join(conditions)}.",
            )


def _check_silicon(silicon: Silicon, where: str) -> None:
    if silicon.transport not in TRANSPORTS:
        raise HilError(
            f"{where}: transport: found {silicon.transport!r}",
            f"Expected one of {', '.join(filter(None, TRANSPORTS))}, or none for a PCI device.",
        )
    placed = silicon.transport == "registers"
    for key, value in (("address", silicon.address), ("interrupt", silicon.interrupt)):
        if placed != bool(value):
            raise HilError(
                f"{where}: {key}: found {value!r}",
                'It goes with transport = "registers", and with nothing else.',
            )
    if not placed:
        return
    words = silicon.interrupt.split()
    if len(words) != 3 or not words[2].isdecimal():
        raise HilError(
            f"{where}: interrupt: found {silicon.interrupt!r}",
            "Expected three words, such as '/machine/q35/ioapic unnamed-gpio-in 5'.",
        )
    try:
        int(silicon.address, 0)
    except ValueError:
        raise HilError(
            f"{where}: address: found {silicon.address!r}", "Expected a number such as 0x3f000000."
        ) from None
