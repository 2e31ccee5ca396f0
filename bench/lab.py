# SPDX-License-Identifier: GPL-2.0-or-later
"""Drives the virtual lab for the measurements: as `hil run`, or its parts by hand."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hil.lab import board as boards
from hil.lab import kernels
from hil.lab.board import Board
from hil.lab.supervisor import Supervisor
from hil.lab.virtual import VirtualBoard
from hil.runs.journal import Journal, Record

HIL = Path(sys.executable).with_name("hil")
MARKS = "hw and not slow"
"""What `hil run` collects when nothing else is said."""
CELL_SECONDS = 60.0


class Run(NamedTuple):
    """A finished `hil run`."""

    wall: float
    folder: Path
    meta: dict[str, Any]
    records: list[Record]


def hil_run(out: Path, *arguments: str) -> Run:
    """Run `hil run` as a person would; RuntimeError with its output when it could not be done."""
    began = time.monotonic()
    done = subprocess.run(
        [str(HIL), "run", "--out", str(out), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    wall = time.monotonic() - began
    if done.returncode not in (0, 1) or "Traceback" in done.stdout:
        raise RuntimeError(f"hil run {' '.join(arguments)} ended with {done.returncode}:\n"
                           f"{done.stdout[-2000:]}")  # fmt: skip
    folder = (out / "latest").resolve()
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return Run(wall, folder, json.loads((folder / "run.json").read_text()), records)


def board(folder: Path, old: str = "", new: str = "", more: str = "") -> Board:
    """The board virtual-x86, but for some text; ValueError when ``old`` is not in it."""
    text = (boards.BOARDS / "virtual-x86.toml").read_text()
    if old not in text:
        raise ValueError(f"virtual-x86.toml does not hold {old!r}")
    file = folder / "virtual-x86.toml"
    file.write_text(text.replace(old, new, 1) + more)
    return boards.load(str(file))


class Start(NamedTuple):
    """One start of a guest, in seconds since QEMU was started."""

    ready: float
    """Restored, or booted and collected."""
    first_cell: float
    uptimes: dict[str, float]
    """The guest's own stages, seconds since its kernel started."""


def start(virtual: VirtualBoard, cell: str, console: Path) -> Start:
    """Start a guest and wait until it begins its first cell."""
    with virtual.start(console) as guest:
        ready = time.monotonic() - guest.vm.started
        guest.vm.send({"run": [cell], "timeout": 10.0})
        for line in guest.vm.lines(time.monotonic() + CELL_SECONDS):
            if "begin" in json.loads(line):
                return Start(ready, time.monotonic() - guest.vm.started, guest.uptimes)
    raise RuntimeError(f"the guest did not begin {cell}; its console is {console}")


class Cells(NamedTuple):
    """Cells that ran one after another in one guest, in seconds."""

    names: list[str]
    own: list[float]
    """From the fork to the verdict, as the journal has it."""
    whole: list[float]
    """From one cell's begin to the next one's, pytest and the line to the host included."""


def cells(virtual: VirtualBoard, names: Sequence[str], console: Path) -> Cells:
    """Run ``names`` in this order in one guest; a name must not follow itself."""
    found = Cells([], [], [])
    begun = 0.0
    with virtual.start(console) as guest:
        guest.vm.send({"run": list(names), "timeout": 10.0})
        for line in guest.vm.lines(time.monotonic() + CELL_SECONDS + len(names)):
            now = time.monotonic()
            message = json.loads(line)
            if "begin" in message or message.get("event") == "finished":
                if begun:
                    found.whole.append(now - begun)
                begun = now
            if "cell" in message:
                if message["verdict"] not in ("ok", "not-applicable"):
                    raise RuntimeError(f"{message['cell']}: {message['reason']}")
                found.names.append(message["cell"])
                found.own.append(message["seconds"])
            if message.get("event") == "finished":
                return found
    raise RuntimeError(f"the guest ended after {len(found.own)} cells; its console is {console}")


class _Times:
    """Notes when a cell began and when it had its verdict."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float]] = []
        self.judged: dict[str, float] = {}

    def begin(self, cell: str) -> None:
        self.begun.append((cell, time.monotonic()))

    def done(self, record: Record) -> None:
        self.judged[record["cell"]] = time.monotonic()

    def note(self, text: str) -> None:
        pass


class Lost(NamedTuple):
    """A cell that cost its guest, in seconds."""

    cell: str
    to_verdict: float
    to_next: float
    """From the verdict to the begin of the next cell."""


def lost(virtual: VirtualBoard, names: Sequence[str], folder: Path, timeout: float) -> list[Lost]:
    """Run cells that cost their guests, each followed by another one."""
    times = _Times()
    console = folder / "console.log"
    with Journal.open(folder / "journal.jsonl") as journal:
        Supervisor(virtual, journal, console, times, timeout).run(virtual.start(console), names)
    found = []
    for (cell, began), (_, following) in zip(times.begun, times.begun[1:], strict=False):
        verdict = times.judged[cell]
        found.append(Lost(cell, verdict - began, following - verdict))
    return found


def get(board_: Board, kernel: str, *, cold: bool = False) -> VirtualBoard:
    """The board with a kernel, ready to be started."""
    return VirtualBoard(board_, kernels.get(kernel), cold=cold, marks=MARKS)


@contextlib.contextmanager
def fresh_cache(folder: Path, shared: Sequence[str]) -> Iterator[None]:
    """A cache folder that has only ``shared`` of the real one, for timing how parts are made."""
    from hil.lab import cache

    real = cache.root()
    mine = folder / cache.NAME
    mine.mkdir(parents=True)
    for name in shared:
        if (real / name).exists():
            (mine / name).symlink_to(real / name)
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
