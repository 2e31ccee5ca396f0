# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine of the Samsung G2D: one job, given its registers.

It fills, copies, stretches, mirrors and combines pictures in the guest's RAM.  Registers:
drivers/media/platform/samsung/s5p-g2d/g2d-regs.h and drivers/gpu/drm/exynos/exynos_drm_g2d.c.  Not
modelled: blending, colour keys, rotation, masks, patterns, eight-bit and planar formats, and the
filters of the real scaler, in whose place the nearest pixel is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hil.silicon import g2d_pixels as pixels
from hil.silicon.g2d_pixels import UnsupportedError
from hil.silicon.guest_memory import GuestMemory

BITBLT_COMMAND = 0x104
SRC_MSK_DIRECT, DST_PAT_DIRECT = 0x204, 0x208
SRC_SELECT, SRC_BASE_ADDR, SRC_STRIDE, SRC_COLOR_MODE = 0x300, 0x304, 0x308, 0x30C
SRC_LEFT_TOP, SRC_RIGHT_BOTTOM = 0x310, 0x314
DST_BASE_ADDR, DST_STRIDE, DST_COLOR_MODE = 0x404, 0x408, 0x40C
DST_LEFT_TOP, DST_RIGHT_BOTTOM = 0x410, 0x414
CW_LT, CW_RB = 0x600, 0x604
ROP4 = 0x614
FG_COLOR, BG_COLOR, SF_COLOR = 0x700, 0x704, 0x70C

FAST_FILL, CLIP, BLEND = 1 << 28, 1 << 8, 3 << 20

NEVER = b"hil: this job never completes"
"""A picture that begins with these bytes is never finished: the engine hangs, as hardware may."""


class Rectangle(NamedTuple):
    """left and top are in it, right and bottom are not."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of(cls, left_top: int, right_bottom: int) -> Rectangle:
        """Of two registers: x in bits 0 to 12, y in bits 16 to 28."""
        return cls(
            left_top & 0x1FFF, left_top >> 16 & 0x1FFF,
            right_bottom & 0x1FFF, right_bottom >> 16 & 0x1FFF,
        )  # fmt: skip

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


class HungError(Exception):
    """The job never completes."""


class Engine:
    """What does one job, given its registers."""

    def __init__(self, memory: GuestMemory, *, corrupt: bool = False) -> None:
        """``corrupt`` has one bit of each job's result wrong: what the data checks must notice."""
        self.memory, self.corrupt = memory, corrupt

    def run(self, registers: Mapping[int, int]) -> str:
        """Do the job; what was done, in words.

        UnsupportedError, BusError: what is beyond the model or the RAM.  HungError.
        """
        command = registers.get(BITBLT_COMMAND, 0)
        target = Rectangle.of(registers.get(DST_LEFT_TOP, 0), registers.get(DST_RIGHT_BOTTOM, 0))
        base, stride = registers.get(DST_BASE_ADDR, 0), registers.get(DST_STRIDE, 0)
        mode = registers.get(DST_COLOR_MODE, 0)
        size = pixels.format_of(mode).size
        if target.width < 1 or target.height < 1:
            return f"an empty target {target.width}x{target.height}"
        if command & BLEND:
            raise UnsupportedError("blending")
        if command & FAST_FILL:
            what = f"fill with {registers.get(SF_COLOR, 0):#x}"
            rows = [_solid(registers.get(SF_COLOR, 0), size) * target.width] * target.height
        else:
            what, rows = self._source(registers, mode, target)
        clip = target
        if command & CLIP:
            window = Rectangle.of(registers.get(CW_LT, 0), registers.get(CW_RB, 0))
            clip = Rectangle(*map(max, target[:2], window[:2]), *map(min, target[2:], window[2:]))
        rop = registers.get(ROP4, 0xCCCC) & 0xFF
        for y in range(clip.top, clip.bottom):
            at = base + y * stride + clip.left * size
            row = rows[y - target.top]
            row = row[(clip.left - target.left) * size : (clip.right - target.left) * size]
            if not command & FAST_FILL and rop != 0xCC:
                row = pixels.raster(rop, row, self.memory.read(at, len(row)))
            self.memory.write(at, row)
        if self.corrupt and clip.width > 0 and clip.height > 0:
            at = base + (clip.top + clip.bottom) // 2 * stride + clip.left * size
            self.memory.write(at, bytes([self.memory.read(at, 1)[0] ^ 1]))
        return (
            f"{what} -> {base:#x} stride {stride} {target.width}x{target.height}"
            f"+{target.left}+{target.top} mode {mode:#x}"
        )

    def _source(
        self, registers: Mapping[int, int], mode: int, target: Rectangle
    ) -> tuple[str, list[bytes]]:
        """The rows that are to be written, as wide and as many as the target's."""
        select = registers.get(SRC_SELECT, 0) & 3
        if select:
            colour = registers.get(FG_COLOR if select == 1 else BG_COLOR, 0)
            row = _solid(colour, pixels.format_of(mode).size) * target.width
            return f"colour {colour:#x}", [row] * target.height
        base, stride = registers.get(SRC_BASE_ADDR, 0), registers.get(SRC_STRIDE, 0)
        own = registers.get(SRC_COLOR_MODE, 0)
        size = pixels.format_of(own).size
        area = Rectangle.of(registers.get(SRC_LEFT_TOP, 0), registers.get(SRC_RIGHT_BOTTOM, 0))
        if area.width < 1 or area.height < 1:
            raise UnsupportedError(f"an empty source {area.width}x{area.height}")
        rows = [
            self.memory.read(base + y * stride + area.left * size, area.width * size)
            for y in range(area.top, area.bottom)
        ]
        if rows[0].startswith(NEVER):
            raise HungError
        flips = registers.get(SRC_MSK_DIRECT, 0) ^ registers.get(DST_PAT_DIRECT, 0)
        if flips & 2:
            rows.reverse()
        if flips & 1:
            rows = [pixels.mirror(row, size) for row in rows]
        made: dict[int, bytes] = {}
        for y in {y * area.height // target.height for y in range(target.height)}:
            row = pixels.stretch(rows[y], size, target.width)
            made[y] = pixels.convert(row, own, mode)
        what = f"copy {base:#x} stride {stride} {area.width}x{area.height}+{area.left}+{area.top}"
        return what, [made[y * area.height // target.height] for y in range(target.height)]


def _solid(colour: int, size: int) -> bytes:
    return colour.to_bytes(4, "little")[:size]
