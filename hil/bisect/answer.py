# SPDX-License-Identifier: GPL-2.0-or-later
"""The commit that it is, by the odds of all runs; and more runs where these are too poor."""

from __future__ import annotations

from rich.console import Console

from hil.bisect import odds, words
from hil.bisect.examine import examine
from hil.bisect.sight import Sight
from hil.bisect.state import State, candidates
from hil.lab.progress import Line

_CHECKS = 4
"""How often commits are run again at most."""


class Answer:
    """What a bisection came to: one commit, or several of which it is one."""

    def __init__(self, state: State) -> None:
        self.state = state
        tree = state.worktree
        self.candidates = candidates(state)
        seen = state.seen()
        inside = set(self.candidates)
        after = {
            commit: frozenset(
                inside & set(tree.commits(state.task.old, commit, state.task.pathspec))
            )
            for commit in seen
        }
        good = odds.of_good(state.seen("good end")[state.task.good])
        self.odds = odds.posterior(
            self.candidates, seen, after, good=good, fails_before=state.task.fix
        )
        self.best = max(self.candidates, key=lambda c: self.odds[c])

    @property
    def confidence(self) -> float:
        return self.odds[self.best]

    def likely(self) -> list[str]:
        """The commits that together reach the confidence asked for, likeliest first."""
        found: list[str] = []
        total = 0.0
        for commit in sorted(self.candidates, key=lambda c: -self.odds[c]):
            found.append(commit)
            total += self.odds[commit]
            if total >= self.state.task.confidence:
                break
        return found

    def rival(self) -> str:
        """The commit whose runs would tell most: the best one, or the one before it."""
        tree = self.state.worktree
        has_best = {c for c in self.candidates if c != self.best and tree.descends(c, self.best)}
        later = sum(self.odds[c] for c in has_best)
        if later >= 1 - self.confidence - later:
            return self.best
        older = tree.commits(self.state.task.old, self.best, self.state.task.pathspec)
        return older[1] if len(older) > 1 else self.state.task.old


def settle(state: State, console: Console) -> Answer:
    """The answer, after more runs of what is in doubt."""
    plan = state.plan
    assert plan is not None
    found = Answer(state)
    untold = {step.commit for step in state.steps() if step.sight is Sight.UNTOLD}
    for _ in range(_CHECKS):
        target = found.rival()
        if found.confidence >= state.task.confidence or target in untold:
            break
        with Line() as say:
            done = examine(state, target, "check", lambda s: s.runs >= plan.runs, say)
        words.show(state, done, console)
        if done.sight is Sight.UNTOLD:
            break
        found = Answer(state)
    return found
