# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices whose pictures are known: which they are, their formats, and what is made of a frame."""

from __future__ import annotations

from errno import EINVAL
from pathlib import Path
from typing import Any

import pytest

from hil.evidence import data
from hil.evidence.pictures import CARD, WEBCAM, Shape, Source, shape
from hil.pinners import v4l2_formats, v4l2_picture
from hil.pinners.base import Node
from hil.pinners.v4l2 import Queue
from hil.pinners.v4l2_picture import Pictured
from hil.uapi import v4l2 as uapi
from hil.uapi import v4l2_sizes

YUYV, NV12, MJPG, H264, BGR3 = (
    int.from_bytes(code, "little") for code in (b"YUYV", b"NV12", b"MJPG", b"H264", b"BGR3")
)
CAPTURE = uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE


def format_of(code: int, width: int, height: int, line: int, field: int = 1) -> Any:
    made = uapi.Format(type=CAPTURE)
    pix = uapi.pix_format(made)
    pix.pixelformat, pix.width, pix.height, pix.field = code, width, height, field
    pix.bytesperline, pix.sizeimage = line, line * height or width * height
    return made


def node(driver: str) -> Node:
    return Node("/dev/video0", driver, "PCI:0000:00:10.0", "", "unknown", (), "")


class Session:
    """As much of a session as a data path asks for."""

    def __init__(self, present: Any) -> None:
        self.present = present

    def format(self) -> Any:
        return self.present


def judged(source: Source, present: Any, arrived: bytes, used: int) -> tuple[dict[str, Any], str]:
    before = b"\xaa" * len(arrived)
    path = Pictured(Path("/dev/video0"), Queue(CAPTURE, (1,), None, None, False), source)
    assert path.learn() == {}
    told = path.compared(Session(present), before, arrived, used)  # type: ignore[arg-type]
    return data.compare(told.sent, told.arrived, told.before), told.how


def test_a_frame_is_compared_with_the_one_of_its_number() -> None:
    of = shape("YUYV", 320, 240)
    present = format_of(YUYV, 320, 240, 640)
    frame = WEBCAM.draw(41, of)
    found, how = judged(WEBCAM, present, frame + b"\xaa" * 96, len(frame))
    assert found["corrupt_bytes"] == 0
    assert how == "the Python webcam, frame 41, YUYV 320x240"
    broken = frame[:5000] + bytes([frame[5000] ^ 1]) + frame[5001:]
    found, _ = judged(WEBCAM, present, broken + b"\xaa" * 96, len(frame))
    assert (found["corrupt_bytes"], found["first_wrong"]) == (1, 5000)


def test_bytes_behind_a_compressed_frame_must_be_what_they_were() -> None:
    of = shape("MJPG", 320, 240)
    present = format_of(MJPG, 320, 240, 0)
    frame = WEBCAM.draw(3, of)
    rest = b"\xaa" * (of.size - len(frame))
    assert judged(WEBCAM, present, frame + rest, len(frame))[0]["corrupt_bytes"] == 0
    assert judged(WEBCAM, present, frame + b"\0" + rest[1:], len(frame))[0]["corrupt_bytes"] == 1


def test_a_buffer_that_nothing_was_written_to_is_stale() -> None:
    present = format_of(YUYV, 320, 240, 640)
    found, how = judged(WEBCAM, present, b"\xaa" * 153600, 153600)
    assert found["stale"] is True
    assert "no first line" in how


def test_a_field_of_the_card_has_every_other_line() -> None:
    present = format_of(BGR3, 320, 240, 960, v4l2_sizes.V4L2_FIELD_BOTTOM)
    of = v4l2_picture.shape_of(present)
    assert of == Shape("BGR3", 320, 240, 960, 230400, 1, 2)
    frame = CARD.draw(9, of)
    assert frame[:2] == b"\x01\0"
    assert frame[960:962] == b"\x03\0"
    assert judged(CARD, present, frame, len(frame))[0]["corrupt_bytes"] == 0
    whole = CARD.draw(9, of._replace(first=0, step=1))
    assert judged(CARD, present, whole, len(whole))[0]["corrupt_bytes"]


