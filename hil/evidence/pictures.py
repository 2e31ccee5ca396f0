# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures that prove themselves: every byte follows from the frame's number and its place.

The device models draw them (hil/silicon/), the pinners look for them in what arrived.  A picture is
read by its own number, so that a frame too early, too late or half of another is told from a wrong
byte.  Two pictures of neighbouring numbers differ in every line.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

_RAMP = bytes(range(256)) * 64
_LINE = struct.Struct("<IHH")
_JPEG_MARK = b"USERPTR\0"
_JPEG_NUMBER_AT = 6 + len(_JPEG_MARK)
"""After SOI and the marker and length of a comment."""


class Shape(NamedTuple):
    """What a picture looks like in memory."""

    code: str
    """V4L2's four-character code: YUYV, NV12, GREY, MJPG."""
    width: int
    height: int
    line: int
    """Bytes from one line to the next; 0 in a compressed format."""
    size: int
    """Bytes that a buffer must have."""
    first: int = 0
    step: int = 1
    """Of an interlaced source's lines the first one, and how many to the next: 2 in one field."""


def shape(code: str, width: int, height: int) -> Shape:
    """The shape of a webcam's picture without padding; KeyError for a format that it has not."""
    per_line, rows = _LAYOUTS[code]
    line = width * per_line
    size = width * height if code == "MJPG" else line * rows(height)
    return Shape(code, width, height, line, size)


# Bytes a pixel within a line, and lines for a height; a compressed picture has no lines.
_LAYOUTS: dict[str, tuple[int, Callable[[int], int]]] = {
    "YUYV": (2, lambda height: height),
    "NV12": (1, lambda height: height * 3 // 2),
    "GREY": (1, lambda height: height),
    "MJPG": (0, lambda height: 0),
}
CODES = tuple(_LAYOUTS)


def webcam(number: int, of: Shape) -> bytes:
    """Frame ``number`` of the Python webcam: as long as what is sent, less than ``size`` for MJPG.

    Each line has the frame's number (4 bytes), its own (2), that one inverted (2), and a ramp that
    both of them shift.
    """
    number &= 0xFFFFFFFF
    if of.code == "MJPG":
        return _jpeg(number, of.width, of.height)
    head, rest = _LINE.pack, of.line - _LINE.size
    lines = []
    for line in range(of.size // of.line):
        start = (7 * number + 13 * line) & 255
        lines.append(head(number, line, line ^ 0xFFFF) + _RAMP[start : start + rest])
    return b"".join(lines)


def webcam_number(data: bytes, of: Shape) -> int:
    """The number that a frame of the Python webcam says it has; ValueError when it says none."""
    if of.code != "MJPG":
        if len(data) < _LINE.size:
            raise ValueError("shorter than a line's head")
        number, line, inverted = _LINE.unpack_from(data)
        if (line, inverted) != (0, 0xFFFF):
            raise ValueError(f"begins with {data[:8].hex()}, which is no first line")
        return int(number)
    if data[6:_JPEG_NUMBER_AT] != _JPEG_MARK or len(data) < _JPEG_NUMBER_AT + 4:
        raise ValueError(f"begins with {data[:16].hex()}, which is no picture of the webcam")
    return int.from_bytes(data[_JPEG_NUMBER_AT : _JPEG_NUMBER_AT + 4], "little")


# --- JPEG: one grey component, of which only the blocks' means are coded (ITU-T T.81) -----------

_DC_CODES = 9
"""Categories 0 to 8, a code of four bits for each; AC has one code, 0, for the end of the block."""
_STEPS = (1, -1, 2, -2, 3, -3, 1, -1)
"""How much brighter each block is than the one before, over and over."""
_scans: dict[tuple[int, int, int], bytes] = {}


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _difference(value: int) -> str:
    """A block whose mean differs by ``value`` from the last: category, bits, end of block."""
    category = abs(value).bit_length()
    bits = value if value >= 0 else value + (1 << category) - 1
    return f"{category:04b}" + (f"{bits:0{category}b}" if category else "") + "0"


def _scan(width: int, height: int, first: int) -> bytes:
    """The entropy-coded picture; ``first`` is how much its first block differs from mid-grey."""
    if (width, height, first) not in _scans:
        blocks = -(-width // 8) * -(-height // 8)
        cycle = "".join(map(_difference, _STEPS))
        rest, more = divmod(blocks - 1, len(_STEPS))
        bits = _difference(first) + cycle * rest + "".join(map(_difference, _STEPS[:more]))
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big")
        _scans[width, height, first] = data.replace(b"\xff", b"\xff\0")
    return _scans[width, height, first]


def _jpeg(number: int, width: int, height: int) -> bytes:
    """A baseline JPEG whose comment has the frame's number and, for its length to vary, a ramp."""
    filler = 512 + number * 977 % 6007
    start = 7 * number & 255
    counts = bytes([0, 0, 0, _DC_CODES, *[0] * 12]) + bytes(range(_DC_CODES))
    return b"".join(
        (
            b"\xff\xd8",
            _segment(
                0xFE,
                _JPEG_MARK + number.to_bytes(4, "little") + _RAMP[start : start + filler],
            ),
            _segment(0xDB, b"\0" + bytes([8] * 64)),
            _segment(0xC0, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)),
            _segment(0xC4, b"\0" + counts),
            _segment(0xC4, b"\x10" + bytes([1, *[0] * 15]) + b"\0"),
            _segment(0xDA, b"\x01\x01\0\0\x3f\0"),
            _scan(width, height, 16 + number % 16),
            b"\xff\xd9",
        )
    )


# --- the capture card ----------------------------------------------------------------------------

CARD_MARK = b"TW68"
_CARD = struct.Struct("<HH4s")


def card_line(number: int, line: int, length: int) -> bytes:
    """Line ``line`` of frame ``number`` of the Python capture card: both, and a mark, repeated."""
    unit = _CARD.pack(line & 0xFFFF, number & 0xFFFF, CARD_MARK)
    return (unit * (length // _CARD.size + 1))[:length]


def card(number: int, of: Shape) -> bytes:
    """Frame ``number`` of the Python capture card."""
    count = of.size // of.line
    lines = range(of.first, of.first + of.step * count, of.step)
    return b"".join(card_line(number, line, of.line) for line in lines)


def card_number(data: bytes, of: Shape) -> int:
    """The number that a frame of the Python capture card says it has; ValueError: it says none."""
    if len(data) < _CARD.size:
        raise ValueError("shorter than a line's head")
    line, number, mark = _CARD.unpack_from(data)
    if (line, mark) != (of.first, CARD_MARK):
        raise ValueError(f"begins with {data[:8].hex()}, which is no first line")
    return int(number)


class Source(NamedTuple):
    """A kind of device whose pictures are known."""

    name: str
    draw: Callable[[int, Shape], bytes]
    number: Callable[[bytes, Shape], int]


WEBCAM = Source("the Python webcam", webcam, webcam_number)
CARD = Source("the Python capture card", card, card_number)
