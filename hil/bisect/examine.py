# SPDX-License-Identifier: GPL-2.0-or-later
"""One commit: built, brought to the board, and the cell run until it is told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from hil.bisect import guests, hardware, modules, trees
from hil.bisect.modules import UnbuildableError
from hil.bisect.odds import Sample
from hil.bisect.sight import Sight, StopError, Tally
from hil.bisect.state import State, Step
from hil.errors import HilError
from hil.lab import board as boards
from hil.lab import kernels
from hil.lab.architectures import ARCHITECTURES, own
from hil.lab.board import Board
from hil.lab.kernels import Kernel
from hil.lab.modules import Own
from hil.lab.progress import Say
from hil.runs.folder import RunFolder


def examine(state: State, commit: str, role: str, done: Callable[[Sample], bool], say: Say) -> Step:
    """Test ``commit`` until ``done`` is content with the counts, and note it as a step.

    A "step" has a process of its own, and its time includes the start of that.
    StopError when nothing could be said of any commit.
    """
    began = time.monotonic()
    before = _age() if role == "step" else 0.0
    task = state.task
    step = Step(commit, Sight.UNTOLD, Sample(), role=role)
    tally = Tally(task.wanted, done)
    built = began
    try:
        board = boards.load(task.board)
        kernel, modules_, files = _built(state, commit, board, say)
        built = time.monotonic()
        step.seconds["build"] = round(built - began, 1)
        folder = RunFolder.create(state.runs, _run_name(state, commit))
        step.run = folder.name
        folder.update_meta(run=folder.name, commit=commit, status="incomplete")
        say(f"running {task.cell} on {task.name(commit)}")
        if board.kind == "virtual":
            assert kernel is not None
            guests.run(
                board, kernel, modules_, cell=task.cell, tally=tally, folder=folder,
                timeout=task.cell_timeout, seed=task.seed, qemu=task.qemu, say=say,
            )  # fmt: skip
        else:
            hardware.run(state, commit, files, tally=tally, folder=folder, say=say)
    except UnbuildableError as error:
        tally.untold = f"does not build: {error}"
    step.seconds["run"] = round(time.monotonic() - built, 1)
    step.seconds["all"] = round(before + time.monotonic() - began, 1)
    step.sample, step.verdicts = tally.sample, {k: n for k, n in tally.verdicts.items() if n}
    step.why = tally.untold or tally.reason
    if not tally.untold:
        bad = state.plan.bad(tally.sample) if state.plan else tally.sample.failures > 0
        step.sight = Sight.BAD if bad else Sight.GOOD
    state.add(step)
    return step


def _age() -> float:
    """Seconds since this process was started (proc(5): starttime)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _run_name(state: State, commit: str) -> str:
    stem = state.task.names.get(commit, commit[:12]) if state.task.kind == "releases" else ""
    stem = stem or commit[:12]
    number, name = 1, stem
    while (state.runs / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def _built(
    state: State, commit: str, board: Board, say: Say
) -> tuple[Kernel | None, list[Own], list[Path]]:
    """The kernel to run, modules in place of its own, and the files that were built."""
    task = state.task
    arch = ARCHITECTURES[board.machine.arch].debian if board.machine else own().debian
    try:
        if task.kind == "tree":
            return trees.build(state, commit, board, arch, say)
        if task.kind == "releases" and board.kind != "virtual":
            return None, [], []  # its deploy command installs them
        spec = f"debian:{task.names[commit]}" if task.kind == "releases" else task.kernel
        kernel = kernels.get(spec, arch=arch, say=say)
        if task.kind == "releases":
            return kernel, [], []
        workshop = modules.Workshop(state.work, kernel, board, task.paths)
        files = workshop.build(state.worktree, commit, say)
        return kernel, modules.check(files, kernel), files
    except UnbuildableError:
        raise
    except HilError as error:
        raise StopError(error.message, error.hint) from error
