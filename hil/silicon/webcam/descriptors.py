# SPDX-License-Identifier: GPL-2.0-or-later
"""What the webcam says of itself: USB 2.0 descriptors and USB Video Class 1.0.

Sections are those of "USB Device Class Definition for Video Devices", revision 1.1, and of its
payload documents; the layouts are also in include/uapi/linux/usb/video.h.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hil.evidence.pictures import CODES, Shape, shape
from hil.system.webcam import MANUFACTURER

PRODUCT = "Self-proving webcam"
ENDPOINT = 1
BULK_PAYLOAD = 16384
"""Bytes of one bulk payload: uvcvideo makes URBs of at most 32 packets of 512 bytes."""
ISO_PAYLOAD = 3072
"""Three transactions of 1024 bytes a microframe."""
PROBE_LENGTH = 26
"""struct uvc_streaming_control up to UVC 1.0."""

_GUID_TAIL = bytes.fromhex("0000100080 0000aa00389b71")
# Y800 is V4L2's GREY (drivers/media/common/uvc.c).
_GUIDS = {"YUYV": b"YUY2", "NV12": b"NV12", "GREY": b"Y800"}
_BITS = {"YUYV": 16, "NV12": 12, "GREY": 8}
_SIZES = "320x240+640x480"
_TICKS = 10_000_000  # of 100 ns, a second


class Model(NamedTuple):
    """One webcam as it is bought: how it sends, how often, what it offers."""

    isochronous: bool
    rate: int
    """Frames a second."""
    formats: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def transfer(self) -> str:
        return "isochronous" if self.isochronous else "bulk"

    @property
    def interval(self) -> int:
        """Between frames, in 100 ns."""
        return _TICKS // self.rate

    def shape(self, format_index: int, frame_index: int) -> Shape:
        """What the host chose, by the descriptors' indices from 1 on; wrong ones mean the first."""
        code = self.formats[format_index - 1 if 0 < format_index <= len(self.formats) else 0]
        size = self.sizes[frame_index - 1 if 0 < frame_index <= len(self.sizes) else 0]
        return shape(code, *size)


def parse(text: str) -> Model:
    """A model from its short form, as ``bulk,200,YUYV+MJPG,320x240+640x480``; ValueError.

    No formats are all of them, no sizes are the two above.
    """
    transfer, rate, formats, sizes = text.split(",")
    formats, sizes = formats or "+".join(CODES), sizes or _SIZES
    if transfer not in ("bulk", "isochronous"):
        raise ValueError(f"found transfer {transfer!r}, expected bulk or isochronous")
    codes = tuple(formats.split("+"))
    for code in codes:
        if code != "MJPG" and code not in _GUIDS:
            raise ValueError(f"found format {code!r}, expected some of {', '.join(_GUIDS)}, MJPG")
    pairs = []
    for size in sizes.split("+"):
        width, _, height = size.partition("x")
        pairs.append((int(width), int(height)))
        if pairs[-1][0] % 16 or pairs[-1][1] % 16 or not all(pairs[-1]):
            raise ValueError(f"found size {size!r}, expected multiples of 16, as 320x240")
    return Model(transfer == "isochronous", max(1, int(rate)), codes, tuple(pairs))


def device() -> bytes:
    """The device descriptor: a miscellaneous device with interface associations."""
    return struct.pack(
        "<BBHBBBBHHHBBBB",
        18, 1, 0x200, 0xEF, 2, 1, 64,
        0x1D6B, 0x0102, 0x100,  # vendor, product, revision
        1, 2, 3, 1,  # strings: manufacturer, product, serial; configurations
    )  # fmt: skip


def strings(serial: str) -> tuple[str, ...]:
    """The string descriptors' texts by index; 0 is the list of languages."""
    return ("", MANUFACTURER, PRODUCT, serial)


def configuration(model: Model) -> bytes:
    """The configuration descriptor with all that belongs to it."""
    control = _control_interface()
    stream = _stream_interface(model)
    body = bytes([8, 0x0B, 0, 2, 0x0E, 3, 0, 0]) + _interface(0, 0, 0, 1) + control
    if model.isochronous:
        body += _interface(1, 0, 0, 2) + stream + _interface(1, 1, 1, 2)
        body += struct.pack("<BBBBHB", 7, 5, 0x80 | ENDPOINT, 5, 0x1400, 1)
    else:
        body += _interface(1, 0, 1, 2) + stream
        body += struct.pack("<BBBBHB", 7, 5, 0x80 | ENDPOINT, 2, 512, 0)
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 50) + body


def _interface(number: int, alternate: int, endpoints: int, subclass: int) -> bytes:
    return bytes([9, 4, number, alternate, endpoints, 0x0E, subclass, 0, 0])


def _control_interface() -> bytes:
    """3.7.2: a camera terminal without controls, straight into the terminal that streams."""
    camera = struct.pack("<BBBBHBBHHHB3s", 18, 0x24, 2, 1, 0x201, 0, 0, 0, 0, 0, 3, b"")
    output = struct.pack("<BBBBHBBB", 9, 0x24, 3, 2, 0x101, 0, 1, 0)
    units = camera + output
    return struct.pack("<BBBHHIBB", 13, 0x24, 1, 0x100, 13 + len(units), 48_000_000, 1, 1) + units


def _stream_interface(model: Model) -> bytes:
    """3.9.2: the input header, then each format with its frames."""
    formats = b"".join(_format(model, i, code) for i, code in enumerate(model.formats, 1))
    length = 13 + len(model.formats)
    header = struct.pack(
        "<BBBBHBBBBBBB",
        length, 0x24, 1, len(model.formats), length + len(formats),
        0x80 | ENDPOINT, 0, 2, 0, 0, 0, 1,
    )  # fmt: skip
    return header + bytes(len(model.formats)) + formats


def _format(model: Model, index: int, code: str) -> bytes:
    count = len(model.sizes)
    if code == "MJPG":
        head = bytes([11, 0x24, 6, index, count, 1, 1, 0, 0, 0, 0])
    else:
        guid = _GUIDS[code] + _GUID_TAIL
        tail = bytes([_BITS[code], 1, 0, 0, 0, 0])
        head = bytes([27, 0x24, 4, index, count]) + guid + tail
    frames = b"".join(
        _frame(model, 7 if code == "MJPG" else 5, i, shape(code, *size))
        for i, size in enumerate(model.sizes, 1)
    )
    return head + frames + bytes([6, 0x24, 0x0D, 1, 1, 4])


def _frame(model: Model, subtype: int, index: int, of: Shape) -> bytes:
    rate = min(of.size * 8 * model.rate, 0xFFFFFFFF)
    return struct.pack(
        "<BBBBBHHIIIIBI",
        30, 0x24, subtype, index, 0, of.width, of.height, rate, rate, of.size,
        model.interval, 1, model.interval,
    )  # fmt: skip


def probe(model: Model, wanted: bytes = b"") -> bytes:
    """4.3.1.1: what comes of the host's wish for a format and frame; the first ones without any."""
    format_index, frame_index = (wanted[2], wanted[3]) if len(wanted) >= 4 else (1, 1)
    of = model.shape(format_index, frame_index)
    return struct.pack(
        "<HBBIHHHHHII",
        1,
        model.formats.index(of.code) + 1,
        model.sizes.index((of.width, of.height)) + 1,
        model.interval,
        0, 0, 0, 0, 0,
        of.size,
        ISO_PAYLOAD if model.isochronous else BULK_PAYLOAD,
    )  # fmt: skip
