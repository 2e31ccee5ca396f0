# SPDX-License-Identifier: GPL-2.0-or-later
"""Which QEMU runs a guest: the host's own, or a newer one of Debian's archive, in the cache.

The one of the archive is unpacked and not installed: its own loader and libraries start it.  It
has vfio-user-pci, the quicker of the two devices that a PCI device model can stand behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import hosttools, packages
from hil.lab.architectures import ARCHITECTURES, own
from hil.lab.progress import Say, quiet

SOURCES = ("host", "archive")
SUITE = "trixie-backports"
"""The first suite whose QEMU has vfio-user-pci (10.1 and later)."""
_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm", "arm": "qemu-system-arm"}
_DATA = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")


class Program(NamedTuple):
    """A QEMU: how it is called, what it says of itself, what tells it from another."""

    argv: tuple[str, ...]
    version: str
    identity: tuple[object, ...]


def get(source: str, arch: str = "x86_64", say: Say = quiet) -> Program:
    """The QEMU of one of SOURCES; HilError when it is not there and can't be had."""
    makers: dict[str, Callable[[str, Say], Program]] = {"host": _host, "archive": _archive}
    return makers[source](arch, say)


def _host(arch: str, _: Say) -> Program:
    emulator = ARCHITECTURES[arch].emulator
    path = hosttools.need(emulator, "A lab machine runs the suite without: pytest -m hw.")
    status = path.resolve().stat()
    argv = (str(path),)
    return Program(argv, _version(argv), (status.st_size, status.st_mtime_ns))


def _archive(arch: str, say: Say) -> Program:
    tree = packages.closure(SUITE, (_PACKAGES[arch],), own().debian, say=say)
    argv = _unpacked(tree.folder, arch)
    return Program(argv, _version(argv), (tree.identity,))


def _unpacked(folder: Path, arch: str) -> tuple[str, ...]:
    here = own()
    libraries = folder / "usr/lib" / here.triplet
    argv = [str(folder / here.loader), "--library-path", str(libraries)]
    argv += [str(folder / "usr/bin" / ARCHITECTURES[arch].emulator)]
    for data in _DATA:
        argv += ["-L", str(folder / data)]
    return tuple(argv)


def in_cache(arch: str = "x86_64") -> str:
    """The version of the archive's QEMU that is in the cache; empty when none is."""
    found = packages.cached(SUITE, (_PACKAGES[arch],), own().debian)
    return found.packages.get(_PACKAGES[arch], "") if found else ""


def _version(argv: tuple[str, ...]) -> str:
    try:
        told = hosttools.run([*argv, "--version"]).decode(errors="replace")
    except (hosttools.ToolError, OSError) as error:
        raise HilError(
            f"{argv[-1]} does not run: {error}", "`hil doctor` checks QEMU; install it again."
        ) from error
    return told.splitlines()[0] if told else f"{argv[0]} says nothing"


_devices: dict[tuple[Program, str], bool] = {}


def devices(program: Program, names: Iterable[str]) -> frozenset[str]:
    """Those of ``names`` that its ``-device`` takes; asked once a process.

    One by one: the list of all has every module loaded, and one that fails ends QEMU.
    """
    for name in names:
        if (program, name) not in _devices:
            told = hosttools.run([*program.argv, "-device", f"{name},help"])
            _devices[program, name] = told.startswith(f"{name} options".encode())
    return frozenset(name for name in names if _devices[program, name])
