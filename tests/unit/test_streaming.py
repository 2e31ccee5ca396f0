# SPDX-License-Identifier: GPL-2.0-or-later
"""Frame after frame through pinned memory, and devices that go away, with none of either."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.conditions.capture import LateInterrupt, ShortFrame
from hil.conditions.hotplug import CablePulled, Removed
from hil.conditions.streaming import Stream
from hil.evidence.pictures import WEBCAM, shape
from hil.pinners import v4l2_stream
from hil.pinners.v4l2_picture import Pictured
from hil.system import devices
from hil.uapi import v4l2 as uapi

OF = shape("GREY", 64, 48)


class Buffer:
    """Memory that the device below writes."""

    length = OF.size

    def __init__(self) -> None:
        self.bytes = bytearray(OF.size)

    def write(self, data: bytes) -> None:
        self.bytes[: len(data)] = data

    def read(self, length: int) -> bytes:
        return bytes(self.bytes[:length])


class Session:
    """A queue of two buffers; each frame of the first lands in the buffer under test."""

    fd, length, count, type = -1, OF.size, 2, uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE

    def __init__(self, buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.buffer, self.path = buffer, Pictured.__new__(Pictured)
        self.path.source = WEBCAM
        self.number = 0
        self.spoil: set[int] = set()
        self.queued = 0
        self.streaming = False
        monkeypatch.setattr(v4l2_stream, "wait", self.wait)
        monkeypatch.setattr(v4l2_stream, "shape_of", lambda _: OF)
        monkeypatch.setattr(uapi, "qbuf", self.qbuf)

    def format(self) -> None:
        return None

    def pattern(self, length: int) -> bytes:
        return b"\xaa" * length

    def start(self, buffer: Any) -> None:
        self.streaming = True

    def stop(self) -> None:
        self.streaming = False

    def qbuf(self, fd: int, done: Any) -> None:
        self.queued += 1
        done.sequence = 0  # as the kernel does

    def wait(self, *_: Any) -> Any:
        self.number += 1
        index = self.number % 2
        if index == 0:
            frame = bytearray(WEBCAM.draw(self.number, OF))
            frame[100] ^= self.number in self.spoil
            self.buffer.bytes[:] = frame
        return SimpleNamespace(index=index, bytesused=OF.size, sequence=self.number, type=self.type)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    return Session(Buffer(), monkeypatch)


def run(session: Session, count: int, between: Any = lambda: None) -> dict[str, Any]:
    return v4l2_stream.stream(session, session.buffer, count, between)  # type: ignore[arg-type]


def test_every_frame_is_compared_and_queued_again(session: Session) -> None:
    calls: list[bytes] = []
    found = run(session, 4, lambda: calls.append(session.buffer.read(8)))
    assert (found["frames"], found["bad"], found["lost"]) == (4, 0, 3)
    assert len(calls) == 4
    assert session.queued == 8
    assert not session.streaming
    assert session.buffer.read(4) == b"\xaa" * 4, "the last frame was left in the buffer"


def test_a_wrong_byte_and_a_frame_that_did_not_land_are_bad(session: Session) -> None:
    session.spoil = {4}
    found = run(session, 4)
    assert found["bad"] == 1
    assert found["first_bad"]["first_wrong"] == 100
    # The process has other pages: what it sees is its own poison.
    session.buffer.read = lambda length: b"\xaa" * length  # type: ignore[method-assign]
    assert run(session, 3)["bad"] == 3


def test_a_stream_ends_when_its_time_is_up(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v4l2_stream, "SECONDS", 0.0)
    assert run(session, 300)["frames"] == 0


def test_the_pace_counts_what_the_driver_lost(session: Session) -> None:
    found = v4l2_stream.pace(session, uapi.V4L2_MEMORY_MMAP, 10)  # type: ignore[arg-type]
    assert found["lost"] == 0
    assert found["fps"] > 0


def pinner(bus: str, source: Any = None) -> Any:
    return SimpleNamespace(bus=bus, meets_conditions=True, paths={}, source=source)


def test_devices_go_away_only_on_a_bus_that_lets_them() -> None:
    assert Removed().concerns(pinner("PCI:0000:00:10.0"))
    assert Removed().concerns(pinner("usb-0000:00:14.0-1"))
    assert not Removed().concerns(pinner("platform:vivid-000"))
    assert not CablePulled().concerns(pinner("usb-0000:00:14.0-1"))
    assert CablePulled().concerns(pinner("usb-vhci_hcd.0-1"))


@pytest.mark.parametrize("kind", [Stream, ShortFrame, LateInterrupt])
def test_what_needs_known_pictures_leaves_others_alone(kind: type[Any]) -> None:
    assert not kind().concerns(pinner("PCI:0000:00:10.0"))


def test_the_device_behind_a_node(tmp_path: Path) -> None:
    usb = tmp_path / "usb1/1-1"
    (usb / "1-1:1.0/driver").mkdir(parents=True)
    (usb / "1-1:1.1").mkdir()
    (usb / "idVendor").write_text("1d6b\n")
    pci = tmp_path / "0000:00:10.0"
    (pci / "driver").mkdir(parents=True)
    (pci / "subsystem_vendor").write_text("0x1af4\n")
    for name, place in (("video0", usb / "1-1:1.0"), ("video1", pci), ("video2", tmp_path)):
        node = tmp_path / "class" / name
        node.mkdir(parents=True)
        (node / "device").symlink_to(place)
    found = [devices.behind(Path(f"/dev/video{n}"), tmp_path / "class") for n in range(3)]
    assert found == [devices.Device("usb", usb), devices.Device("pci", pci), None]
    one, other = found[0], found[1]
    assert one is not None and other is not None
    assert one.driven() == [usb / "1-1:1.0"]
    assert other.driven() == [pci]
    one.remove()
    assert (usb / "authorized").read_text() == "0"
    assert one.back() == (usb / "authorized", "1")
    assert other.back() == (devices.RESCAN, "1")
