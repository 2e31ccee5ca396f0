# SPDX-License-Identifier: GPL-2.0-or-later
"""What only capture devices do: damaged frames, interrupts that come late, one frame too many."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition
from hil.conditions.mapping import whole
from hil.errors import NotApplicableError
from hil.evidence.pictures import CARD, WEBCAM, Source
from hil.pinners.v4l2 import V4l2Session
from hil.pinners.v4l2_data import PATIENCE, bytes_used
from hil.pinners.v4l2_picture import shape_of
from hil.pinners.v4l2_stream import known_source, pictured, taken
from hil.system import devices, webcam
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.pinners.base import Pinner

_NODROP = Path("/sys/module/uvcvideo/parameters/nodrop")
_LATE_AT = 0x40
"""The model's byte in configuration space: milliseconds that an interrupt takes (tw68.py)."""


class _Of(Condition):
    """For the devices of one source of pictures."""

    source: Source

    def concerns(self, pinner: Pinner) -> bool:
        return known_source(pinner) == self.source and super().concerns(pinner)


class QueuedReadOnly(Condition):
    """The process may write only after the pin: up to 5.18 the write gets a page of its own.

    Counters balance all the same: only the bytes show it.
    """

    name = "writable-after-pin"
    alone = False
    summary = "a read-only buffer is pinned, made writable by mprotect, and written"
    holds = "the device has the page that the process has written"
    why = (
        "mm/memory.c do_wp_page: a page that is this process's own is reused (PageAnonExclusive, "
        "6c287605fd56, 5.19); before, it is copied when anybody else has a reference"
    )
    classes = ("readonly-private",)

    def during(self, scene: Scene) -> None:
        start, length = whole(scene)
        mm.mprotect(start, length, mm.PROT_RW)
        scene.frames_stay = True


class ShortFrame(_Of):
    """uvcvideo's parameter nodrop decides: by default 0 on 5.10 to 6.12, 1 on 6.18 and 7.3."""

    name = "short-frame"
    summary = "the end of a frame is lost on the wire (the Python webcam only)"
    holds = (
        "it is dropped, or with uvcvideo's nodrop handed out as long as it came, with the error "
        "flag; never as a whole frame"
    )
    why = "drivers/media/usb/uvc/uvc_queue.c uvc_queue_buffer_complete (UVC_QUEUE_DROP_CORRUPTED)"
    classes = ("anonymous", "memfd")
    source = WEBCAM

    def verify(self, scene: Scene) -> None:
        session, serial = scene.session, webcam.serial_of(scene.bench.busy_node or Path())
        assert isinstance(session, V4l2Session)
        path = pictured(session)
        if serial is None or path is None:
            raise NotApplicableError("only the Python webcam sends a short frame for the asking")
        if shape_of(session.format()).line == 0:
            raise NotApplicableError("a compressed frame may have any length")
        webcam.order(serial, "short")
        session.start(scene.buffer)
        try:
            done, flagged = taken(session, PATIENCE)
        finally:
            session.stop()
        used, whole_frame = bytes_used(done), shape_of(session.format()).size
        arrived = scene.buffer.read(used)
        sent = path.source.draw(path.source.number(arrived, shape_of(session.format())),
                                shape_of(session.format()))  # fmt: skip
        nodrop = _NODROP.read_text().strip() if _NODROP.exists() else ""
        came = "handed out with the error flag" if flagged else "dropped"
        if not flagged and used < whole_frame:
            came = "handed out as if it were whole"
        scene.facts |= {"nodrop": nodrop, "bytesused": used, "frame": whole_frame}
        expected = "handed out with the error flag" if nodrop in ("1", "Y") else "dropped"
        scene.check("the short frame", came, expected)
        scene.check("bytes of what was handed out are right", arrived == sent[:used], True,
                    verdict="corrupt")  # fmt: skip


class SpoiltFrame(_Of):
    """The control of the check itself: one wrong bit on the wire must be found."""

    name = "spoilt-frame"
    summary = "the device sends a frame with one bit wrong (the Python webcam only)"
    holds = "exactly that bit is seen to be wrong"
    why = "the check of the frames' bytes itself is tested by this"
    classes = ("anonymous",)
    source = WEBCAM

    def verify(self, scene: Scene) -> None:
        session, serial = scene.session, webcam.serial_of(scene.bench.busy_node or Path())
        assert isinstance(session, V4l2Session)
        path = pictured(session)
        if serial is None or path is None:
            raise NotApplicableError("only the Python webcam spoils a frame for the asking")
        webcam.order(serial, "flip")
        session.start(scene.buffer)
        try:
            done, _ = taken(session, PATIENCE)
        finally:
            session.stop()
        shape = shape_of(session.format())
        arrived = scene.buffer.read(bytes_used(done))
        sent = path.source.draw(path.source.number(arrived, shape), shape)
        bits = [one ^ other for one, other in zip(sent, arrived, strict=True) if one != other]
        scene.check("wrong bits that were found", bits, [1], verdict="corrupt")


class LateInterrupt(_Of):
    """A card may interrupt after it was told to stop: the driver must be ready for it."""

    name = "late-interrupt"
    slow = True  # it costs a boot
    summary = "the device's interrupt is under way when streaming is stopped (the Python card only)"
    holds = "the kernel says nothing, and streaming can be started again"
    why = "the driver's interrupt handler must not take from a list that STREAMOFF has emptied"
    classes = ("anonymous",)
    source = CARD
    destructive = True
    _milliseconds = 4
    _rounds = 25

    def verify(self, scene: Scene) -> None:
        device = devices.behind(scene.bench.busy_node or Path())
        assert device is not None
        config = os.open(device.path / "config", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(config, bytes([self._milliseconds]), _LATE_AT)
            for number in range(self._rounds):
                scene.session.start(scene.buffer)
                time.sleep(0.003 * (number % 9))
                scene.session.stop()
                time.sleep(0.002 * self._milliseconds)
        finally:
            os.pwrite(config, b"\0", _LATE_AT)
            os.close(config)


CAPTURE: tuple[type[Condition], ...] = (QueuedReadOnly, SpoiltFrame, ShortFrame, LateInterrupt)
