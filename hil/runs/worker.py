# SPDX-License-Identifier: GPL-2.0-or-later
"""A child that does one piece of work after another, as long as each leaves it as it was.

Forking Python costs more than most cells do, and a forked child copies each page that it writes to:
under an emulator that is two thirds of a cell.  So a child whose process is what it was before goes
on with the next one.  Everything else is as in hil/runs/child.py: it has a deadline for each, it is
killed with all its process group, and it dies with its parent.
"""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Callable

from hil.runs import child
from hil.runs.child import Board, End, Result

MOST = 256
"""Pieces that a child may do: nothing collects its garbage."""

_AGAIN, _LAST = b"+", b"-"
_ORDER = 4096


class Worker:
    """One child at a time, forked when there is something to do and none is there.

    ``work(board, order)`` is done in the child.  ``begin`` is called when it starts, and what that
    gives is asked after each piece whether another one may come.
    """

    def __init__(
        self, work: Callable[[Board, str], Result], begin: Callable[[], Callable[[], bool]]
    ) -> None:
        self._work, self._begin = work, begin
        self.board: Board = Board()
        """Where the result is; a new one after a child that could not be killed."""
        self.used = 0
        """How many pieces the present child has done; 0 when the next one will be the first."""
        self._pid, self._watch = 0, -1
        self._line: socket.socket | None = None

    def run(self, order: str, deadline: float, on_hang: Callable[[int], None] | None = None) -> End:
        """Do one piece, as `child.run` does; the child may be there still when this comes back."""
        line = self._line or self._start()
        try:
            line.send(order.encode())
        except OSError:  # it died between two pieces: somebody ran out of memory, say
            self.dismiss()
            line = self._start()
            line.send(order.encode())
        self.used += 1
        hung, killed, word = False, None, b""
        try:
            if not _ready(line.fileno(), deadline):
                hung = True
                if on_hang is not None:
                    on_hang(self._pid)
                child.kill(self._pid)
                killed = child.wait(self._watch, child.KILL_WAIT)
            else:
                word = line.recv(64)
        except BaseException:
            self.dismiss()
            raise
        if word[:1] == _AGAIN:
            return End(False, None, None, 0, float(word[1:]))
        end = self._reap(hung, killed)
        return end._replace(exit=0, system=float(word[1:])) if word else end

    def dismiss(self) -> None:
        """End the child: the next piece gets a new one, which knows what its parent knows then."""
        if self._pid:
            self._reap(False, None)

    def close(self) -> None:
        """End it for good; twice does no harm."""
        self.dismiss()
        self.board.close()

    def _reap(self, hung: bool, killed: bool | None) -> End:
        assert self._line is not None
        self._line.close()
        pid, watch = self._pid, self._watch
        self._pid, self._watch, self._line, self.used = 0, -1, None, 0
        gone = child.wait(watch, 0.0 if killed is False else child.KILL_WAIT)
        child.kill(pid)  # what it left behind goes with it
        gone = gone or (killed is None and child.wait(watch, child.KILL_WAIT))
        os.close(watch)
        if not gone:
            # It may still write when its call comes back.
            self.board = Board()
            return End(hung, False, None, None, None)
        return child.reap(pid, hung, killed)

    def _start(self) -> socket.socket:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = child.fork()
        if pid == 0:
            here.close()
            child.serve(parent, lambda: self._serve(there))
        there.close()
        child.own_group(pid)
        self._pid, self._watch, self._line, self.used = pid, os.pidfd_open(pid), here, 0
        return here

    def _serve(self, line: socket.socket) -> None:
        fit = self._begin()
        for number in range(1, MOST + 1):
            order = line.recv(_ORDER)
            if not order:
                return
            before = _system()
            try:
                self.board.write(self._work(self.board, order.decode()))
                again = number < MOST and fit()
            except BaseException as error:
                self.board.write({"setup": {"error": child.told(error)}})
                again = False
            word = _AGAIN if again else _LAST
            line.send(word + f"{_system() - before:.6f}".encode())
            if not again:
                return


def _ready(fd: int, seconds: float) -> bool:
    """Wait until the other end of a line said something, or is gone."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds * 1000)))


def _system() -> float:
    """Seconds of CPU time in the kernel, with the children that were waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(one).ru_stime for one in who)
