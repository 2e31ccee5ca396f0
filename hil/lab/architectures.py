# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between the architectures of virtual machines."""

from __future__ import annotations

import platform
from typing import NamedTuple

from hil.errors import HilError


class Architecture(NamedTuple):
    """One of them, named as ``uname -m`` and QEMU do."""

    name: str
    debian: str
    triplet: str
    loader: str
    """The dynamic loader in a Debian root."""
    machines: tuple[str, ...]
    """QEMU's machine types that boards may name."""
    console: str

    @property
    def emulator(self) -> str:
        return f"qemu-system-{self.name}"

    @property
    def native(self) -> bool:
        """Whether this machine runs its programs."""
        return platform.machine() == self.name


_ALL = (
    Architecture(
        "x86_64", "amd64", "x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2", ("q35",), "ttyS0"
    ),
    Architecture(
        "aarch64", "arm64", "aarch64-linux-gnu", "lib/ld-linux-aarch64.so.1", ("virt",), "ttyAMA0"
    ),
    Architecture(
        "arm", "armhf", "arm-linux-gnueabihf", "lib/ld-linux-armhf.so.3", ("virt",), "ttyAMA0"
    ),
)
ARCHITECTURES: dict[str, Architecture] = {one.name: one for one in _ALL}


def own() -> Architecture:
    """This machine's; HilError when it is none that is known here."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise HilError(
            f"this machine is {machine}, whose programs are not known here",
            f"The virtual lab runs on {' and '.join(one.name for one in _ALL[:2])}.",
        )
    return ARCHITECTURES[machine]
