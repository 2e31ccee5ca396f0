# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which a pin's life may end: each must give everything back, and no sooner."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried, write_all
from hil.conditions.userfault import armed
from hil.errors import NotApplicableError
from hil.evidence import data, frames
from hil.memory.anonymous import filled
from hil.pinners.base import PinResult
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.memory.base import Buffer

_VB2 = "videobuf2-core.c __vb2_queue_free, __vb2_buf_userptr_put; vb2_core_queue_release at close"
_ANSWER = struct.Struct("=iIi")
_GRACE = 2.0
"""Seconds that a killed process may take to be gone."""


def _all(scene: Scene) -> int:
    return scene.pinned_pages + scene.session.extra_pages


class StreamOff(Condition):
    name = "end-streamoff"
    alone = False
    summary = "STREAMOFF, then the end as ever"
    holds = "the memory stays pinned until the buffers are freed, then no pin is left"
    why = f"__vb2_queue_cancel puts no memory; {_VB2}"

    def end(self, scene: Scene) -> None:
        scene.session.stop()
        scene.check_held("after STREAMOFF", _all(scene))
        scene.session.release()


class FreeBuffers(Condition):
    name = "end-reqbufs-zero"
    alone = False
    summary = "the buffers are freed (REQBUFS of 0) while the node stays open"
    holds = "no pin is left, with the node still open"
    why = _VB2

    def end(self, scene: Scene) -> None:
        scene.session.stop()
        scene.session.free()
        scene.check_held("after the buffers were freed", 0)
        scene.session.release()


class OtherPointer(Condition):
    name = "end-other-pointer"
    alone = False
    summary = "the same buffer is queued again with other memory"
    holds = (
        "the old pages are given back, the new ones pinned, and the device sees those; then no pin "
        "is left"
    )
    why = f"videobuf2-core.c __prepare_userptr: another pointer puts the old memory first; {_VB2}"

    def end(self, scene: Scene) -> None:
        scene.session.stop()
        other = filled(scene.buffer.length)
        result = scene.session.pin(other)
        scene.check_call("the second call", result.errno, other)
        held = 0 if result.errno else other.pages + scene.session.extra_pages
        scene.check_held("with the other memory", held)
        if not result.errno:
            wrong = _wrong_bytes(scene, other)
            scene.facts["bytes_through_other"] = wrong
            scene.check("bytes that did not go through the other memory", wrong or 0, 0,
                        verdict="stale")  # fmt: skip
        scene.session.release()


def _wrong_bytes(scene: Scene, buffer: Buffer) -> int | None:
    """How many bytes differ when data goes through ``buffer``; None where nobody can tell."""
    try:
        moved = scene.session.transfer(buffer)
    except NotApplicableError:
        return None
    if moved is None or not (moved.known or moved.sent):
        return None
    found = data.through(moved)
    return len(moved.arrived) if found.get("stale") else int(found.get("corrupt_bytes") or 0)


class CloseOnly(Condition):
    name = "end-close"
    alone = False
    summary = "the node is closed with the buffer still queued"
    holds = "no pin is left"
    why = _VB2

    def end(self, scene: Scene) -> None:
        scene.session.start(scene.buffer)
        scene.session.abandon()


class DupClosedOnce(Condition):
    name = "end-dup"
    alone = False
    summary = "a second descriptor of the open node; one is closed, then the other"
    holds = "pinned until the last descriptor is closed, then no pin is left"
    why = f"fs/file_table.c fput: release at the last reference; {_VB2}"

    def end(self, scene: Scene) -> None:
        other = os.dup(scene.session.fd)
        scene.session.abandon()
        scene.check_held("with one of two descriptors closed", _all(scene))
        os.close(other)


