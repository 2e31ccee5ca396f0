# SPDX-License-Identifier: GPL-2.0-or-later
"""Begins a bisection, or goes on with one, and brings it to its end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from hil.bisect import conclude, drive, ends, releases
from hil.bisect.answer import Answer, settle
from hil.bisect.git import Repository
from hil.bisect.sight import StopError
from hil.bisect.state import State, Task, candidates
from hil.cells import Cell
from hil.errors import HilError, NotCompletedError
from hil.lab import board as boards
from hil.lab import kernels
from hil.lab.architectures import ARCHITECTURES, own
from hil.lab.catalogue import Build
from hil.lab.progress import Line, Say


def tree(task: Task, root: Path, console: Console) -> int:
    """Bisect commits: whole kernels, or modules; 0 when one commit was found."""
    task = _checked(task)
    repository = Repository.at(Path(task.repository))
    good = repository.commit(task.good, "--good")
    bad = repository.commit(task.bad, "--bad")
    fix = _direction(repository, good, bad, task)
    kernel = task.kernel
    if task.kind == "module":
        with Line() as say:  # a resumed bisection must not wander on to a newer release
            kernel = _exact(kernel, task, say)
        for path in task.paths:
            if not repository.files(bad, [path]) and not repository.files(good, [path]):
                raise HilError(
                    f"--path {path}: neither end has files there",
                    "It is a folder of the tree, as drivers/media/common/videobuf2.",
                )
    names = {good: task.good, bad: task.bad}
    if not repository.commits(bad if fix else good, good if fix else bad, task.pathspec):
        raise HilError(
            f"no commit between {task.good} and {task.bad} touches {', '.join(task.paths)}",
            "Bisect another --path, or the whole tree.",
        )
    task = replace(
        task, good=good, bad=bad, names=names, fix=fix, kernel=kernel,
        repository=str(repository.folder.absolute()),
        config=str(Path(task.config).absolute()) if task.config else "",
    )  # fmt: skip
    state = State.create(root, task)
    return _go(state, console)


def _direction(repository: Repository, good: str, bad: str, task: Task) -> bool:
    """Whether the good end is the newer one; HilError when neither comes after the other."""
    if good == bad:
        raise HilError(f"--good {task.good} and --bad {task.bad} are the same commit")
    if repository.descends(bad, good):
        return False
    if repository.descends(good, bad):
        return True
    base = repository.run("merge-base", good, bad)
    raise HilError(
        f"neither of {task.good} and {task.bad} is in the other's history",
        f"They part at {base[:12]}: look with hil run which of them differs from it, and bisect "
        "from there.",
    )


def over_releases(task: Task, root: Path, console: Console) -> int:
    """Bisect the archive's releases; 0 when one was found."""
    task = _checked(task)
    with Line() as say:
        builds = releases.offered(_arch(task), say)
    task = replace(task, good=task.good or builds[0].series, bad=task.bad or builds[-1].series)
    good = releases.end(builds, task.good, "--good")
    bad = releases.end(builds, task.bad, "--bad")
    if good == bad:
        raise HilError(f"--good {task.good} and --bad {task.bad} are the same release")
    fix = good.order > bad.order
    old, new = (bad, good) if fix else (good, bad)
    line = releases.coarse(builds, old, new)
    state = _line_of(task, line, good, bad, fix=fix, root=root)
    return _go(state, console)


def _line_of(
    task: Task, line: Sequence[Build], good: Build, bad: Build, *, fix: bool, root: Path
) -> State:
    state = State.create(root, task)
    repository, names = releases.history(state.folder / "releases", line)
    ids = {release: commit for commit, release in names.items()}
    state.task = replace(
        task, good=ids[good.release], bad=ids[bad.release], names=names, fix=fix,
        repository=str(repository.folder),
    )  # fmt: skip
    state.save()
    return state


def resume(name: str, root: Path, console: Console) -> int:
    """Go on with a bisection."""
    state = State.find(name, root)
    if state.answer:
        raise HilError(
            f"{state.folder} is over: it came to {state.task.name(state.answer)}",
            "Its steps are in steps.jsonl.  Begin another one: hil bisect --help",
        )
    return _go(state, console)


