# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory `hil run` takes for 1,000, 10,000 and 100,000 cells.

    .venv/bin/python bench/memory.py [RUN-FOLDER]

A synthetic pinner stands for the guest: it answers each order with records like those of a run (of
RUN-FOLDER, or made up of the same size), and costs no time.  All else is what `hil run` does: lots,
supervisor, journal, progress, then the reports.  Each size has a process of its own; what it
took at the most is told by the kernel (getrusage, ru_maxrss).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZES = (1_000, 10_000, 100_000)
_EVIDENCE = 6_000  # bytes of evidence in a made up record


def template(folder: Path | None) -> dict[str, Any]:
    """A record of the median size of a run, or one made up."""
    if folder is not None:
        lines = sorted((folder / "journal.jsonl").read_bytes().splitlines(), key=len)
        record: dict[str, Any] = json.loads(lines[len(lines) // 2])
        return record
    return {
        "driver": "vivid", "kernel": "6.12.118", "verdict": "ok", "known": None, "expected": None,
        "reason": "accepted, as it must", "seconds": 0.03, "attribution": None,
        "evidence": {"call": "VIDIOC_QBUF", "errno": None, "frames": "0" * _EVIDENCE},
    }  # fmt: skip


class Synthetic:
    """A guest of one synthetic pinner with so many cells."""

    started = 0.0
    how = ""

    def __init__(self, count: int, record: dict[str, Any]) -> None:
        self.cells = [f"v4l2-synthetic-video0/memory-{n}/capture/steady" for n in range(count)]
        self.suite = {"kernel": "6.12.118", "pinners": []}
        self.vm = self
        self._record = record
        self._order: list[str] = []

    def send(self, message: Mapping[str, Any]) -> None:
        self._order = message["run"]

    def lines(self, deadline: float) -> Iterator[bytes]:
        for cell in self._order:
            yield json.dumps({"begin": cell}).encode()
            pinner, memory, direction, condition = cell.split("/")
            own = {"cell": cell, "pinner": pinner, "memory": memory, "direction": direction,
                   "condition": condition}  # fmt: skip
            yield json.dumps({**self._record, **own}).encode()
        yield b'{"event": "finished"}'

    def waits(self) -> dict[str, int]:
        return {}

    def failure(self) -> str:
        return ""

    def close(self) -> None:
        pass

    def __enter__(self) -> Synthetic:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def one(count: int, folder: Path | None) -> dict[str, float]:
    """Run so many cells in this process: MB at the most, and seconds, before and after reports."""
    from rich.console import Console

    from hil.lab import supervisor as supervising
    from hil.lab.kernel_run import write_reports
    from hil.lab.lots import Lots
    from hil.report.progress import Progress
    from hil.runs.folder import RunFolder
    from hil.runs.journal import Journal

    guest = Synthetic(count, template(folder))
    lines: list[Iterator[bytes]] = []

    def line(vm: Synthetic, limit: float) -> bytes | None:
        if not lines:
            lines.append(vm.lines(0.0))
        found = next(lines[0])
        if found.startswith(b'{"event"'):
            lines.clear()
        return found

    supervising.patient_line = line  # type: ignore[assignment]
    began, empty = time.monotonic(), peak()
    with tempfile.TemporaryDirectory() as place:
        run = RunFolder.create(Path(place), board="synthetic", kernel="6.12.118")
        run.update_meta(cells=count, status="complete", board="synthetic", kernel="6.12.118")
        with (
            Journal.open(run.journal) as journal,
            Progress(Console(file=sys.stderr), count) as progress,
        ):
            board: Any = SimpleNamespace(emulated=True)
            judging = supervising.Supervisor(board, journal, run.console, progress, 10.0)
            judging.lots = Lots(guest.cells)
            judging.lots.guests = 2
            judging.work(guest)  # type: ignore[arg-type]
        judged, seconds = peak(), time.monotonic() - began
        began = time.monotonic()
        write_reports(run)
        size = run.journal.stat().st_size / 1e6
        return {
            "cells": count, "journal": size, "empty": empty, "judged": judged, "seconds": seconds,
            "reported": peak(), "report_seconds": time.monotonic() - began,
        }  # fmt: skip


def peak() -> float:
    """MB that this process has taken at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """A row for each size."""
    if len(sys.argv) > 2 and sys.argv[1] == "--one":
        folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
        print(json.dumps(one(int(sys.argv[2]), folder)))
        return
    print("  cells  journal  at start  judged  reports made   judging  reports")
    for count in SIZES:
        command = [sys.executable, __file__, "--one", str(count), *sys.argv[1:2]]
        said = subprocess.run(command, capture_output=True, check=True)
        row = json.loads(said.stdout.splitlines()[-1])
        print(
            f"{row['cells']:7}  {row['journal']:4.0f} MB   {row['empty']:4.0f} MB "
            f"{row['judged']:4.0f} MB       {row['reported']:4.0f} MB  {row['seconds']:6.1f} s "
            f"{row['report_seconds']:6.1f} s"
        )


if __name__ == "__main__":
    main()
