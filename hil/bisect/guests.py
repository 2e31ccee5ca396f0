# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell, run again and again on a virtual board until it is told."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from hil.bisect.sight import StopError, Tally
from hil.errors import HilError, NotCompletedError
from hil.lab import exchange
from hil.lab.board import Board
from hil.lab.kernels import Kernel
from hil.lab.modules import Own
from hil.lab.progress import Say
from hil.lab.running import Guest
from hil.lab.supervisor import IncompleteError, Supervisor
from hil.lab.virtual import VirtualBoard
from hil.runs.folder import RunFolder
from hil.runs.journal import Journal, Record

MOST = 1000
"""How often a cell runs at the most."""
_BOOTS = 2
"""How often a guest is started that does not come up."""


class _Enough(Exception):  # noqa: N818 - it is no error
    """The cell has told what it was asked."""


class _Watcher:
    """Counts the records, and ends the run when they are enough."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def begin(self, cell: str) -> None:
        """Nothing to show."""

    def done(self, record: Record) -> None:
        self.tally.add(record)
        if self.tally.enough:
            raise _Enough

    def note(self, text: str) -> None:
        """It is in the journal's evidence too."""


def run(
    board: Board, kernel: Kernel, own: Sequence[Own], *, cell: str, tally: Tally, folder: RunFolder,
    timeout: float, seed: int, qemu: str, say: Say,
) -> None:  # fmt: skip
    """Run ``cell`` into ``tally`` on this kernel with these modules in place of the stock ones.

    A guest that does not come up or does not take the modules, and one that lacks the cell, leave
    it untold.  StopError when this machine cannot run guests at all.
    """
    warm = bool(own) and exchange.possible(board, own)
    try:
        virtual = VirtualBoard(
            board, kernel, [] if warm else [module.file for module in own],
            cold=not warm, qemu_from=qemu, say=say,
        )  # fmt: skip
        if warm:
            virtual.exchanged = list(own)
    except HilError as error:
        raise StopError(f"no guest can be made: {error.message}", error.hint) from error
    guest = _started(virtual, tally, folder)
    if guest is not None:
        _repeat(virtual, guest, cell=cell, tally=tally, folder=folder, timeout=timeout, seed=seed)
    for record in folder.scan().records:
        if "verdict_before" in record["evidence"]:  # the guest went down when the cell was over
            tally.amend(record)


def _started(virtual: VirtualBoard, tally: Tally, folder: RunFolder) -> Guest | None:
    """A guest; None when none comes up with this kernel or these modules."""
    for _ in range(_BOOTS):
        try:
            guest = virtual.start(folder.console)
        except NotCompletedError as error:
            tally.untold = error.message.partition("\n")[0]
        except HilError as error:
            raise StopError(f"no guest can be started: {error.message}", error.hint) from error
        else:
            tally.untold = ""
            return guest
    return None


def _repeat(
    virtual: VirtualBoard, guest: Guest, *, cell: str, tally: Tally, folder: RunFolder,
    timeout: float, seed: int,
) -> None:  # fmt: skip
    with guest:
        folder.update_meta(
            **{
                **guest.suite, "board": virtual.board.name, "kernel": virtual.kernel.version,
                "kernel_spec": virtual.kernel.spec, "acceleration": virtual.acceleration,
                "cells": 1, "status": "complete",
            }
        )  # fmt: skip
        if cell not in guest.cells:
            tally.untold = _lacking(cell, guest.cells)
            return
        with Journal.open(folder.journal) as journal:
            supervisor = Supervisor(
                virtual, journal, folder.console, _Watcher(tally), timeout, seed=seed
            )
            try:
                supervisor.run(guest, [cell] * MOST)
            except _Enough:
                pass
            except IncompleteError as error:
                tally.untold = str(error).partition("\n")[0]


def _lacking(cell: str, cells: Sequence[str]) -> str:
    near = difflib.get_close_matches(cell, cells, 3, 0.7)
    hint = f"; near are {', '.join(near)}" if near else ""
    return f"this kernel and board have no cell {cell}{hint}"
