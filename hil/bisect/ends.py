# SPDX-License-Identifier: GPL-2.0-or-later
"""Both ends are measured first: are they what they were called, and how often does it fail?"""

from __future__ import annotations

import math

from rich.console import Console

from hil.bisect import odds, words
from hil.bisect.examine import examine
from hil.bisect.odds import Plan, Sample
from hil.bisect.sight import Sight
from hil.bisect.state import State, Step, candidates
from hil.errors import HilError
from hil.lab.progress import Say

ALWAYS = 5
"""Failures in a row, from the first run on, after which a cell counts as failing always."""
SEEN = 12
"""Failures after which a rate is known well enough."""


def measure_ends(state: State, console: Console, say: Say) -> None:
    """Run the cell at both ends, tell wrong ends, and set the plan.

    HilError when an end is wrong or tells nothing.
    """
    task = state.task
    limit = task.repeat or task.measure
    seen = state.seen("bad end")
    if task.bad not in seen:
        step = examine(state, task.bad, "bad end", lambda s: _rate_known(s, limit), say)
        words.show(state, step, console)
        _must_tell(state, step, "bad")
        seen = state.seen("bad end")
    bad = seen[task.bad]
    if not bad.failures:
        raise _bad_is_good(state, bad, console, say)
    steps = _steps(len(candidates(state)))
    plan = Plan(task.repeat) if task.repeat else odds.plan(bad, Sample(), steps, task.confidence)
    if plan is None:
        raise HilError(
            f"the cell failed in {bad.failures} of {bad.runs} runs at the bad end: too seldom",
            f"--measure {10 * task.measure} looks longer; --repeat N sets how often it runs.",
        )
    if task.good not in state.seen("good end"):
        need = max(plan.runs, ALWAYS)
        step = examine(
            state,
            task.good,
            "good end",
            lambda s: _good_known(s, need, limit),
            say,
        )
        words.show(state, step, console)
        _must_tell(state, step, "good")
    good = state.seen("good end")[task.good]
    if good.failures and not task.repeat:
        if good.rate < bad.rate and bad.runs < limit:  # both rates have to be known well
            more = limit - bad.runs
            step = examine(state, task.bad, "bad end", lambda s: s.runs >= more, say)
            words.show(state, step, console)
            bad = state.seen("bad end")[task.bad]
        plan = odds.plan(bad, good, steps, task.confidence)
    if plan is None or (task.repeat and good.rate >= bad.rate):
        raise HilError(
            f"a wrong end: {task.name(task.good)} was called good, and the cell fails there too, "
            f"in {good.failures} of {good.runs} runs (bad end: {bad.failures} of {bad.runs})",
            "Choose a good end further away, say which verdict is looked for (--verdict NAME), or "
            f"look longer, if it fails more often at the bad end: --measure {10 * task.measure}.",
        )
    state.plan = plan
    state.save()
    times = "once" if plan.runs == 1 else f"up to {plan.runs} times"
    rule = "one failure makes it bad" if plan.needed == 1 else f"{plan.needed} failures do"
    always = "every time" if bad.failures == bad.runs else f"in {bad.failures} of {bad.runs} runs"
    console.print(
        f"The cell fails {always} at the bad end, in {good.failures} of {good.runs} at the good "
        f"one: it runs {times} on each commit, and {rule}.", highlight=False,
    )  # fmt: skip


def _rate_known(sample: Sample, limit: int) -> bool:
    always = sample.failures == sample.runs >= ALWAYS
    return always or sample.failures >= SEEN or sample.runs >= limit


def _good_known(sample: Sample, need: int, limit: int) -> bool:
    if not sample.failures:
        return sample.runs >= need
    return _rate_known(sample, limit)


def _must_tell(state: State, step: Step, which: str) -> None:
    if step.sight is not Sight.UNTOLD:
        return
    raise HilError(
        f"the {which} end {state.task.name(step.commit)} tells nothing: {step.why}",
        f"Its run is {state.runs / step.run}." if step.run else "See hil bisect --help.",
    )


def _bad_is_good(state: State, bad: Sample, console: Console, say: Say) -> HilError:
    task = state.task
    step = examine(state, task.good, "good end", lambda s: _rate_known(s, ALWAYS), say)
    words.show(state, step, console)
    if step.sample.failures:
        return HilError(
            f"wrong ends: {task.name(task.bad)} was called bad and is good, and "
            f"{task.name(task.good)} was called good and is bad",
            "Change them over: --good is where the cell is well, also when that is the newer end.",
        )
    return HilError(
        f"a wrong end: {task.name(task.bad)} was called bad, and the cell did not fail there in "
        f"{bad.runs} runs",
        f"For one that fails seldom: --measure {10 * max(bad.runs, 10)}.  Else look at the cell "
        f"with hil run, or give --verdict or --errno.",
    )


def _steps(length: int) -> int:
    return max(1, math.ceil(math.log2(max(length, 2))))
