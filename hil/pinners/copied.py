# SPDX-License-Identifier: GPL-2.0-or-later
"""The data check of a device that copies between user memory and a buffer of its driver's own."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from hil.evidence import frames
from hil.pinners.base import Transfer
from hil.uapi import access, mm

if TYPE_CHECKING:
    from hil.memory.base import Buffer


def copied(
    buffer: Buffer,
    other: mmap.mmap,
    size: int,
    run: Callable[[], None],
    how: str,
    *,
    capture: bool,
    begin: bytes = b"",
) -> Transfer | None:
    """Fill one side, have ``run`` copy ``size`` bytes, look at the other; None where nobody may.

    For ``capture`` the device writes ``buffer``, and the source begins with ``begin``.  Pages of
    this process whose frames follow the buffer's first (`Buffer.neighbours`) count as well: what is
    in them must stay as it is.
    """
    try:
        before = buffer.read(size)
    except OSError:
        return None  # the process may not look into its own buffer
    strangers = _strangers(buffer)
    if capture:
        sent = begin + os.urandom(size - len(begin))
        other[:size] = sent
        run()
        arrived = buffer.read(size)
    else:
        with contextlib.suppress(OSError):  # memory that may not be written is sent as it is
            buffer.write(os.urandom(size))
        sent = buffer.read(size)
        other[:size] = bytes(byte ^ 0xFF for byte in sent)
        run()
        arrived = other[:size]
    after = _strangers(buffer)
    if strangers != after:
        how += "; frames behind the buffer's first, which are not its own, were written"
    return Transfer(sent + strangers, arrived + after, how, before + strangers)


def run_of(buffer: Buffer) -> list[int]:
    """The frames, each following the one before, that begin with the buffer's first.

    They are those that the device has: the process may have come to others since the pin.
    """
    words = buffer.pinned or frames.entries(buffer.address, buffer.length)
    found: list[int] = []
    for word in words:
        frame = frames.frame_of(word)
        if frame is None or (found and frame != found[-1] + 1):
            break
        found.append(frame)
    return found


def following(buffer: Buffer) -> int:
    """How many of a buffer's ``neighbours`` still are: the pin may have moved the first page."""
    first = next(iter(run_of(buffer)), None)
    if first is None:
        return 0
    count = 0
    while (
        count < len(buffer.neighbours)
        and frames.frames(buffer.neighbours[count], 1)[0] == first + count + 1
    ):
        count += 1
    return count


def _strangers(buffer: Buffer) -> bytes:
    return b"".join(access.peek(address, mm.PAGE) for address in buffer.neighbours)