def _by_another(
    scene: Scene, then: str, channel: socket.socket | None = None
) -> tuple[int, PinResult]:
    """Have a child pin the buffer, of which it has a copy: its id, and what the call answered.

    It ``exit``s or ``wait``s; ``channel`` gets its descriptor of the node.  Its pages are those
    that are pinned, not this process's.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            result = scene.session.pin(scene.buffer)
            passing = 0
            if channel is not None:
                try:
                    socket.send_fds(channel, [b"node"], [scene.session.fd])
                except OSError as error:
                    passing = error.errno or -1
            answer = _ANSWER.pack(result.errno, result.companion_pages, passing)
            words = frames.entries(scene.buffer.address, scene.buffer.length)
            write_all(tell, answer + len(words).to_bytes(8, sys.byteorder) + words.tobytes())
            if then == "wait":
                signal.pause()
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as said:
        word = said.read(_ANSWER.size)
        words = array("Q", said.read(8 * int.from_bytes(said.read(8), sys.byteorder)))
    if not word:
        os.waitpid(pid, 0)
        raise RuntimeError("the process that was to pin ended without a word")
    errno, companions, passing = _ANSWER.unpack(word)
    if passing:  # EINVAL for a ring of io_uring's (net/core/scm.c scm_fp_copy: io_is_uring_fops)
        os.waitpid(pid, 0)
        raise NotApplicableError(f"this descriptor can't be passed on: {os.strerror(passing)}")
    scene.theirs = words
    if not errno:
        scene.session.extra_pages = max(scene.session.extra_pages, companions)
    return pid, PinResult(scene.session.call, errno, companions)


class FdPassed(Condition):
    name = "end-fd-passed"
    summary = "another process pins its memory, passes the node's descriptor on, and exits"
    holds = (
        "its pages stay pinned for whoever has the node open, who does not see them (shared memory "
        "he does); no pin is left when he closes it"
    )
    why = f"pins hold pages, not the mm (mm/gup.c); net/unix SCM_RIGHTS; {_VB2}"
    may_lose = True

    def pin(self, scene: Scene) -> PinResult:
        here, there = socket.socketpair()
        shared = scene.shared
        pid, result = _by_another(scene, "exit", there)
        _, fds, _, _ = socket.recv_fds(here, 16, 1)
        os.waitpid(pid, 0)
        here.close()
        there.close()
        scene.session.abandon()
        scene.session.fd = fds[0]
        if not result.errno and not shared:
            scene.lost()
        return result


class KilledQueued(Condition):
    name = "end-sigkill"
    summary = "the process that pinned, the last that has the node open, is killed while streaming"
    holds = "no pin is left when it is gone"
    why = f"kernel/exit.c exit_files; {_VB2}"
    may_lose = True

    def pin(self, scene: Scene) -> PinResult:
        shared = scene.shared
        self.pid, result = _by_another(scene, "wait")
        if not result.errno and not shared:
            scene.lost()
        return result

    def end(self, scene: Scene) -> None:
        scene.session.start(scene.buffer)
        scene.session.abandon()
        scene.check_held("by the other process", _all(scene))
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class KilledInCall(Condition):
    name = "end-sigkill-in-call"
    summary = "a process is killed inside of the call under test, while it waits for a page"
    holds = "it dies at once, no pin is left, and the next process finds the node as it was"
    why = (
        "mm/gup.c __get_user_pages: fatal_signal_pending; mm/userfaultfd.c handle_userfault waits "
        "killably; on 5.12 to 6.1 the call does not wait but gives EFAULT"
    )
    classes = ("anonymous", "thp", "hugetlb-2m-private")

    def pin(self, scene: Scene) -> PinResult:
        told, tell = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                armed(scene)
                os.write(tell, b"armed ")
                errno = scene.session.pin(scene.buffer).errno
                os.write(tell, f"came back: {os.strerror(errno)}".encode())
                signal.pause()
            except NotApplicableError:
                os._exit(1)
            finally:
                os._exit(0)
        os.close(tell)
        if not os.read(told, 6):
            os.waitpid(pid, 0)
            raise NotApplicableError("this memory can't be watched for missing pages")
        time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + _GRACE
        while not (gone := os.waitpid(pid, os.WNOHANG)[0]) and time.monotonic() < until:
            time.sleep(0.005)
        scene.check("the process is gone", bool(gone), True, verdict="hang")
        scene.facts["call"] = os.read(told, 64).decode() or "waited"
        os.close(told)
        if scene.facts["call"] != "waited":  # it has the buffer: the node is still ours
            scene.session.stop()
            scene.session.free()
            scene.session.renew()
        scene.check_held("after the kill", 0)
        return scene.session.pin(scene.buffer)


class ModuleUnload(Condition):
    name = "module-unload"
    alone = False
    summary = "the driver's module is asked to go (delete_module with O_NONBLOCK)"
    holds = "refused while the node is open: EWOULDBLOCK, or EBUSY for a module that can't go"
    why = "kernel/module/main.c delete_module: the reference count; v4l2-dev.c fops owner"

    def during(self, scene: Scene) -> None:
        driver = scene.driver.replace("-", "_")
        if not Path(f"/sys/module/{driver}/refcnt").exists():
            raise NotApplicableError(f"the driver {scene.driver} is not a module of its own name")
        gave = tried(mm.syscall, "delete_module", driver.encode(), os.O_NONBLOCK)
        scene.check(f"delete_module({driver})", gave, "EAGAIN", "EBUSY")


ENDS: tuple[type[Condition], ...] = (
    StreamOff, FreeBuffers, OtherPointer, CloseOnly, DupClosedOnce, FdPassed, KilledQueued,
    KilledInCall, ModuleUnload,
)  # fmt: skip
