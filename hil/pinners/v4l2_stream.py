# SPDX-License-Identifier: GPL-2.0-or-later
"""Frame after frame through pinned memory, each compared, of a device whose pictures are known."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from errno import ETIMEDOUT
from typing import TYPE_CHECKING, Any

from hil.cells import Direction
from hil.evidence import data
from hil.pinners.v4l2_data import PATIENCE, bytes_used, wait
from hil.pinners.v4l2_picture import Pictured, shape_of
from hil.uapi import v4l2 as uapi

if TYPE_CHECKING:
    from hil.evidence.pictures import Source
    from hil.memory.base import Buffer
    from hil.pinners.base import Pinner
    from hil.pinners.v4l2 import V4l2Session


SECONDS = 5.0
"""As long as a stream may take, whatever the machine's speed: a cell has a deadline."""


def pictured(session: V4l2Session) -> Pictured | None:
    """How a session's pictures are known; None when they are not."""
    return session.path if isinstance(session.path, Pictured) else None


def known_source(pinner: Pinner) -> Source | None:
    """Whose pictures a pinner's capture queue gives, where they are known."""
    paths = getattr(pinner, "paths", {})
    path = paths.get(Direction.CAPTURE)
    return path.source if isinstance(path, Pictured) else None


def taken(session: V4l2Session, seconds: float) -> tuple[Any, bool]:
    """Dequeue until the buffer under test comes; it, and whether it has the error flag.

    TimeoutError when it does not come.
    """
    until = time.monotonic() + seconds
    poll = select.poll()
    poll.register(session.fd, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            try:
                done = uapi.dqbuf(session.fd, session.type)
            except BlockingIOError:
                time.sleep(0.001)
                continue
            if done.index == 0:
                return done, bool(done.flags & uapi.V4L2_BUF_FLAG_ERROR)
    raise TimeoutError(ETIMEDOUT, f"no frame came in {seconds:g} s")


def pace(session: V4l2Session, memory: int, count: int) -> dict[str, Any]:
    """How quickly a streaming queue gives frames that nobody looks at: ``fps``, ``lost``.

    ``lost`` is by the driver's own sequence numbers.  Each buffer is queued again at once.  OSError
    when a frame does not come.
    """
    # What came before is not timed.
    uapi.qbuf(session.fd, wait(session.fd, session.type, PATIENCE, memory))
    first = last = -1
    frames, began = 0, time.monotonic()
    while frames < count and time.monotonic() < began + SECONDS / 2:
        done = wait(session.fd, session.type, PATIENCE, memory)
        first, last = (done.sequence if first < 0 else first), done.sequence
        uapi.qbuf(session.fd, done)  # writes the structure anew
        frames += 1
    seconds = max(time.monotonic() - began, 1e-9)
    return {"fps": round(frames / seconds, 1), "lost": last - first + 1 - frames}


def _lost(numbers: list[int]) -> int:
    """How many numbers between the first and the last are missing; they count to 65535."""
    return (numbers[-1] - numbers[0]) % 65536 + 1 - len(numbers) if numbers else 0


def stream(
    session: V4l2Session,
    buffer: Buffer,
    count: int,
    between: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Take ``count`` frames through the pinned buffer, which is poisoned before each; then stop.

    After SECONDS it ends with those that it has.
    ``between`` is called when the buffer has come back and was looked at, before it is queued
    again; the driver's other buffers are filled meanwhile.  The evidence: ``frames``, ``bad``
    (frames with a wrong byte), ``lost`` (numbers between the first and the last that nobody got),
    ``seconds`` and ``first_bad``.  OSError when a frame does not come.
    """
    path = pictured(session)
    assert path is not None
    size = min(buffer.length, session.length)
    poison = session.pattern(size)
    numbers: list[int] = []
    found: dict[str, Any] = {"frames": 0, "bad": 0}
    buffer.write(poison)
    session.start(buffer)
    shape = shape_of(session.format())
    began = time.monotonic()
    try:
        while found["frames"] < count and time.monotonic() < began + SECONDS:
            done = wait(session.fd, session.type, PATIENCE, uapi.V4L2_MEMORY_USERPTR)
            if done.index == 0:
                found["frames"] += 1
                arrived = buffer.read(bytes_used(done))
                try:
                    number = path.source.number(arrived, shape)
                    numbers.append(number)
                    told = data.compare(path.source.draw(number, shape), arrived)
                except ValueError as error:
                    told = {"corrupt_bytes": len(arrived), "why": str(error)}
                if told["corrupt_bytes"]:
                    found["bad"] += 1
                    found.setdefault("first_bad", {"frame": found["frames"], **told})
                between()
                buffer.write(poison)
            uapi.qbuf(session.fd, done)
    finally:
        found["seconds"] = round(time.monotonic() - began, 4)
        session.stop()
    found["lost"] = _lost(numbers)
    return found