@pytest.mark.parametrize(
    ("subsystem", "source"), [("0x1af4", CARD), ("0x1797", None)], ids=["model", "real card"]
)
def test_a_card_is_known_by_its_subsystem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subsystem: str, source: Source | None
) -> None:
    device = tmp_path / "0000:00:10.0"
    device.mkdir()
    ids = {"vendor": "0x1797", "device": "0x6800", "subsystem_vendor": subsystem}
    for name, text in {**ids, "subsystem_device": "0x1100"}.items():
        (device / name).write_text(text + "\n")
    monkeypatch.setattr(v4l2_picture, "_PCI", tmp_path)
    assert v4l2_picture.source_of(node("tw68")) == source
    assert v4l2_picture.source_of(node("bttv")) is None
    assert v4l2_picture.source_of(node("uvcvideo")) is None


class Driver:
    """A driver with formats, sizes, and one code that it only pretends to take."""

    codes = (YUYV, NV12, MJPG, H264)
    sizes = ((320, 240), (640, 480), (160, 120))

    def __init__(self, refuses: int = 0) -> None:
        self.refuses = refuses

    def ioctl(self, _: int, number: int, it: Any) -> None:
        if number == uapi.VIDIOC_ENUM_FMT:
            self._each(it, self.codes)
            it.pixelformat = self.codes[it.index]
        elif number == v4l2_sizes.VIDIOC_ENUM_FRAMESIZES:
            self._each(it, self.sizes)
            it.type = v4l2_sizes.V4L2_FRMSIZE_TYPE_DISCRETE
            it.discrete.width, it.discrete.height = self.sizes[it.index]
        elif number == uapi.VIDIOC_TRY_FMT:
            pix = uapi.pix_format(it)
            if pix.pixelformat == self.refuses:
                pix.pixelformat = YUYV

    @staticmethod
    def _each(it: Any, things: tuple[Any, ...]) -> None:
        if it.index >= len(things):
            raise OSError(EINVAL, "Invalid argument")


def use(monkeypatch: pytest.MonkeyPatch, ioctl: Any) -> None:
    for module in (uapi, v4l2_sizes):
        monkeypatch.setattr(module, "ioctl", ioctl)


def test_a_webcam_is_tried_in_its_codes_and_its_largest_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    present = format_of(YUYV, 320, 240, 640)
    use(monkeypatch, Driver().ioctl)
    found = v4l2_formats.variants(0, node("uvcvideo"), present)
    assert [variant.suffix for variant in found] == ["-nv12", "-mjpg", "-640x480"]
    assert uapi.pix_format(found[0].wanted).pixelformat == NV12
    assert uapi.pix_format(found[2].wanted).width == 640
    assert uapi.pix_format(present).sizeimage == 153600, "the present format was changed"
    assert v4l2_formats.variants(0, node("vivid"), present) == []
    use(monkeypatch, Driver(refuses=MJPG).ioctl)
    found = v4l2_formats.variants(0, node("uvcvideo"), present)
    assert [variant.suffix for variant in found] == ["-nv12", "-640x480"]


def test_a_card_is_used_in_a_small_format_and_tried_in_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    present = format_of(YUYV, 720, 576, 1440)
    monkeypatch.setattr(Driver, "sizes", ())
    use(monkeypatch, Driver().ioctl)
    wanted = v4l2_formats.small("tw68", present)
    assert (uapi.pix_format(wanted).width, uapi.pix_format(wanted).field) == (320, 0)
    assert v4l2_formats.small("uvcvideo", present) is None
    found = v4l2_formats.variants(0, node("tw68"), present)
    assert [variant.suffix for variant in found] == ["-nv12", "-mjpg", "-720x576"]
    assert uapi.pix_format(found[0].wanted).width == 320
