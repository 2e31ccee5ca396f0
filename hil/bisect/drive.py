# SPDX-License-Identifier: GPL-2.0-or-later
"""`git bisect run`: git chooses the commits, and calls `hil bisect step` for each."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from hil.bisect import words
from hil.bisect.examine import examine
from hil.bisect.git import Repository, command, environment
from hil.bisect.sight import Sight, StopError
from hil.bisect.state import POINTER, State
from hil.errors import NotCompletedError
from hil.lab.progress import Line

_SHOWN = re.compile(r"^(Bisecting:|step )")
_END_SECONDS = 30.0
# git calls every status from 1 to 127 but 125 the new end.
_STEP = "{} bisect step; s=$?; case $s in 0|1|125) exit $s;; esac; exit 128"


def search(state: State, console: Console) -> None:
    """Have git find it; StopError, HilError.  What was found is in git and in the steps."""
    tree, task = state.worktree, state.task
    tree.git_file(POINTER).write_text(f"{state.folder}\n")
    if not tree.git_file("BISECT_LOG").exists():
        how = ["--no-checkout"] if task.kind != "tree" else []
        tree.run(
            "bisect", "start", *how, "--term-old=old", "--term-new=new",
            task.new, task.old, "--", *task.pathspec,
        )  # fmt: skip
        for known in state.steps():  # of a checkout that went before the answer was there
            if known.role == "step":
                tree.run("bisect", _term(state, known.sight), known.commit)
    step = _STEP.format(shlex.quote(str(_hil())))
    # On a terminal the steps say there what they are doing.  A group of its own, so that Ctrl-C and
    # a signal to us alone both end git and the step by way of us.
    with subprocess.Popen(
        command(tree.folder, "bisect", "run", "/bin/sh", "-c", step), env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, process_group=0,
        stderr=None if sys.stderr.isatty() else subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line.rstrip("\n"))
                if _SHOWN.match(line):
                    console.print(line.rstrip("\n"), highlight=False, markup=False, soft_wrap=True)
        except BaseException:
            _end(process)
            raise
    if process.returncode == 0 or _only_skipped(said):
        _believe(state)
        return
    why = next((x for x in reversed(said) if x.startswith("hil: ")), "") or " / ".join(said[-3:])
    raise NotCompletedError(
        f"the bisection stopped: {why.removeprefix('hil: ')}", f"Go on with: {again(state)}"
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End git and the step, which ends its guest."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _only_skipped(said: list[str]) -> bool:
    return any("only 'skip'ped commits left" in line for line in said)


def _hil() -> Path:
    beside = Path(sys.executable).with_name("hil")
    return beside if beside.exists() else Path(sys.argv[0]).absolute()


def again(state: State) -> str:
    """How to go on with it."""
    return f"hil bisect --resume {state.folder}"


def _believe(state: State) -> None:
    """Each verdict in git's log must be one that a step has come to.

    A step that dies before it can say anything ends with a status that git takes for an answer.
    """
    last: dict[str, Sight] = {}
    for step in state.steps():
        if step.role == "step":
            last[step.commit] = step.sight
    log = state.worktree.run("bisect", "log")
    for term, commit in re.findall(r"^git bisect (old|new|skip) '?([0-9a-f]{40,})", log, re.M):
        sight = last.get(commit)
        expected = _term(state, sight) if sight else "nothing"
        if commit not in (state.task.old, state.task.new) and term != expected:
            raise StopError(
                f"git was told that {commit[:12]} is {term}, and the step said {expected}",
                f"The step died: see {state.folder}.  Nothing that came after it is to be trusted.",
            )


def _term(state: State, sight: Sight) -> str:
    """What git is told of a commit."""
    if sight is Sight.UNTOLD:
        return "skip"
    return "new" if (sight is Sight.BAD) != state.task.fix else "old"


def step(state: State, commit: str) -> tuple[int, str]:
    """What `git bisect run` calls: the exit status, and a line to show."""
    with Line() as say:
        plan = state.plan
        assert plan is not None
        done = examine(state, commit, "step", plan.decided, say)
    status = {"old": 0, "new": 1, "skip": 125}[_term(state, done.sight)]
    number = sum(one.role == "step" for one in state.steps())
    return status, f"step {number:2}: {words.line(state, done)}"


def repository_of(state: State) -> Repository:
    """The user's repository, or the one of releases."""
    return Repository(Path(state.task.repository))


def clean(state: State) -> None:
    """Remove checkout and builds; what was found stays."""
    repository_of(state).remove_worktree(state.work / "tree")
    shutil.rmtree(state.work, ignore_errors=True)


def spent(state: State, began: float) -> str:
    """A sentence on what it cost."""
    steps = [step for step in state.steps() if step.role == "step"]
    longest = max((step.seconds.get("all", 0.0) for step in steps), default=0.0)
    others = len(state.steps()) - len(steps)
    return (
        f"{len(steps)} steps, {others} runs of ends and checks, "
        f"{time.monotonic() - began:.0f} s; the longest step took {longest:.1f} s."
    )
