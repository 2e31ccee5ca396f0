# SPDX-License-Identifier: GPL-2.0-or-later
"""vivid (drivers/media/test-drivers/vivid): frames whose every byte is known, in both directions.

Capture: with the test pattern "100% Color Squares" and no text in it, each frame is the same and,
at 320 x 180, no page of it is like another.  Output: an input of the same device can be connected
to the output; what the output side last took from user memory is then what the capture side fills
its buffers with (vivid-kthread-cap.c vivid_copy_buffer, line by line by memcpy as long as nothing
is scaled).  The output keeps a buffer until there is another one (vivid-kthread-out.c), so the one
under test is queued last.
"""

from __future__ import annotations

import contextlib
import os
import time
from errno import EBUSY
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.errors import NotApplicableError
from hil.pinners.base import Setting, Transfer
from hil.pinners.v4l2_data import Capture, DataPath, Lent
from hil.uapi import v4l2 as uapi
from hil.uapi import v4l2_controls as controls

if TYPE_CHECKING:
    from hil.memory.base import Buffer
    from hil.pinners.v4l2 import Queue, V4l2Session

NAME = "vivid"
SIZE = (320, 180)
"""Small, so that a cell is quick: 115200 bytes in the usual format, 28 pages and an eighth."""

_PICTURE = {"Test Pattern": "100% Color Squares", "OSD Text Mode": "None"}
_CONNECTED = " Is Connected To"  # 6.12; before, one switch for the whole device:
_LOOP = "Loop Video"
_SETTLE = 1.0
"""Seconds until a switch that does not stay where it is set is left as it is."""


def small(fd: int, present: Any) -> Any:
    """The present format at SIZE; ``present`` where the driver takes none smaller."""
    wanted = sized(present)
    try:
        uapi.try_format(fd, wanted)
    except OSError:
        return present
    return wanted if sum(uapi.plane_sizes(wanted)) < sum(uapi.plane_sizes(present)) else present


def sized(present: Any) -> Any:
    """A copy of a video format with SIZE for its size; lines as the driver likes them."""
    wanted = uapi.copy_format(present)
    if wanted.type in uapi.MULTI_PLANAR:
        it = wanted.fmt.pix_mp
        for plane in it.plane_fmt:
            plane.bytesperline = plane.sizeimage = 0
    else:
        it = uapi.pix_format(wanted)
        it.bytesperline = it.sizeimage = 0
    it.width, it.height = SIZE
    return wanted


class VividCapture(Capture):
    """A video capture queue of vivid, on the input that it was found with."""

    def __init__(self, node: Path, queue: Queue, fd: int) -> None:
        there = controls.controls(fd)
        wanted: dict[int, int] = {}
        for name, item in _PICTURE.items():
            if name in there:
                wanted[there[name]] = controls.menu(fd, there[name])[item]
        super().__init__(node, queue, wanted)
        self.input = controls.get_input(fd)

    def ready(self, fd: int) -> None:
        super().ready(fd)
        # An output's session that was killed leaves another input.
        if controls.get_input(fd) != self.input:
            controls.set_input(fd, self.input)

    def settings(self) -> list[Setting]:
        # The input goes last, as it resets the format that the guard then sets.
        back = bytes(uapi.i32(self.input))
        return [*super().settings(), Setting(self.node, "input", controls.VIDIOC_S_INPUT, back)]


