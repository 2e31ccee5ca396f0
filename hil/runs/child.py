# SPDX-License-Identifier: GPL-2.0-or-later
"""A piece of work in a child process of its own, with a deadline.

The parent never waits for good: it waits on a pidfd with a time limit, kills the child and all of
its process group, and gives up a child that SIGKILL does not end.  The child dies with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import mmap
import os
import select
import signal
import struct
import threading
from collections.abc import Callable
from pathlib import PurePath
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

Result = dict[str, Any]

KILL_WAIT = 2.0
"""Seconds after SIGKILL until a child counts as unkillable."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.PyDLL(None, use_errno=True)  # the lock stays held: the child has its only thread
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong)
_LENGTHS = struct.Struct("QQ")
_LENGTHS_AT = 16


def _plain(value: object) -> object:
    """JSON for what else may be in a result: sets, paths, bytes."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)


_encode = json.JSONEncoder(default=_plain, separators=(",", ":")).encode


class Board:
    """What child and parent share: the stage that the child is in, and what it writes down.

    The stage costs the child one store and no system call.  Evidence goes into a memory file, of
    any size, without the parent having to empty a pipe meanwhile.
    """

    __slots__ = ("_fd", "_page")

    def __init__(self) -> None:
        self._fd = os.memfd_create("evidence", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, mmap.PAGESIZE)
        self._page = mmap.mmap(self._fd, mmap.PAGESIZE)

    def clear(self) -> None:
        """Forget the last child."""
        self._page[:64] = bytes(64)

    @property
    def stage(self) -> int:
        """The stage that the child came to; 0 before it said anything."""
        return self._page[0]

    @stage.setter
    def stage(self, number: int) -> None:
        self._page[0] = number

    def write(self, value: Result, *, early: bool = False) -> None:
        """Write down the result, once; something ``early`` may go before it, once."""
        first, second = _LENGTHS.unpack_from(self._page, _LENGTHS_AT)
        data = _encode(value).encode()
        os.pwrite(self._fd, data, mmap.PAGESIZE + (0 if early else first))
        lengths = (len(data), second) if early else (first, len(data))
        _LENGTHS.pack_into(self._page, _LENGTHS_AT, *lengths)

    def read(self) -> tuple[Result, Result]:
        """What was written early and the result; empty where the child did not come that far."""
        first, second = _LENGTHS.unpack_from(self._page, _LENGTHS_AT)
        data = b""
        while len(data) < first + second:
            more = os.pread(self._fd, first + second - len(data), mmap.PAGESIZE + len(data))
            if not more:
                break
            data += more
        return (
            json.loads(data[:first]) if first else {},
            json.loads(data[first:]) if second else {},
        )

    def close(self) -> None:
        self._page.close()
        os.close(self._fd)


class End(NamedTuple):
    """How a child ended."""

    hung: bool
    """It was still there at the deadline."""
    killed: bool | None
    """Whether SIGKILL ended it; None where it was not needed."""
    signal: int | None
    exit: int | None
    system: float | None
    """Seconds of CPU time in the kernel, with the children that it waited for."""


def run(
    board: Board,
    work: Callable[[], Result],
    deadline: float,
    on_hang: Callable[[int], None] | None = None,
) -> End:
    """Do ``work`` in a child; its result, or {"setup": {"error": ..}}, is then on the board.

    ``on_hang`` is called with the child's id when the deadline (seconds) has passed, before it is
    killed; it must not block.  Comes back after that and KILL_WAIT at the latest.
    """
    parent = os.getpid()
    pid = fork()
    if pid == 0:
        _child(board, parent, work)
    watch = -1
    hung, gone, killed = False, False, None
    try:
        own_group(pid)
        watch = os.pidfd_open(pid)
        gone = wait(watch, deadline)
        if not gone:
            hung = True
            if on_hang is not None:
                on_hang(pid)
            kill(pid)
            gone = killed = wait(watch, KILL_WAIT)
    finally:
        # All that the child left behind goes with it; until it is reaped, the id is its own.
        kill(pid)
        if watch >= 0:
            gone = gone or (killed is None and wait(watch, KILL_WAIT))
            os.close(watch)
        end = reap(pid, hung, killed) if gone else End(hung, False, None, None, None)
    return end


def reap(pid: int, hung: bool, killed: bool | None) -> End:
    """How a child ended that is gone."""
    _, status, usage = os.wait4(pid, 0)
    return End(
        hung,
        killed,
        os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        usage.ru_stime,
    )


def fork() -> int:
    """fork(2); without what CPython does around it, where that is for other threads only.

    os.fork() renews locks, reseeds generators and calls every handler of os.register_at_fork(), in
    the child and the parent: 200 pages written that both then have to copy.  With one thread no
    lock can be held by another, and the cells' generators have seeds of their own.
    """
    if threading.active_count() > 1:
        return os.fork()
    pid: int = _libc.fork()
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def aside(work: Callable[[], Result], seconds: float) -> Result | None:
    """Do what may block in a child; None when it failed or took longer than ``seconds``."""
    board = Board()
    try:
        end = run(board, work, seconds)
        result = board.read()[1]
        return result if end.exit == 0 else None
    finally:
        board.close()


def wait(watch: int, seconds: float) -> bool:
    """Wait for a process by its pidfd; False when it is still there after ``seconds``."""
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds * 1000)))


def own_group(pid: int) -> None:
    """Parent and child both do this, so that it is done whoever comes first."""
    with contextlib.suppress(OSError):  # the child is gone already
        os.setpgid(pid, pid)


def kill(pid: int) -> None:
    """SIGKILL to a child and its process group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:  # it never came to have a group
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def serve(parent: int, work: Callable[[], None]) -> NoReturn:
    """Do the work in a child that was just forked, and end it without any clean-up."""
    status = 1
    try:
        gc.disable()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before the line above
            own_group(0)
            work()
            status = 0
    finally:
        os._exit(status)


def _child(board: Board, parent: int, work: Callable[[], Result]) -> NoReturn:
    """Do the work and write down what it returns, or why it did not."""

    def body() -> None:
        try:
            board.write(work())
        except BaseException as error:
            board.write({"setup": {"error": told(error)}})
            raise

    serve(parent, body)


def told(error: BaseException) -> str:
    """The error and where it came from, innermost last; the traceback module costs an import."""
    where: list[str] = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        where.append(f"{PurePath(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{error!r} at {' > '.join(where[-6:])}"
