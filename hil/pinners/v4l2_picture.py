# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices whose pictures are known byte for byte (hil/evidence/pictures.py).

Which device that is, is told by what it says of itself, never by its driver: a real webcam and a
real card have the same driver and other pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.evidence.pictures import CARD, WEBCAM, Shape, Source
from hil.pinners.base import Node, Transfer
from hil.pinners.v4l2_data import Capture
from hil.system import webcam
from hil.uapi import v4l2 as uapi
from hil.uapi import v4l2_sizes

if TYPE_CHECKING:
    from hil.pinners.v4l2 import Queue, V4l2Session

_PCI = Path("/sys/bus/pci/devices")
_CARD_IDS = ("0x1797", "0x6800", "0x1af4", "0x1100")
"""Vendor, device, and QEMU's subsystem ids, which no real card has (hil/silicon/tw68.py)."""
# A field has every other line of the picture, from the first or the second on.
_LINES = {v4l2_sizes.V4L2_FIELD_TOP: (0, 2), v4l2_sizes.V4L2_FIELD_BOTTOM: (1, 2)}


def source_of(node: Node) -> Source | None:
    """Whose pictures a node gives; None when they are not known."""
    if node.driver == "uvcvideo" and webcam.serial_of(Path(node.path)) is not None:
        return WEBCAM
    if node.driver == "tw68" and _ids(_PCI / node.bus.partition(":")[2]) == _CARD_IDS:
        return CARD
    return None


def _ids(device: Path) -> tuple[str, ...]:
    try:
        return tuple(
            (device / name).read_text().strip()
            for name in ("vendor", "device", "subsystem_vendor", "subsystem_device")
        )
    except OSError:
        return ()


def shape_of(wanted: Any) -> Shape:
    """The shape of a picture in a single-planar format."""
    pix = uapi.pix_format(wanted)
    code = pix.pixelformat.to_bytes(4, "little").decode("ascii", "replace")
    line = 0 if code == "MJPG" else pix.bytesperline
    first, step = _LINES.get(pix.field, (0, 1))
    return Shape(code, pix.width, pix.height, line, pix.sizeimage, first, step)


class Pictured(Capture):
    """A queue of a device whose pictures are known."""

    def __init__(self, node: Path, queue: Queue, source: Source) -> None:
        super().__init__(node, queue)
        self.source = source

    def learn(self) -> dict[str, Any]:
        return {}

    def compared(self, session: V4l2Session, before: bytes, arrived: bytes, used: int) -> Transfer:
        shape = shape_of(session.format())
        try:
            number = self.source.number(arrived[:used], shape)
            how = f"{self.source.name}, frame {number}, {shape.code} {shape.width}x{shape.height}"
        except ValueError as error:
            # No frame of this source at all; any will do to compare with.
            number, how = 0, f"{self.source.name}: {error}"
        sent = self.source.draw(number, shape)
        return Transfer(sent + before[len(sent) :], arrived, how, before)
