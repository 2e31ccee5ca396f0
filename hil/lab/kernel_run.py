# SPDX-License-Identifier: GPL-2.0-or-later
"""The run of one kernel on one board: its folder, its guests, its end."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hil.errors import HilError
from hil.lab import board as boards
from hil.lab import cache, clients, kernels
from hil.lab.architectures import ARCHITECTURES
from hil.lab.board import Board
from hil.lab.expression import Expression
from hil.lab.kernels import Kernel
from hil.lab.lots import Lots
from hil.lab.running import Guest
from hil.lab.selection import select
from hil.lab.supervisor import IncompleteError, Supervisor
from hil.lab.virtual import VirtualBoard
from hil.report import html, junit
from hil.report.progress import Progress, clock
from hil.runs import outcome
from hil.runs.brief import briefs
from hil.runs.folder import RunFolder
from hil.runs.journal import Journal
from hil.runs.stream import Cells
from hil.runs.suite import DEADLINE
from hil.system import version

DEFAULT_BOARD = "virtual-x86"
DEFAULT_KERNEL = "debian:6.12"


class Options(NamedTuple):
    """What `hil run` was asked for."""

    board: str = DEFAULT_BOARD
    kernel: str = DEFAULT_KERNEL
    """What boots: a spec of hil/lab/kernels.py."""
    modules: tuple[str, ...] = ()
    keywords: str = ""
    marks: str = ""
    out: str = "results"
    cell_timeout: float = DEADLINE
    cold: bool = False
    seed: int = 1
    """What the races' random numbers begin with."""
    destructive: bool = False
    """On this machine: conditions too that may harm it.  A virtual board has them anyway."""
    qemu: str = "host"
    """Which QEMU runs the guest: one of qemu_program.SOURCES."""
    clients: bool = False
    """Also run the board's test programs of others."""
    jobs: int = 0
    """Guests side by side; 0 is as many as the machine allows."""


