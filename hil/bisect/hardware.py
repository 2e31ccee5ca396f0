# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell, run again and again on a board of the lab: two commands reach it.

The deploy command brings a commit's kernel or modules to the board and has it come up with them;
the suite command runs the cell there and leaves a journal here.  Both are the lab's own (ssh,
labgrid-client, a script beside the board file), and get what they need in the environment:

* HIL_COMMIT, and HIL_RELEASE where releases are bisected;
* HIL_KERNEL, a build folder, or HIL_MODULES, the modules that were built, with blanks between;
* HIL_TREE, the checkout of a whole kernel;
* HIL_CELL, HIL_RESULTS (where the suite's journal.jsonl must be) and HIL_TIMEOUT, for the suite.

A deploy command that ends with 125 says that this commit cannot be brought there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hil.bisect.modules import UnbuildableError
from hil.bisect.sight import StopError, Tally
from hil.bisect.state import State
from hil.lab import board as boards
from hil.lab.progress import Say
from hil.runs.folder import RunFolder

_CANNOT = 125
_LOST = 3
"""How often in a row a board may be lost, or the suite end without a record."""


def run(
    state: State, commit: str, files: Sequence[Path], *, tally: Tally, folder: RunFolder, say: Say
) -> None:
    """Deploy ``commit``, then run the cell into ``tally``.

    A board that is lost is deployed anew.  UnbuildableError when the deploy command says 125,
    StopError when it fails, or when the suite gives no record again and again.
    """
    facts = _facts(state, commit, files)
    _deploy(state, facts, folder, say)
    lost = 0
    while not tally.enough:
        number = len(folder.scan().records)
        status = _suite(state, facts, folder)
        records = folder.scan().records[number:]
        for record in records:
            if record["cell"] == state.task.cell:
                lost = 0
                tally.add(record)
        if records:
            continue
        lost += 1
        if lost >= _LOST:
            raise StopError(
                f"the suite on board {state.task.board} ended with {status} and no record of "
                f"{state.task.cell}, {lost} times in a row",
                f"What it said is in {folder.console}.",
            )
        say(f"note: no record (the suite ended with {status}): the board is deployed anew")
        _deploy(state, facts, folder, say)


def _facts(state: State, commit: str, files: Sequence[Path]) -> dict[str, str]:
    task = state.task
    facts = {"HIL_COMMIT": commit, "HIL_CELL": task.cell, "HIL_TIMEOUT": f"{task.cell_timeout:g}"}
    if task.kind == "releases":
        facts["HIL_RELEASE"] = task.names[commit]
    elif task.kind == "tree":
        facts["HIL_KERNEL"] = " ".join(map(str, files))
        facts["HIL_TREE"] = str(state.worktree.folder)
    else:
        facts["HIL_MODULES"] = " ".join(map(str, files))
    return facts


def _deploy(state: State, facts: Mapping[str, str], folder: RunFolder, say: Say) -> None:
    say(f"deploying {facts['HIL_COMMIT'][:12]} to {state.task.board}")
    status = _shell(state.task.deploy, facts, folder)
    if status == _CANNOT:
        raise UnbuildableError("the deploy command says that it cannot be brought to the board")
    if status:
        raise StopError(
            f"the deploy command ended with {status}: {state.task.deploy}",
            f"What it said is in {folder.console}.  125 would say that this commit cannot be.",
        )


def _suite(state: State, facts: Mapping[str, str], folder: RunFolder) -> int:
    """Run the cell once; its records are in the folder's journal then."""
    facts = {**facts, "HIL_RESULTS": str(folder.path.absolute())}
    if state.task.suite:
        return _shell(state.task.suite, facts, folder)
    argv = [
        sys.executable, "-m", "pytest", "-q", "-m", "hw", f"--board={state.task.board}",
        f"--journal={facts['HIL_RESULTS']}/journal.jsonl",
        f"--cell-timeout={state.task.cell_timeout:g}", f"--seed={state.task.seed}",
        "tests/hw", "-k", state.task.cell,
    ]  # fmt: skip
    return _run(argv, facts, folder, cwd=boards.ROOT)


def _shell(command: str, facts: Mapping[str, str], folder: RunFolder) -> int:
    return _run(["/bin/sh", "-c", command], facts, folder)


def _run(
    argv: Sequence[str], facts: Mapping[str, str], folder: RunFolder, cwd: Path | None = None
) -> int:
    with folder.console.open("ab") as console:
        return subprocess.run(
            argv, env={**os.environ, **facts}, cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=console, stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
