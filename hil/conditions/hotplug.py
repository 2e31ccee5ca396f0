# SPDX-License-Identifier: GPL-2.0-or-later
"""The device goes away, or its driver, while buffers are queued and it writes them."""

from __future__ import annotations

import time
from errno import ENODEV
from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried
from hil.errors import NotApplicableError
from hil.system import devices, webcam

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.pinners.base import Pinner

_SECONDS = 5.0
"""How long a device may take to go, its pins to be given back, and its node to be there again."""
_WHY = (
    "v4l2-dev.c video_unregister_device, v4l2_ioctl: ENODEV for a node that is not registered; "
    "videobuf2-core.c vb2_queue_release"
)


class _Gone(Condition):
    """In ``verify``, when a frame has come through: the buffer is queued again, and it streams."""

    holds = (
        "nothing hangs; QBUF, DQBUF and STREAMOFF of the open node give ENODEV; no pin is left "
        "when it is closed, and the device works again when it is back"
    )
    why = _WHY
    classes = ("anonymous", "hugetlb-2m-private", "memfd")
    destructive = True
    buses: tuple[str, ...] = ("usb-", "PCI:")

    def concerns(self, pinner: Pinner) -> bool:
        return super().concerns(pinner) and pinner.bus.startswith(self.buses)

    def verify(self, scene: Scene) -> None:
        session, node = scene.session, scene.bench.busy_node
        device = devices.behind(node) if node is not None else None
        if node is None or device is None:
            raise NotApplicableError("its device is neither on a USB nor on a PCI bus")
        self.node = node
        session.start(scene.buffer)
        began = time.monotonic()
        self.take_away(scene, device)
        scene.facts["seconds_to_go"] = round(time.monotonic() - began, 3)
        self._check_calls(scene)

    def take_away(self, scene: Scene, device: devices.Device) -> None:
        """Take it away, and see that it comes back whatever becomes of this process."""
        raise NotImplementedError

    def bring_back(self) -> None:
        """Bring it back when the node is closed."""
        raise NotImplementedError

    def _check_calls(self, scene: Scene) -> None:
        session = scene.session
        gave = {
            "QBUF": lambda: _raised(session.pin(scene.buffer).errno),
            "DQBUF": session.dequeue,
            "STREAMOFF": session.stop,
        }
        for name, call in gave.items():
            scene.check(f"{name} without the device", tried(call), "ENODEV")

    def end(self, scene: Scene) -> None:
        until = time.monotonic() + _SECONDS
        while scene.held() and time.monotonic() < until:
            time.sleep(0.01)
        scene.facts["pins_with_node_open"] = scene.held()
        try:
            scene.session.release()
        except OSError as error:
            if error.errno != ENODEV:
                raise

    def after(self, scene: Scene) -> None:
        self.bring_back()
        until = time.monotonic() + _SECONDS
        while not _there(self.node) and time.monotonic() < until:
            time.sleep(0.01)
        scene.check("the node is there again", _there(self.node), True)


def _raised(errno: int) -> None:
    if errno:
        raise OSError(errno, "")


def _there(node: Path) -> bool:
    """Whether udev or devtmpfs has made the node, and its device is ready."""
    try:
        with node.open("rb", buffering=0):
            return True
    except OSError:
        return False


class Removed(_Gone):
    """USB: deauthorized (usb_deauthorize_device).  PCI: remove, then a rescan of the bus."""

    name = "device-removed"
    slow = True  # a driver that does not survive it costs a boot
    summary = "the bus takes the device away while it writes the buffer, and finds it again later"
    why = f"usb/core/hub.c usb_deauthorize_device; pci/pci-sysfs.c remove_store; {_WHY}"

    def take_away(self, scene: Scene, device: devices.Device) -> None:
        self._back = device.back()
        if scene.bench.guard is not None:
            scene.bench.guard.will_write(*self._back)
        device.remove()

    def bring_back(self) -> None:
        path, text = self._back
        path.write_text(text)


class Unbound(_Gone):
    name = "driver-unbound"
    slow = True
    summary = "the driver is unbound from the device while it writes the buffer, and bound later"
    why = f"drivers/base/bus.c unbind_store, bind_store; {_WHY}"

    def take_away(self, scene: Scene, device: devices.Device) -> None:
        bound = device.driven()
        if not bound:
            raise NotApplicableError("no driver is bound to its device")
        driver = (bound[0] / "driver").resolve()
        mine = [place for place in bound if (place / "driver").resolve() == driver]
        # One bind is enough: a USB driver claims its other interfaces itself.
        self._back = (driver / "bind", mine[0].name)
        if scene.bench.guard is not None:
            scene.bench.guard.will_write(*self._back)
        for place in mine:
            if (place / "driver").exists():
                (driver / "unbind").write_text(place.name)

    def bring_back(self) -> None:
        path, text = self._back
        path.write_text(text)


class CablePulled(_Gone):
    """The other end of the wire is gone, so no request of the driver is answered any more."""

    name = "cable-pulled"
    summary = "the webcam's cable is pulled while it writes the buffer (the Python webcam only)"
    why = f"drivers/usb/usbip/vhci_hcd.c vhci_shutdown_connection; {_WHY}"
    buses = ("usb-vhci_hcd",)

    def take_away(self, scene: Scene, device: devices.Device) -> None:
        serial = webcam.serial_of(self.node)
        if serial is None:
            raise NotApplicableError("only the Python webcam pulls its own cable")
        self._serial = serial
        webcam.order(serial, "unplug")
        until = time.monotonic() + _SECONDS
        while device.path.exists() and time.monotonic() < until:
            time.sleep(0.005)

    def bring_back(self) -> None:
        webcam.order(self._serial, "plug")


HOTPLUG: tuple[type[Condition], ...] = (Removed, Unbound, CablePulled)