def _checked(task: Task) -> Task:
    """The task with what the lab's environment adds; HilError for what cannot be meant so."""
    try:
        Cell.parse(task.cell)
    except ValueError as error:
        raise HilError(
            f"--cell: {error}",
            "A bisection follows one cell, by its whole id, as `hil show latest` prints it.",
        ) from None
    board = boards.load(task.board)
    if board.kind != "virtual":
        lab = os.environ
        deploy, suite = lab.get("HIL_DEPLOY", ""), lab.get("HIL_SUITE", "")
        task = replace(task, deploy=task.deploy or deploy, suite=task.suite or suite)
    if board.kind != "virtual" and not task.deploy:
        raise HilError(
            f"board {task.board} is no virtual one: how does a kernel come to it?",
            "--deploy COMMAND, or HIL_DEPLOY in the environment, brings it there and has it come "
            "up; docs/bisecter.md has an example.",
        )
    if board.kind == "virtual" and (task.deploy or task.suite):
        raise HilError(
            f"board {task.board} is a virtual one: nothing has to be deployed to it",
            "Leave out --deploy and --suite, or name a board of the lab.",
        )
    if task.config and not Path(task.config).is_file():
        raise HilError(f"--config {task.config}: no such file", "It is a fragment of a .config.")
    return task


def _arch(task: Task) -> str:
    board = boards.load(task.board)
    return ARCHITECTURES[board.machine.arch].debian if board.machine else own().debian


def _exact(spec: str, task: Task, say: Say) -> str:
    return kernels.lasting(spec, kernels.get(spec, arch=_arch(task), say=say))


def _go(state: State, console: Console) -> int:
    began = time.monotonic()
    task = state.task
    console.print(f"bisection: {state.folder}", highlight=False, soft_wrap=True)
    try:
        found = _searched(state, console)
    except KeyboardInterrupt:
        console.print(f"go on with: {drive.again(state)}", highlight=False, soft_wrap=True)
        raise
    except NotCompletedError:
        raise
    except StopError as error:
        raise NotCompletedError(
            error.message, f"{error.hint}  Go on with: {drive.again(state)}".strip()
        ) from error
    except HilError:
        if not state.plan:  # nothing to go on with: a wrong end
            drive.clean(state)
        raise
    conclude.told(state, found, console)
    sure = found.confidence >= task.confidence
    state.answer = found.best
    state.save()
    finer = _finer(state, found, console) if sure and task.kind == "releases" else None
    console.print(drive.spent(state, began), highlight=False)
    drive.clean(state)
    if finer is not None:
        return _go(finer, console)
    return 0 if sure else 3


def _searched(state: State, console: Console) -> Answer:
    task = state.task
    repository = drive.repository_of(state)
    if not (state.work / "tree").exists():
        repository.remove_worktree(state.work / "tree")
        repository.add_worktree(state.work / "tree", task.new, checkout=task.kind == "tree")
    between = candidates(state)
    what = "the fix" if task.fix else "the fault"
    things = "releases" if task.kind == "releases" else "commits"
    console.print(
        f"{what} is in one of {len(between)} {things} after {task.name(task.old)} "
        f"up to {task.name(task.new)}", highlight=False, soft_wrap=True,
    )  # fmt: skip
    if state.plan is None:
        with Line() as say:
            ends.measure_ends(state, console, say)
    if len(between) > 1:
        drive.search(state, console)
    return settle(state, console)


def _finer(state: State, found: Answer, console: Console) -> State | None:
    """The bisection over the stable points behind the answer; else what the changelog says."""
    task = state.task
    with Line() as say:
        builds = {b.release: b for b in releases.offered(_arch(task), say)}
        new = builds[task.names[found.best]]
        parent = state.worktree.run("rev-parse", f"{found.best}^")
        old = builds[task.names[parent]]
        line = releases.fine(list(builds.values()), old, new)
        if len(line) <= 2:
            conclude.policy(state, old, new, arch=_arch(task), console=console, say=say)
            return None
    good, bad = (new, old) if task.fix else (old, new)
    root = state.folder.parent
    plain = replace(task, names={})
    finer = _line_of(plain, line, good, bad, fix=task.fix, root=root)
    _take_over(state, finer)
    console.print("")
    console.print(
        f"Between {old.release} and {new.release} there are stable points.", highlight=False
    )
    return finer


def _take_over(state: State, finer: State) -> None:
    """What is known of the ends need not be measured again."""
    ids: Mapping[str, str] = {name: commit for commit, name in finer.task.names.items()}
    for step in state.steps():
        release = state.task.names[step.commit]
        if release not in ids or ids[release] not in (finer.task.good, finer.task.bad):
            continue
        role = "good end" if ids[release] == finer.task.good else "bad end"
        run = str(Path("..", "..", state.folder.name, "runs", step.run))
        finer.add(replace(step, commit=ids[release], role=role, run=run))
    finer.plan = state.plan
    finer.save()
