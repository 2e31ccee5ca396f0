# SPDX-License-Identifier: GPL-2.0-or-later
"""What else a program may ask of a memory-to-memory device while its memory is pinned.

A driver answers for what the device does with the pages, whatever rectangle a program sets and
whether or not the device ever finishes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hil.conditions.base import Condition
from hil.errors import NotApplicableError
from hil.pinners.copied import following
from hil.pinners.v4l2_m2m import M2mPinner, M2mSession

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.pinners.base import Pinner

NEVER = b"hil: this job never completes"
"""A picture that begins so has the G2D of hil/silicon hang; hardware takes it as any other."""


class _Job(Condition):
    everywhere = True
    has_control = False

    def concerns(self, pinner: Pinner) -> bool:
        return isinstance(pinner, M2mPinner) and pinner.side > 0 and not pinner.slow


class SelectionBeyondFrame(_Job):
    """The driver must bring the rectangle into the frame, or refuse it (VIDIOC_S_SELECTION).

    Documentation/userspace-api/media/v4l/vidioc-g-selection.rst.  The frames behind the buffer's
    are this process's own, so nobody else is harmed.
    """

    name = "selection-beyond-frame"
    summary = "a rectangle is asked for that reaches beyond the picture"
    holds = "refused or brought into the frame: no byte of a frame that was not queued changes"
    why = "Documentation/userspace-api/media/v4l/vidioc-g-selection.rst"
    classes = ("anonymous-apart",)

    def during(self, scene: Scene) -> None:
        if not following(scene.buffer):
            raise NotApplicableError("the pin has moved the page: its neighbour belongs to others")
        session = scene.session
        if isinstance(session, M2mSession):
            side = session.side
            with contextlib.suppress(OSError):
                if session.captures:
                    session.select(side, 2 * side)
                else:
                    session.select(side, side, top=side)


class SelectionEmpty(_Job):
    """Width and height of 0."""

    name = "selection-empty"
    summary = "a rectangle without any pixel is asked for"
    holds = "refused or made larger: the job ends, and the machine lives"
    why = "Documentation/userspace-api/media/v4l/vidioc-g-selection.rst"
    classes = ("anonymous",)
    destructive = True

    def during(self, scene: Scene) -> None:
        session = scene.session
        if isinstance(session, M2mSession):
            with contextlib.suppress(OSError):
                session.select(0, 0)


class JobNeverCompletes(_Job):
    """Only a device model does that for the asking."""

    name = "job-never-completes"
    summary = "the device never finishes, and the program ends"
    holds = "the node can be closed and the program killed; no pin is left"
    why = "v4l2-mem2mem.c v4l2_m2m_cancel_job: job_abort is the driver's to have"
    classes = ("anonymous",)
    destructive = True

    def during(self, scene: Scene) -> None:
        session = scene.session
        if isinstance(session, M2mSession):
            session.begin = NEVER


JOBS: tuple[type[Condition], ...] = (SelectionBeyondFrame, SelectionEmpty, JobNeverCompletes)
