# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's devices are suspended and resumed while a buffer is queued and being written."""

from __future__ import annotations

import contextlib
import time
from errno import EBUSY, errorcode
from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried
from hil.errors import NotApplicableError
from hil.pinners.v4l2 import V4l2Session
from hil.pinners.v4l2_stream import taken
from hil.system import webcam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hil.conditions.base import Scene
    from hil.pinners.base import Pinner

_STATE = Path("/sys/power/state")
_TEST = Path("/sys/power/pm_test")
_DELAY = Path("/sys/module/suspend/parameters/pm_test_delay")
_VIDEO = Path("/sys/class/video4linux")
_SECONDS = 4.0
"""How long the first frame after the resume may take, and a webcam to go or come."""


class Suspended(Condition):
    """suspend_test(TEST_DEVICES): every device's suspend and resume, and no sleep in between."""

    name = "suspended"
    summary = (
        "all devices are suspended and resumed (pm_test: devices) while the buffer is queued and "
        "the device streams"
    )
    holds = (
        "the pins outlast it; then the frame comes, or DQBUF gives an error, and STREAMOFF works"
    )
    why = "kernel/power/suspend.c suspend_devices_and_enter; media/pci/tw68/tw68-core.c tw68_resume"
    classes = ("anonymous", "hugetlb-2m-private", "memfd")
    slow = True  # a driver that does not survive it costs a boot
    destructive = True

    def concerns(self, pinner: Pinner) -> bool:
        return super().concerns(pinner) and pinner.bus.startswith(("usb-", "PCI:"))

    def applies(self) -> str:
        if not _TEST.exists() or not _DELAY.exists():
            return "needs /sys/power/pm_test (CONFIG_PM_DEBUG, CONFIG_PM_SLEEP_DEBUG)"
        if "freeze" not in _STATE.read_text().split():
            return "this machine cannot be suspended to idle"
        return super().applies()

    def verify(self, scene: Scene) -> None:
        session = scene.session
        if not isinstance(session, V4l2Session):
            raise NotApplicableError("not a device that streams")
        session.start(scene.buffer)
        sleep(scene)
        scene.check("DQBUF after the resume", self._frame(session, scene), "0", "flag", "EIO")
        scene.check("STREAMOFF after the resume", tried(session.stop), "0")

    @staticmethod
    def _frame(session: V4l2Session, scene: Scene) -> str:
        """What DQBUF gave: "0", "flag" for a frame with the error flag, or the errno's name."""
        try:
            done, flag = taken(session, _SECONDS)
        except OSError as error:
            return errorcode.get(error.errno or 0, str(error.errno))
        scene.facts["frame_after_resume"] = done.sequence
        return "flag" if flag else "0"


class SuspendedIdle(Suspended):
    name = "suspended-idle"
    summary = "the same while the buffer is queued and the device does not stream yet"
    holds = "the pins outlast it; the device stays idle, and streams when it is told to"

    def during(self, scene: Scene) -> None:
        sleep(scene)

    def verify(self, scene: Scene) -> None:
        """The data has gone through the device, after the resume."""


def sleep(scene: Scene) -> None:
    """Suspend all devices and resume them; the pins must outlast it.

    NotApplicableError where a device refuses.
    """
    guard, node = scene.bench.guard, scene.bench.busy_node
    if guard is None:
        raise NotApplicableError("no guard to switch the test of suspend off again")
    if node is not None and webcam.serial_of(node) is not None:
        raise NotApplicableError(
            "vhci_hcd_suspend refuses while a device is plugged in (usbip/vhci_hcd.c: EBUSY)"
        )
    held = scene.held()  # those of the queue's further buffers too
    with _unplugged_webcams():
        guard.will_write(_DELAY, _DELAY.read_text())
        _DELAY.write_text("0")
        guard.will_write(_TEST, "none")
        _TEST.write_text("devices")
        try:
            _STATE.write_text("freeze")
        except OSError as error:
            if error.errno != EBUSY:
                raise
            raise NotApplicableError(
                "a device of this machine refuses to be suspended: see the kernel log"
            ) from None
        finally:
            _TEST.write_text("none")
    scene.check_held("after the resume", held)


@contextlib.contextmanager
def _unplugged_webcams() -> Iterator[None]:
    """The Python webcams' cables are out meanwhile: their host controller would refuse.

    The hub's work must be done before and after: it waits for webcams that are frozen by then, and
    suspend waits for it.
    """
    serials = _webcams()
    for serial in serials:
        webcam.order(serial, "unplug")
    _until(lambda: not _webcams())
    try:
        yield
    finally:
        for serial in serials:
            webcam.order(serial, "plug")
        _until(lambda: _webcams() == serials)


def _webcams() -> set[str]:
    return {serial for node in _VIDEO.glob("video*") if (serial := webcam.serial_of(node))}


def _until(there: Callable[[], bool]) -> None:
    until = time.monotonic() + _SECONDS
    while not there() and time.monotonic() < until:
        time.sleep(0.01)


POWER: tuple[type[Condition], ...] = (Suspended, SuspendedIdle)