class VividOutput(DataPath):
    """A video output queue of vivid, and the capture side that shows what it reads."""

    def __init__(self, node: Path, bus: str, output: str) -> None:
        self.node, self.bus = node, bus
        self.kind = output.split(" ", maxsplit=1)[0]
        """S-Video or HDMI."""
        self.capture: Path | None = None
        self.input = 0
        self.switch = (0, 0, 0)
        """The control that closes the loop, its value, and the value that it had before."""

    def learn(self) -> dict[str, Any]:
        for path in sorted(Path("/dev").glob("video*"), key=lambda p: (len(p.name), p.name)):
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    if found := self._other_side(fd):
                        return {"capture": str(path), **found}
                finally:
                    os.close(fd)
        return {}

    def _other_side(self, fd: int) -> dict[str, Any] | None:
        about = uapi.querycap(fd)
        captures = uapi.V4L2_CAP_VIDEO_CAPTURE | uapi.V4L2_CAP_VIDEO_CAPTURE_MPLANE
        if about.bus_info.decode() != self.bus or not about.caps & captures:
            return None
        names = controls.inputs(fd)
        place = next((i for i, name in enumerate(names) if name.startswith(self.kind)), None)
        if place is None:
            return None
        there = controls.controls(fd)
        if _LOOP in there:
            return {"input": place, "switch": _closed(fd, there[_LOOP], 1)}
        name = names[place] + _CONNECTED
        if name not in there:
            return None
        # "Output S-Video 000-0": of the instances' outputs the one of this.
        instance = f"{self.kind} {self.bus.rpartition('-')[2]}-"
        for item, value in controls.menu(fd, there[name]).items():
            if instance in item:
                return {"input": place, "switch": _closed(fd, there[name], value)}
        return None

    def recall(self, found: dict[str, Any]) -> None:
        if "capture" in found:
            self.capture = Path(found["capture"])
            self.input, self.switch = found["input"], tuple(found["switch"])

    def settings(self) -> list[Setting]:
        """The capture side's own settings are its own pinner's; the switch is only ours."""
        if self.capture is None:
            return []
        identity, _, before = self.switch
        back = bytes(controls.Control(identity, before))
        return [Setting(self.capture, "loop", controls.VIDIOC_S_CTRL, back)]

    def transfer(self, session: V4l2Session, buffer: Buffer) -> Transfer:
        if self.capture is None:
            raise NotApplicableError("vivid has no capture side that this output can be looped to")
        size = min(buffer.length, session.length)
        before = _seen(buffer, size)
        with contextlib.suppress(OSError):  # memory that may not be written is sent as it is
            buffer.write(session.pattern(size))
        sent = _seen(buffer, size)
        with _looped(self, session) as lent:
            session.start(buffer, last=True)
            try:
                if session.count > 1:
                    session.wait(session.count - 1)  # from now on it holds ours
                lent.start()
                arrived = lent.frame()
            finally:
                session.stop()
        how = "vivid's loop: its capture side shows what the output side has read"
        return Transfer(sent, arrived[:size], how, before, known=bool(sent))


@contextlib.contextmanager
def _looped(path: VividOutput, session: V4l2Session) -> Any:
    """MMAP buffers of the capture side, connected and of the same format as the output side."""
    assert path.capture is not None
    own = session.format()
    kind = {
        uapi.V4L2_BUF_TYPE_VIDEO_OUTPUT: uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE,
        uapi.V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE: uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE,
    }[own.type]
    fd = os.open(path.capture, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        try:
            before = controls.get_input(fd)
            controls.set_input(fd, path.input)
            identity, value, _ = path.switch
            if controls.get_control(fd, identity) != value:
                _connect(fd, identity, value)
            own.type = kind
            uapi.set_format(fd, own)
        except OSError as error:
            if error.errno == EBUSY:  # its buffers are the memory under test
                raise NotApplicableError(f"{path.capture} is in use, so nothing shows") from None
            raise
        try:
            with Lent(fd, kind) as lent:
                yield lent
        finally:
            controls.set_input(fd, before)  # the device's other queues depend on it
    finally:
        os.close(fd)


def _closed(fd: int, identity: int, value: int) -> tuple[int, int, int]:
    """Close the loop, once: right after that vivid may still show noise for a frame."""
    before = controls.get_control(fd, identity)
    _connect(fd, identity, value)
    return identity, value, before


def _connect(fd: int, identity: int, value: int) -> None:
    """Set the switch until it stays so.

    From 6.12 on a work item that was queued for another instance's switch may come in between: it
    reads the present value without the control's lock, takes the new one out of the menu, and
    v4l2_ctrl_modify_range puts the default in its place (vivid-core.c
    update_svid_ctrls_work_handler, update_hdmi_ctrls_work_handler).
    """
    until, stays = time.monotonic() + _SETTLE, 0
    while stays < 3 and time.monotonic() < until:
        stays += 1
        if controls.get_control(fd, identity) != value:
            controls.set_control(fd, identity, value)
            stays = 0
        time.sleep(0.01)


def _seen(buffer: Buffer, size: int) -> bytes:
    """What the process sees; nothing where it may not look."""
    try:
        return buffer.read(size)
    except OSError:
        return b""
