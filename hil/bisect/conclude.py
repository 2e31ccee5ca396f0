# SPDX-License-Identifier: GPL-2.0-or-later
"""Says what a bisection came to."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from hil.bisect import changelog
from hil.bisect.answer import Answer
from hil.bisect.sight import Sight
from hil.bisect.state import State, Step
from hil.cells import Cell
from hil.errors import HilError
from hil.lab.catalogue import Build
from hil.lab.progress import Say
from hil.rules.known import known_for
from hil.rules.table import rule_for
from hil.runs.folder import RunFolder
from hil.system.release import parse

_SHOWN = 20


def told(state: State, found: Answer, console: Console) -> None:
    """Print the answer, how sure it is, and where its evidence is."""
    task, tree = state.task, state.worktree
    sure = f"{100 * found.confidence:.4g} %" if found.confidence < 0.9999 else "above 99.99 %"

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    kind = "release" if task.kind == "releases" else "commit"
    change = f"the first good {kind}" if task.fix else f"the first bad {kind}"
    say("")
    if found.confidence < task.confidence:
        likely = found.likely()
        say(f"It is one of these, with {100 * task.confidence:g} % confidence:", "bold")
        for commit in likely[:_SHOWN]:
            what = task.name(commit) if task.kind == "releases" else tree.told(commit)
            say(f"  {what}: {100 * found.odds[commit]:.3g} %")
        if len(likely) > _SHOWN:
            say(f"  and {len(likely) - _SHOWN} more")
        say(_why_unsure(state, likely))
    elif task.kind == "releases":
        say(f"{task.name(found.best)} is {change} (confidence {sure})", "bold")
    else:
        say(f"{found.best} is {change} (confidence {sure})", "bold")
        say(tree.run("show", "-s", "--format=%n    %s%n    %an, %ad", "--date=iso", found.best))
        say(tree.run("diff-tree", "--no-commit-id", "--stat", "-r", "--root", found.best))
    before = _last_before(state, found)
    if before is not None:
        word = "bad" if task.fix else "good"
        say(f"last {word} {kind}: {_called(state, before.commit)}")
    seen = _step_of(state, Sight.BAD, found.best if not task.fix else None)
    if seen is not None:
        say(f"what it does: {seen.why}")
        say(f"evidence: hil show --out {state.runs} {seen.run} {task.cell}")


def _why_unsure(state: State, likely: list[str]) -> str:
    untold = {s.commit: s.why for s in state.steps() if s.sight is Sight.UNTOLD}
    lost = [untold[commit] for commit in likely if commit in untold]
    if lost:
        return f"{len(lost)} of them tell nothing; one of them: {lost[0]}"
    return "The runs do not tell them apart: --repeat N runs the cell more often on each commit."


def _called(state: State, commit: str) -> str:
    named = state.task.kind == "releases"
    return state.task.name(commit) if named else state.worktree.told(commit)


def _last_before(state: State, found: Answer) -> Step | None:
    """The newest commit tested that lacks the change."""
    tree, best = state.worktree, None
    for step in state.steps():
        if step.sight is Sight.UNTOLD or tree.descends(step.commit, found.best):
            continue
        if best is None or tree.descends(step.commit, best.commit):
            best = step
    return best


def _step_of(state: State, sight: Sight, commit: str | None) -> Step | None:
    """The step of ``commit`` with this outcome, else the last one with it."""
    steps = [step for step in state.steps() if step.sight is sight and step.run]
    fits = [step for step in steps if step.commit == commit]
    return (fits or steps)[-1] if steps else None


def _record(state: State, commit: str) -> dict[str, Any]:
    for step in reversed(state.steps()):
        if step.commit == commit and step.run:
            records = RunFolder(state.runs / step.run).scan().records
            if records:
                return dict(records[-1])
    return {}


def policy(state: State, old: Build, new: Build, *, arch: str, console: Console, say: Say) -> None:
    """What rules, known defects and the changelog say between two releases."""
    cell = Cell.parse(state.task.cell)
    ids = {name: commit for commit, name in state.task.names.items()}
    record = _record(state, ids[new.release]) or _record(state, ids[old.release])
    family = _family(state, ids[new.release], cell) or _family(state, ids[old.release], cell)

    def tell(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if family:
        tell("")
        for build in (old, new):
            release = parse(build.version)
            try:
                rule = rule_for(family, cell.memory, cell.direction, release)
            except HilError:
                rule = None
            known = known_for(cell, str(record.get("driver", "")), family, release)
            listed = "".join(f"; known defect {k.id} ({k.reference})" for k in known)
            said = "no rule"
            if rule:
                source = "; ".join(filter(None, (rule.source, rule.commit)))
                said = f"{rule.expected}, by {rule.id} ({source})"
            tell(f"rule for {build.version}: {said}{listed}")
    words = changelog.words_for(state.task.cell, record, family)
    try:
        text = changelog.text_of(new, arch, say)
    except HilError as error:
        tell(f"no changelog: {error.message}")
        return
    every = list(changelog.items(text, old.package_version, new.package_version))
    found = changelog.concerning(iter(every), words)
    tell(
        f"changelog of {new.package_version} since {old.package_version}: {len(every)} items, "
        f"{len(found)} of them with one of: {', '.join(words)}"
    )
    for item in found[:_SHOWN]:
        tell(f"  {item.version}: {item.text}")
    if len(found) > _SHOWN:
        tell(f"  and {len(found) - _SHOWN} more")
    if old.series != new.series:
        tell(
            "A distribution's changelog lists the commits of stable points, not those of a new "
            f"series: `git log v{old.series}..v{new.series} -- FILE` does, and `hil bisect tree` "
            "finds the one."
        )


def _family(state: State, commit: str, cell: Cell) -> str:
    for step in reversed(state.steps()):
        if step.commit == commit and step.run:
            for pinner in RunFolder(state.runs / step.run).read_meta().get("pinners", ()):
                if pinner["name"] == cell.pinner:
                    return str(pinner["family"])
    return ""
