# SPDX-License-Identifier: GPL-2.0-or-later
"""What arrived against what was sent; no device is needed."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.errors import NotApplicableError
from hil.evidence import data
from hil.memory.base import PAGE, Buffer, fill, pattern, place
from hil.pinners import vivid
from hil.pinners.v4l2 import Queue
from hil.pinners.v4l2_data import Capture, DataPath
from hil.uapi import access, mm
from hil.uapi import v4l2 as uapi

FRAME = 5 * PAGE + 100
QUEUE = Queue(uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE, (FRAME,), None, None, True)
PICTURE = pattern(FRAME, start=7)


class Stream:
    """A session whose device does with the buffer what it is told."""

    length, count = FRAME, 2

    def __init__(self, device: Callable[[Buffer], None], used: int = FRAME) -> None:
        self.device, self.used, self.stopped = device, used, 0

    def pattern(self, length: int) -> bytes:
        return pattern(length, start=83)

    def start(self, buffer: Buffer, *, last: bool = False) -> None:
        self.device(buffer)

    def wait(self, index: int = 0) -> Any:
        return SimpleNamespace(type=QUEUE.type, bytesused=self.used)

    def stop(self) -> None:
        self.stopped += 1


def memory(pages: int = 8, skip: int = 0) -> Buffer:
    """Filled memory of 8 pages; the buffer begins ``skip`` bytes into it."""
    address = place(pages * PAGE)
    fill(address, pages * PAGE)
    return Buffer(address + skip, 6 * PAGE)


def writes(data_: bytes, at: int = 0) -> Callable[[Buffer], None]:
    return lambda buffer: access.poke(buffer.address + at, data_)


def through(path: DataPath, buffer: Buffer, device: Callable[[Buffer], None]) -> dict[str, Any]:
    session = Stream(device)
    moved = path.transfer(session, buffer)  # type: ignore[arg-type]
    assert session.stopped
    found = data.compare(moved.sent, moved.arrived, moved.before)
    return found if moved.known else found | data.unchanged(moved.before, moved.arrived)


def known() -> Capture:
    path = Capture(Path("/dev/null"), QUEUE)
    path.picture = PICTURE
    return path


def test_peek_and_poke_answer_with_efault_instead_of_a_signal() -> None:
    buffer = memory()
    buffer.write(b"abc")
    assert buffer.read(5) == b"abc" + pattern(2, start=3)
    mm.mprotect(buffer.address, PAGE, mm.PROT_READ)
    assert buffer.read(3) == b"abc"
    with pytest.raises(OSError, match="Bad address"):
        buffer.write(b"x")
    mm.munmap(buffer.address + PAGE, PAGE)
    with pytest.raises(OSError, match="Bad address"):
        buffer.read()
    with pytest.raises(OSError, match="Bad address"):
        access.poke(buffer.address + 2 * PAGE - 1, b"xy")
    pid = os.fork()
    if pid == 0:
        access.peek(buffer.address, 1)  # in a scratch of its own
        os._exit(0)
    os.waitpid(pid, 0)
    assert buffer.read(3) == b"abc"


def test_a_buffer_is_read_where_its_mapping_went() -> None:
    buffer, other = memory(), memory()
    other.write(b"here")
    buffer.moved_to = other.address
    assert buffer.read(4) == b"here"


def test_a_known_picture_has_to_arrive_whole_and_nothing_behind_it() -> None:
    assert through(known(), memory(), writes(PICTURE)) == {"bytes": 6 * PAGE, "corrupt_bytes": 0}
    wrong = bytearray(PICTURE)
    wrong[2 * PAGE + 5] ^= 1
    found = through(known(), memory(), writes(bytes(wrong)))
    assert (found["corrupt_bytes"], found["first_wrong"]) == (1, 2 * PAGE + 5)
    found = through(known(), memory(), writes(PICTURE + b"\0\1\2"))
    assert found["corrupt_bytes"] and found["first_wrong"] == FRAME
    found = through(known(), memory(), writes(PICTURE[: 3 * PAGE]))
    assert (found["first_wrong"], found["corrupt_pages"]) == (3 * PAGE, 3)


def test_a_picture_that_went_elsewhere_is_stale() -> None:
    assert through(known(), memory(), lambda _: None) == {
        "bytes": 6 * PAGE, "corrupt_bytes": 0, "stale": True,
    }  # fmt: skip


def test_an_unknown_picture_must_change_every_page_and_may_use_the_whole_buffer() -> None:
    path = Capture(Path("/dev/null"), QUEUE)
    assert through(path, memory(), writes(os.urandom(FRAME)))["corrupt_bytes"] == 0
    assert through(path, memory(), lambda _: None)["stale"]
    found = through(path, memory(), writes(os.urandom(2 * PAGE)))
    assert (found["corrupt_bytes"], found["first_wrong"]) == (FRAME - 2 * PAGE, 2 * PAGE)
    # vb2_plane_size() of a user pointer is what the process said
    assert through(path, memory(), writes(os.urandom(FRAME) + b"zz"))["corrupt_bytes"] == 0


def test_what_the_process_cannot_look_at_proves_nothing() -> None:
    def gone(buffer: Buffer) -> None:
        mm.munmap(buffer.address, buffer.length)

    buffer = memory()
    gone(buffer)
    with pytest.raises(NotApplicableError, match="can't look"):
        through(known(), buffer, lambda _: None)


def test_what_was_learnt_goes_through_json() -> None:
    path, other = Capture(Path("/nowhere"), QUEUE), known()
    found = path.learn()
    assert "No such file" in found["silent"]
    other.recall(found)
    with pytest.raises(NotApplicableError, match="gives no frame"):
        through(other, memory(), lambda _: None)
    other.recall({"picture": "QUJD"})
    assert (other.picture, other.silent) == (b"ABC", "")


def test_the_rest_of_the_buffers_pages_is_watched() -> None:
    buffer = memory(skip=123)
    around = data.Surroundings(buffer)
    assert around.changed() == 0
    access.poke(buffer.address - 2, b"\0\0")
    access.poke(buffer.address + buffer.length, b"\0")
    assert around.changed() == 3
    whole = memory()
    assert data.Surroundings(whole).changed() == 0


def test_vivids_small_format_leaves_lines_to_the_driver() -> None:
    single = uapi.Format(type=uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE)
    single.fmt.pix.sizeimage = 460800
    it = uapi.pix_format(vivid.sized(single))
    assert (it.width, it.height, it.bytesperline, it.sizeimage) == (320, 180, 0, 0)
    assert single.fmt.pix.sizeimage == 460800
    many = uapi.Format(type=uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE)
    many.fmt.pix_mp.num_planes = 2
    many.fmt.pix_mp.plane_fmt[1].sizeimage = 9
    assert uapi.plane_sizes(vivid.sized(many)) == (0, 0)


def test_addresses_stay_what_they_are() -> None:
    kept = mmap.mmap(-1, PAGE)
    assert access.peek(ctypes.addressof(ctypes.c_char.from_buffer(kept)), 4) == bytes(4)