class KernelRun:
    """One run of `hil run`: the board with one kernel, and the folder of what came of it.

    A job of hil/lab/fleet.py.  ``folder`` is that of a run to go on with.
    """

    def __init__(
        self,
        options: Options,
        command: Sequence[str],
        progress: Progress,
        *,
        places: int,
        folder: RunFolder | None = None,
        title: str = "",
    ) -> None:
        """``title`` is how it is called among others; that of the kernel where it is empty."""
        self.options, self.command = options, command
        self.title = title or title_of(options.kernel)
        self.folder = folder
        self.status = "not begun"
        """As in run.json, once it has begun."""
        self.note = ""
        """What a person is to know at the end."""
        self.exit_code = 3
        """When the reports are made: see hil/runs/outcome.py."""
        self.seconds = 0.0
        """From its first guest's start to its end."""
        self._totals: outcome.Totals | None = None
        self._fresh = folder is None
        self.say = progress.part(self.title)
        self._places = places
        self._virtual: VirtualBoard | None = None
        self._supervisor: Supervisor | None = None
        self._journal: Journal | None = None
        self._first: Guest | None = None
        self._stopped = self._failed = False
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Fetch the kernel and make what its guests start from; HilError."""
        board = boards.load(self.options.board)
        assert board.machine is not None
        arch = ARCHITECTURES[board.machine.arch].debian
        kernel = kernels.get(self.options.kernel, arch=arch, say=self.say)
        self.say(f"preparing {board.name} for {kernel.release}")
        virtual = self._board(board, kernel)
        self._virtual = virtual
        if self._stopped:
            virtual.stop()

    def _board(self, board: Board, kernel: Kernel) -> VirtualBoard:
        """What the guests are started from."""
        return VirtualBoard(
            board,
            kernel,
            [Path(m) for m in self.options.modules],
            cold=self.options.cold,
            qemu_from=self.options.qemu,
            marks=collected(self.options.marks),
            say=self.say,
        )

    def begin(self) -> None:
        """Start the first guest, and choose of its cells; HilError."""
        try:
            self._begin()
        except BaseException:
            self._failed = not self._stopped
            raise

    def _begin(self) -> None:
        virtual = self._virtual
        assert virtual is not None
        self.seconds = -time.monotonic()
        if self.folder is None:
            root = Path(self.options.out)
            board = virtual.board.name
            self.folder = RunFolder.create(root, board=board, kernel=virtual.kernel.version)
        self.folder.update_meta(**_facts(self.options, self.command, virtual, self.folder))
        self.status = "incomplete"
        self.say("starting the guest")
        guest = virtual.start(self.folder.console)
        try:
            self._choose(virtual, guest, self.folder)
        except BaseException:
            guest.close()
            raise
        self._first = guest

    def _choose(self, virtual: VirtualBoard, guest: Guest, folder: RunFolder) -> None:
        options = self.options
        chosen = select(guest, options.keywords, options.marks)
        if not chosen:
            folder.discard()
            self.folder = None
            raise _nothing_chosen(guest, options)
        done = Cells(folder.journal)
        left = [cell for cell in chosen if cell not in done]
        meta = {**guest.suite, "cells": len(chosen), "seed": options.seed}
        # Which it is may have shown itself at the first guest's start.
        folder.update_meta(**meta, acceleration=virtual.acceleration, status="incomplete")
        for line in _head(virtual, guest, folder, (len(chosen), len(left)), self.say.title):
            self.say.tell(line)
        self._journal = Journal.open(folder.journal)
        supervisor = Supervisor(
            virtual, self._journal, folder.console, self.say,
            options.cell_timeout, seed=options.seed,
        )  # fmt: skip
        # A board that boots each time has no guest to spare: there they come last, as all else.
        supervisor.lots = Lots(left, () if virtual.cold else guest.destructive)
        supervisor.lots.guests = self._places
        self.say.add(len(left))
        self._supervisor = supervisor
        if self._stopped:
            supervisor.stop()

    def work(self) -> None:
        """Judge cells in one guest after the other until none is left to be had; HilError."""
        with self._lock:
            first, self._first = self._first, None
        assert self._supervisor is not None
        try:
            self._supervisor.work(first)
        except IncompleteError as error:
            self._failed = True
            self._supervisor.stop()
            self.note = f"{error}\nGo on with: {resume([self])}"
        except BaseException:
            self._failed = True
            raise

    def wants_guest(self) -> bool:
        """Whether enough cells are left for another guest."""
        supervisor = self._supervisor
        return supervisor is not None and not supervisor.stopping and supervisor.lots.worth_a_guest

    def finish(self) -> None:
        """Close the journal and write down how it ended."""
        if self._first is not None:
            self._first.close()
        if self._journal is not None:
            self._journal.close()
        self.seconds += time.monotonic()
        if self.folder is not None and self._fresh and self._stopped and not self.begun:
            self.folder.discard()  # its guest was still coming up: there is nothing to go on with
            self.folder = None
        supervisor, folder = self._supervisor, self.folder
        if folder is not None:
            if self._stopped and not self._failed:
                self.status = "interrupted"
            elif supervisor is not None and not supervisor.stopping and not self._failed:
                self.status = "complete"
            starts = folder.read_meta().get("starts", []) + (
                supervisor.starts if supervisor else []
            )
            folder.update_meta(status=self.status, starts=starts, finished=_now())
            if self.options.clients and self.status == "complete":
                assert self._virtual is not None
                folder.update_meta(clients=clients.run(self._virtual, folder, self.say))
        if self._virtual is not None:
            self._virtual.close()

    def stop(self) -> None:
        """End its guests; from another thread."""
        self._stopped = not self._failed
        if self._supervisor is not None:
            self._supervisor.stop()
        if self._virtual is not None:
            self._virtual.stop()

    @property
    def begun(self) -> bool:
        """Whether cells were chosen and a journal was begun."""
        return self._journal is not None

    def ended(self) -> None:
        """Tell who watches that it is done with."""
        self.say.ended()

    def reports(self) -> None:
        """Make junit.xml and report.html from the journal; HilError when the disk is full."""
        folder = self.folder
        if folder is None or not self.begun:
            return
        write_reports(folder)
        cells, meta = Cells(folder.journal), folder.read_meta()
        self.exit_code = outcome.exit_code(briefs(cells), meta)
        self._totals = outcome.totals(briefs(cells), meta)

    @property
    def told(self) -> str:
        """How it ended, in a line; when the reports are made."""
        assert self.folder is not None and self._totals is not None
        count = self._totals
        left = f", {count.missing} of {count.planned} cells left" if count.missing else ""
        return f"{self.status}{left}, {count.bad} bad, {clock(self.seconds)}, {self.folder.path}"


def write_reports(folder: RunFolder) -> None:
    """Make junit.xml and report.html from a journal."""
    with cache.full_disk_is_an_error(folder.path, "the reports"):
        junit.write(folder)
        html.write(folder)


def title_of(spec: str) -> str:
    """How one of several kernels is called: "6.12" for debian:6.12, else the spec."""
    kind, _, rest = spec.partition(":")
    if not rest:
        return spec
    if kind != "debian":
        return f"{kind}:{Path(rest).name}"
    return rest.partition("+")[0] or rest


def resume(runs: Sequence[KernelRun]) -> str:
    """The command that goes on with these runs."""
    out = runs[0].options.out
    words = ["hil run", *(f"--resume {run.folder.name}" for run in runs if run.folder)]
    return " ".join([*words, *([f"--out {out}"] if out != Options().out else [])])


def collected(marks: str) -> str:
    """What a guest that boots for this run alone need collect."""
    try:
        slow = not marks or Expression(marks).holds(lambda name: name in ("hw", "slow"))
    except ValueError:
        slow = True  # `select` will say what is wrong with it
    return "hw" if slow else "hw and not slow"


def _nothing_chosen(guest: Guest, options: Options) -> HilError:
    unmarked = len(select(guest, options.keywords, "")) if options.marks else 0
    hint = f"{unmarked} fit -k alone: add -m hw to run slow ones too.  " if unmarked else ""
    example = guest.cells[0] if guest.cells else "(no device found)"
    return HilError(
        f"none of the {len(guest.cells)} cells fits -k {options.keywords!r} -m {options.marks!r}",
        f"{hint}Cell ids look like {example}.",
    )


def _facts(
    options: Options, command: Sequence[str], virtual: VirtualBoard, folder: RunFolder
) -> dict[str, Any]:
    before = folder.read_meta()
    return {
        "run": folder.name,
        "board": virtual.board.name,
        # A resumed run goes on with these, whenever and wherever.
        "board_file": boards.lasting(options.board),
        "kernel_spec": kernels.lasting(options.kernel, virtual.kernel),
        "kernel": virtual.kernel.version,
        "command": " ".join(command),
        "selection": {
            "keywords": options.keywords,
            "marks": options.marks,
            "modules": [str(Path(module).absolute()) for module in options.modules],
            "qemu": options.qemu,
        },
        "versions": {
            "suite": version.told(),
            "python": platform.python_version(),
            "qemu": virtual.qemu,
            "kernel": f"{virtual.kernel.release} {virtual.kernel.package_version}".strip(),
        },
        "acceleration": virtual.acceleration,
        "own_modules": [f"{m.name}: {m.file}" for m in (*virtual.own, *virtual.exchanged)],
        "built_drivers": [built.told() for built in virtual.built],
        "corrected_modules": [c.told for c in virtual.corrected],
        "started": before.get("started") or _now(),
        "status": "incomplete",
    }


def _head(
    virtual: VirtualBoard, guest: Guest, folder: RunFolder, counts: tuple[int, int], title: str
) -> Iterator[str]:
    chosen, left = counts
    cells = f"{chosen} cells" if left == chosen else f"{left} of {chosen} cells left"
    left_out = len(guest.cells) - chosen
    more = f"; {left_out} others are not asked for (-k, -m)" if left_out else ""
    if title:  # one of several: the rest is in run.json
        yield f"Linux {virtual.kernel.version}: {cells}{more}; {folder.journal}"
        return
    yield f"{virtual.board.name}: {virtual.qemu.partition(' (')[0]}, {virtual.acceleration}"
    yield f"Linux {virtual.kernel.version} ({virtual.kernel.release}): {cells}{more}"
    drivers: dict[tuple[str, str, str], list[str]] = {}
    for pinner in guest.suite["pinners"]:
        key = (pinner["driver"], pinner["allocator"], pinner["bus"])
        nodes = drivers.setdefault(key, [])
        if (node := Path(pinner["node"]).name) not in nodes:
            nodes.append(node)
    for (driver, allocator, bus), nodes in drivers.items():
        yield f"{driver} ({allocator}) on {bus}: {' '.join(nodes)}"
    for built in virtual.built:
        if built.corrections:
            yield f"{built.name} of {built.source}, corrected: {'; '.join(built.corrections)}"
    for model, how in zip(virtual.machine.silicon, virtual.transports, strict=True):
        yield f"device model {model.model}, reached by {how}"
    for copy in virtual.corrected:
        yield f"a corrected copy of a stock module is tested: {copy.told}"
    yield f"journal: {folder.journal}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
