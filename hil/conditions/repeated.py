# SPDX-License-Identifier: GPL-2.0-or-later
"""The call is made many times: what one call loses shows by the hundred."""

from __future__ import annotations

import os
import time
from collections import Counter
from errno import errorcode
from typing import TYPE_CHECKING

from hil.conditions.base import Condition
from hil.evidence import kernel_memory
from hil.memory.anonymous import filled
from hil.memory.base import PAGE, Buffer, place
from hil.pinners.v4l2 import V4l2Pinner
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.pinners.base import Pinner, PinResult

_TURNS = 512
_SECONDS = 1.6
"""How long the turns of one batch may take."""
_LEAST = 160
"""Turns that tell something of slabs of 32 objects and more."""
_BATCHES = 3
_PUT = "videobuf2-core.c __vb2_buf_userptr_put, and its way out of __prepare_userptr (err:)"


class AgainAndAgain(Condition):
    """What is lost at each call: pins, records of the driver, mappings, whatever was allocated.

    A cache that grew by an object a turn may have grown for another reason: memory that is freed
    late, as mm/vmalloc.c does with addresses, or the machine's own work.  So the batch is made up
    to three times, and a lost object is one that each of them lost.
    """

    name = "again-and-again"
    summary = f"the buffer is pinned and given back, or refused, {_TURNS} times before"
    holds = (
        "each turn answers the same; no pin is left; nothing that the kernel allocates grows by "
        "an object a turn, nor its addresses by a buffer a turn"
    )
    why = f"mm/slub.c get_slabinfo, mm/vmalloc.c vmalloc_info_show; {_PUT}"
    classes = ("anonymous", "unmapped-first", "unmapped-last")

    def pin(self, scene: Scene) -> PinResult:
        answers: Counter[str] = Counter()
        self._turn(scene, answers)  # what is made once, at the first call, is no loss
        grown: dict[str, int] = {}
        turns, mapped = 0, scene.buffer.length
        for batch in range(_BATCHES):
            before = kernel_memory.reading()
            turns = self._turns(scene, answers)
            found = kernel_memory.grown(before, kernel_memory.reading(), turns, mapped)
            grown = {name: more for name, more in found.items() if not batch or name in grown}
            if not grown or turns < _LEAST:
                break
        scene.facts |= {"turns": turns, "answers": dict(answers), "grown": grown}
        scene.check_held("after all turns", 0)
        others = turns and sum(answers.values()) - max(answers.values())
        scene.check(f"turns that were answered otherwise ({dict(answers)})", others, 0)
        lost = {name: f"{more} in {turns} turns" for name, more in grown.items()}
        scene.check("what the kernel lost", lost if turns >= _LEAST else {}, {},
                    verdict="leak")  # fmt: skip
        return scene.session.pin(scene.buffer)

    def _turns(self, scene: Scene, answers: Counter[str]) -> int:
        until = time.monotonic() + _SECONDS
        turns = 0
        while turns < _TURNS and time.monotonic() < until:
            self._turn(scene, answers)
            turns += 1
        return turns

    @staticmethod
    def _turn(scene: Scene, answers: Counter[str]) -> None:
        session = scene.session
        result = session.pin(scene.buffer)
        answers[errorcode.get(result.errno, "accepted")] += 1
        if not result.errno:
            session.stop()
            session.free()
            session.renew()


class _V4l2(Condition):
    """What programs do with the buffers of a V4L2 queue."""

    classes: tuple[str, ...] = ("anonymous", "memfd")
    has_control = False

    def concerns(self, pinner: Pinner) -> bool:
        return isinstance(pinner, V4l2Pinner) and super().concerns(pinner)


class RefusedBetween(_V4l2):
    name = "refused-between"
    alone = False
    summary = "the buffer is queued with memory that is refused, twice, then with its own again"
    holds = (
        "both calls are refused and nothing stays pinned by them; then the memory is pinned anew, "
        "and device and process see the same bytes"
    )
    why = "videobuf2-core.c __prepare_userptr: puts the old planes, and forgets what it refused"

    def during(self, scene: Scene) -> None:
        session = scene.session
        session.stop()
        length = scene.buffer.length
        hole = place(length)
        mm.munmap(hole, length)
        for which in ("first", "second"):
            errno = session.pin(Buffer(hole, length)).errno
            gave = errorcode.get(errno, "accepted")
            scene.facts[which] = gave
            scene.check(f"the {which} call with memory that is not there", gave != "accepted", True,
                        verdict="wrongly-accepted")  # fmt: skip
            scene.check_held(f"after the {which} refusal", 0)
        errno = session.pin(scene.buffer).errno
        scene.check("the call with the memory of before", os.strerror(errno) if errno else "0", "0",
                    verdict="wrongly-refused")  # fmt: skip
        scene.check("pins held with the memory of before", scene.held(),
                    scene.pinned_pages + session.extra_pages, verdict="miscounted")  # fmt: skip


class OtherLength(_V4l2):
    name = "end-other-length"
    alone = False
    summary = (
        "the same buffer is queued again at the same address, three pages longer, then as it was"
    )
    holds = (
        "each time the pages of that length are pinned, no more and no fewer; then no pin is left"
    )
    why = f"videobuf2-core.c __prepare_userptr: skipped if pointer and length are as before; {_PUT}"
    classes = ("anonymous",)

    def end(self, scene: Scene) -> None:
        session, length = scene.session, scene.buffer.length
        session.stop()
        longer = filled(length + 3 * PAGE)
        for what, size in (("", length), ("longer ", longer.length), ("shorter ", length)):
            part = Buffer(longer.address, size)
            errno = session.pin(part).errno
            session.stop()
            scene.check_call(f"the {what}call", errno, part)
            held = 0 if errno else part.pages + session.extra_pages
            scene.check(f"pins held by the {what}call", scene.held(), held,
                        verdict="miscounted")  # fmt: skip
        session.release()


REPEATED: tuple[type[Condition], ...] = (AgainAndAgain, RefusedBetween, OtherLength)
