# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C and SIGKILL at any time: no guest stays, the journal is kept, the run can go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from hil.lab import cache
from tests.lab.driving import Hil, Run, finished, lines

Started = Callable[..., Hil]
CHOICE = (
    "-k",
    "video0/ and steady and (memfd or shmem or tmpfs or sysv or shared-anonymous or readonly)",
)
SHM = Path("/dev/shm")


def ram_of(hil: Hil) -> list[Path]:
    name = f"hil-ram-{hil.process.pid}-*"
    return [*SHM.glob(name), *cache.root().glob(name)]


def went_on(out: Path, before: list[str]) -> None:
    """Resume the run and see that it ends as if nothing had been."""
    status, output = finished("run", "--resume", "latest", "--out", out)
    run = Run(out)
    assert status == 0, output
    assert run.cells[: len(before)] == before
    assert len(run.cells) == len(set(run.cells)) == run.meta["cells"] > len(before)
    assert run.meta["status"] == "complete"


def test_ctrl_c_in_the_middle_of_a_run(started: Started, tmp_path: Path) -> None:
    hil = started("run", "--out", tmp_path, *CHOICE)
    hil.until(lines(tmp_path, 2))
    assert hil.guests
    assert hil.interrupt() == 2
    assert hil.guests_gone()
    run = Run(tmp_path)
    assert run.meta["status"] == "interrupted"
    assert f"hil run --resume {run.name}" in hil.output.replace("\n", " ")
    assert "Traceback" not in hil.output
    assert 2 <= len(run.cells) < run.meta["cells"]
    assert {"junit.xml", "report.html"} <= {p.name for p in run.path.iterdir()}
    went_on(tmp_path, run.cells)


def test_sigkill_in_the_middle_of_a_cold_run(started: Started, tmp_path: Path) -> None:
    hil = started("run", "--cold", "--out", tmp_path, *CHOICE)
    hil.until(lines(tmp_path, 2))
    assert ram_of(hil)
    hil.kill()
    assert hil.guests
    assert hil.guests_gone()
    run = Run(tmp_path)
    assert run.meta["status"] == "incomplete"
    went_on(tmp_path, run.cells)
    assert not ram_of(hil)


def test_a_guest_that_the_host_kills_spoils_no_cell(started: Started, tmp_path: Path) -> None:
    hil = started("run", "--out", tmp_path, *CHOICE)
    hil.until(lines(tmp_path, 2))
    os.kill(max(hil.guests), signal.SIGKILL)
    assert hil.wait() == 0, hil.output
    run = Run(tmp_path)
    assert len(run.cells) == len(set(run.cells)) == run.meta["cells"]
    assert "QEMU ended with -9 on the host" in hil.output
    assert len(run.meta["starts"]) == 2


def test_ctrl_c_while_a_guest_boots(started: Started, tmp_path: Path) -> None:
    hil = started("run", "--cold", "--out", tmp_path)
    hil.until(lambda: [p for p in ram_of(hil) if (p / "node0").exists()])
    hil.until(lambda: list(tmp_path.glob("*/console.log")))
    hil.until(lambda: hil.guests)
    assert hil.interrupt() == 2
    assert hil.guests_gone()
    assert not ram_of(hil)
    assert "Traceback" not in hil.output
