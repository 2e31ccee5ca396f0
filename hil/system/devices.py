# SPDX-License-Identifier: GPL-2.0-or-later
"""The device behind a video node, and how it is taken away and brought back through sysfs.

Documentation/ABI/testing/sysfs-bus-usb (authorized), sysfs-bus-pci (remove, rescan),
Documentation/driver-api/driver-model/driver.rst (bind, unbind).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_CLASS = Path("/sys/class/video4linux")
RESCAN = Path("/sys/bus/pci/rescan")


class Device(NamedTuple):
    """``bus`` is usb or pci; ``path`` its folder below /sys/devices."""

    bus: str
    path: Path

    def driven(self) -> list[Path]:
        """What a driver is bound to, in the order to bind again: the device or its interfaces."""
        if self.bus == "pci":
            return [self.path] if (self.path / "driver").exists() else []
        return [p for p in sorted(self.path.glob(f"{self.path.name}:*")) if (p / "driver").exists()]

    def remove(self) -> None:
        """Have the bus forget it, as if it were pulled out."""
        if self.bus == "usb":
            (self.path / "authorized").write_text("0")
        else:
            (self.path / "remove").write_text("1")

    def back(self) -> tuple[Path, str]:
        """What to write where for it to come back."""
        return (self.path / "authorized", "1") if self.bus == "usb" else (RESCAN, "1")


def behind(node: Path, devices: Path = _CLASS) -> Device | None:
    """The PCI or USB device of a video node; None when it is on another bus."""
    place = (devices / node.name / "device").resolve()
    while place.name:
        if (place / "idVendor").exists():
            return Device("usb", place)
        if (place / "subsystem_vendor").exists():
            return Device("pci", place)
        place = place.parent
    return None
