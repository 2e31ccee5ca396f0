# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures whose every byte is known: read by their own number, and unlike their neighbours."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from hil.evidence import pictures
from hil.evidence.pictures import CARD, CODES, WEBCAM, Shape, Source, shape

SIZES = [(320, 240), (640, 480), (64, 48)]
CARD_SHAPE = Shape("BGR3", 720, 576, 2160, 2160 * 576)
SOURCES = [(WEBCAM, shape(code, *size)) for code in CODES for size in SIZES]
SOURCES.append((CARD, CARD_SHAPE))


@pytest.mark.parametrize(("source", "of"), SOURCES, ids=str)
def test_a_picture_says_its_number_and_fits_its_buffer(source: Source, of: Shape) -> None:
    for number in (0, 1, 255, 65535):
        data = source.draw(number, of)
        assert source.number(data, of) == number
        assert len(data) == of.size if of.line else len(data) <= of.size + 9000


@pytest.mark.parametrize("code", [code for code in CODES if code != "MJPG"])
def test_neighbours_differ_in_every_line(code: str) -> None:
    of = shape(code, 320, 240)
    one, other = WEBCAM.draw(7, of), WEBCAM.draw(8, of)
    for start in range(0, of.size, of.line):
        assert one[start : start + of.line] != other[start : start + of.line]
    lines = {one[start : start + of.line] for start in range(0, of.size, of.line)}
    assert len(lines) == of.size // of.line


def test_the_card_numbers_lines_and_frames() -> None:
    data = CARD.draw(0x1234, CARD_SHAPE)
    assert data[:8] == b"\x00\x00\x34\x12TW68"
    assert data[-8:] == struct.pack("<HH", 575, 0x1234) + b"TW68"


@pytest.mark.parametrize("data", [b"", b"\xaa" * 153600, bytes(64)], ids=["none", "filler", "zero"])
@pytest.mark.parametrize(("source", "of"), [SOURCES[0], SOURCES[9], SOURCES[-1]], ids=str)
def test_what_is_no_picture_has_no_number(source: Source, of: Shape, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"line|picture"):
        source.number(data, of)


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and contents of a JPEG up to its scan, then the scan, then the end (ITU-T T.81)."""
    assert data[:2] == b"\xff\xd8"
    place = 2
    while True:
        assert data[place] == 0xFF
        marker = data[place + 1]
        (length,) = struct.unpack_from(">H", data, place + 2)
        yield marker, data[place + 4 : place + 2 + length]
        place += 2 + length
        if marker == 0xDA:
            break
    yield 0, data[place:-2]
    assert data[-2:] == b"\xff\xd9"


def blocks(scan: bytes) -> list[int]:
    """The blocks' means of a scan that only has those, as differences from mid-grey."""
    data = scan.replace(b"\xff\0", b"\xff")
    bits = "".join(f"{byte:08b}" for byte in data)
    found, place, mean = [], 0, 0
    while "0" in bits[place:]:  # it is padded with ones
        category = int(bits[place : place + 4], 2)
        place += 4
        value = int(bits[place : place + category] or "0", 2)
        place += category
        if category and value < 1 << (category - 1):
            value -= (1 << category) - 1
        mean += value
        found.append(mean)
        assert bits[place] == "0"  # end of block
        place += 1
    return found


def test_a_compressed_picture_is_a_jpeg() -> None:
    data = pictures.webcam(7, shape("MJPG", 320, 240))
    parts = dict(segments(data))
    assert struct.unpack_from(">BHHB", parts[0xC0]) == (8, 240, 320, 1)
    found = blocks(parts[0])
    assert len(found) == 40 * 30
    assert found[0] == 16 + 7
    assert b"\xff\xd9" not in parts[0]


def test_compressed_pictures_have_many_lengths() -> None:
    of = shape("MJPG", 320, 240)
    assert len({len(pictures.webcam(number, of)) for number in range(50)}) == 50
