# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines on the screen, one a commit tested."""

from __future__ import annotations

from rich.console import Console

from hil.bisect.sight import Sight
from hil.bisect.state import State, Step

_WIDTH = 60


def show(state: State, step: Step, console: Console) -> None:
    """Print a step of an end or a check."""
    console.print(
        f"{step.role}: {line(state, step)}", highlight=False, markup=False, soft_wrap=True
    )


def line(state: State, step: Step) -> str:
    """Commit, sight, counts and seconds."""
    what = state.task.name(step.commit)
    if state.task.kind != "releases":
        what = state.worktree.told(step.commit)[:_WIDTH]
    times = [f"{name} {value:g} s" for name, value in step.seconds.items() if name != "all"]
    if step.sight is Sight.UNTOLD:
        counts = step.why[:100]
    else:
        counts = f"{step.sample.failures} of {step.sample.runs} runs"
        if step.sight is Sight.BAD:
            counts += f", {step.why.partition(':')[0]}"
    return f"{what}: {step.sight}: {counts} ({', '.join(times)})"
