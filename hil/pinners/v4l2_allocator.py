# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of videobuf2's allocators maps the pages of a device, by what sysfs shows."""

from __future__ import annotations

from pathlib import Path


def allocator_of(device: Path, bus: str, sys_root: Path = Path("/sys")) -> str:
    """What maps pages for a device: vmalloc, dma-sg, dma-contig; unknown when sysfs does not tell.

    ``device`` is the node's folder under /sys/class/video4linux.  Evidence: which videobuf2 module
    the driver's module holds.  vivid holds two; its parameter ``allocators`` has a number for each
    instance, 1 for dma-contig (drivers/media/test-drivers/vivid/vivid-core.c).
    """
    module = _module_of(device)
    if module is None:
        return "unknown"
    held = [
        name
        for name in ("vmalloc", "dma-sg", "dma-contig")
        if (
            sys_root / "module" / f"videobuf2_{name.replace('-', '_')}" / "holders" / module
        ).exists()
    ]
    if len(held) == 1:
        return held[0]
    try:
        values = (sys_root / "module" / module / "parameters" / "allocators").read_text()
        instance = int(bus.rpartition("-")[2]) if "-" in bus else 0
        chosen = int(values.split(",")[instance])
    except (OSError, ValueError, IndexError):
        return "unknown"
    return "dma-contig" if chosen == 1 else "vmalloc"


def _module_of(device: Path) -> str | None:
    """The module of the nearest driver above a video4linux device."""
    try:
        place = (device / "device").resolve(strict=True)
    except OSError:
        return None
    while place.name and place.parent != place:
        module = place / "driver" / "module"
        if module.exists():
            return module.resolve().name
        place = place.parent
    return None
