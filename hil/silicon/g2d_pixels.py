# SPDX-License-Identifier: GPL-2.0-or-later
"""Pixels as the Samsung G2D has them in memory, and pictures of them.

A colour mode is a register's value: bits 0 to 3 the layout, bits 4 and 5 the order of the channels
(drivers/media/platform/samsung/s5p-g2d/g2d-regs.h, drivers/gpu/drm/exynos/exynos_drm_g2d.c).
Pixels are little endian.  A channel that grows repeats its upper bits, one that shrinks drops its
lower ones; how the real silicon rounds is not claimed.
"""

from __future__ import annotations

from typing import NamedTuple

# bytes a pixel, and bits of alpha or padding, red, green, blue from the top down
_LAYOUTS = {
    0: (4, (8, 8, 8, 8), False),  # XRGB8888
    1: (4, (8, 8, 8, 8), True),  # ARGB8888
    2: (2, (0, 5, 6, 5), False),  # RGB565
    3: (2, (1, 5, 5, 5), False),  # XRGB1555
    4: (2, (1, 5, 5, 5), True),  # ARGB1555
    5: (2, (4, 4, 4, 4), False),  # XRGB4444
    6: (2, (4, 4, 4, 4), True),  # ARGB4444
    7: (3, (0, 8, 8, 8), False),  # packed RGB888
}
# where alpha, red, green, blue stand in each order, from the top down
_ORDERS = {0: "argb", 1: "rgba", 2: "abgr", 3: "bgra"}


class UnsupportedError(Exception):
    """The model has no such function: the picture stays as it was."""


class Format(NamedTuple):
    """One colour mode."""

    size: int
    """Bytes a pixel."""
    fields: tuple[tuple[str, int, int], ...]
    """Channel, lowest bit, bits."""
    alpha: bool
    """False: what stands in the place of alpha is padding, and opaque."""


def format_of(mode: int) -> Format:
    """The format of a colour mode; UnsupportedError for eight-bit and planar ones."""
    layout = _LAYOUTS.get(mode & 15)
    if layout is None:
        raise UnsupportedError(f"colour mode {mode:#x}")
    size, (a, r, g, b), alpha = layout
    bits = {"a": a, "r": r, "g": g, "b": b}
    fields, low = [], 0
    for channel in reversed(_ORDERS[mode >> 4 & 3]):
        fields.append((channel, low, bits[channel]))
        low += bits[channel]
    return Format(size, tuple(f for f in fields if f[2]), alpha)


def unpack(pixel: bytes, form: Format) -> dict[str, int]:
    """Eight bits of each channel."""
    value = int.from_bytes(pixel, "little")
    found = {"a": 255}
    for channel, low, bits in form.fields:
        if channel == "a" and not form.alpha:
            continue
        found[channel] = _widen(value >> low & (1 << bits) - 1, bits)
    return found


def pack(channels: dict[str, int], form: Format) -> bytes:
    """A pixel of eight-bit channels; padding is 0."""
    value = 0
    for channel, low, bits in form.fields:
        if channel != "a" or form.alpha:
            value |= channels[channel] >> 8 - bits << low
    return value.to_bytes(form.size, "little")


def _widen(value: int, bits: int) -> int:
    """Eight bits of a channel that has fewer: its bits are repeated."""
    value <<= 8 - bits
    filled = bits
    while filled < 8:
        value |= value >> filled
        filled *= 2
    return value


def convert(row: bytes, source: int, target: int) -> bytes:
    """A row of pixels from one colour mode into another."""
    if source == target:
        return row
    one, other = format_of(source), format_of(target)
    known: dict[bytes, bytes] = {}
    made = []
    for at in range(0, len(row), one.size):
        pixel = row[at : at + one.size]
        if pixel not in known:
            known[pixel] = pack(unpack(pixel, one), other)
        made.append(known[pixel])
    return b"".join(made)


def mirror(row: bytes, size: int) -> bytes:
    """The row's pixels of ``size`` bytes, right to left."""
    return b"".join(row[at : at + size] for at in range(len(row) - size, -1, -size))


def stretch(row: bytes, size: int, width: int) -> bytes:
    """The row in ``width`` pixels, the nearest one of it for each."""
    present = len(row) // size
    if present == width:
        return row
    starts = (x * present // width * size for x in range(width))
    return b"".join(row[at : at + size] for at in starts)


def raster(code: int, source: bytes, target: bytes) -> bytes:
    """A raster operation of three operands, bit by bit, with a pattern of zeros.

    ``code`` is its truth table by pattern, source, target: 0xCC copies, 0x33 inverts.
    """
    if code == 0xCC:
        return source
    length = len(source)
    ones = (1 << 8 * length) - 1
    s, d = int.from_bytes(source, "little"), int.from_bytes(target, "little")
    made = 0
    for index, (left, right) in enumerate(((~s, ~d), (~s, d), (s, ~d), (s, d))):
        if code >> index & 1:
            made |= left & right
    return (made & ones).to_bytes(length, "little")
