# SPDX-License-Identifier: GPL-2.0-or-later
"""How often a cell must run to tell good from bad, and how sure the answer is.

A cell fails with one probability on every bad commit and with another, mostly 0, on every good one.
Neither is known; runs at both ends of the history tell of them.  What is asked here are the odds of
counts of failures, with the unknown probability averaged over what the runs leave possible (Beta
distributions, so that everything is a quotient of Beta functions).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

Commit = TypeVar("Commit", bound=Hashable)

Prior = tuple[float, float]
OPEN = (1.0, 1.0)
"""Before any run: on a bad commit every rate of failures is as likely as another."""
NEVER = (0.5, 200.0)
"""A good commit hardly ever fails: ten runs of the suite came to the same verdicts throughout
(docs/stability.md)."""
MOST_RUNS = 400
"""Of one commit; what needs more is not worth a bisection."""


class Sample(NamedTuple):
    """What runs of the cell came to."""

    failures: int = 0
    runs: int = 0

    def __add__(self, other: object) -> Sample:
        if not isinstance(other, Sample):
            return NotImplemented
        return Sample(self.failures + other.failures, self.runs + other.runs)

    @property
    def rate(self) -> float:
        """Failures among the runs; 0 without any."""
        return self.failures / self.runs if self.runs else 0.0


class Plan(NamedTuple):
    """A commit is bad when the cell fails ``needed`` times in at most ``runs`` runs."""

    runs: int
    needed: int = 1

    def bad(self, sample: Sample) -> bool:
        return sample.failures >= self.needed

    def decided(self, sample: Sample) -> bool:
        """Whether more runs could not change it."""
        left = self.runs - sample.runs
        return left <= 0 or self.bad(sample) or sample.failures + left < self.needed


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def of_good(sample: Sample) -> Prior:
    """What is taken of good commits' failures, when the good end came to ``sample``."""
    return OPEN if sample.failures else NEVER


def _log_evidence(prior: Prior, sample: Sample) -> float:
    """The log of the odds to see just this sequence of failures and passes."""
    a, b = prior
    return _log_beta(a + sample.failures, b + sample.runs - sample.failures) - _log_beta(a, b)


def _after(prior: Prior, sample: Sample) -> Prior:
    return prior[0] + sample.failures, prior[1] + sample.runs - sample.failures


def fewer(prior: Prior, runs: int, failures: int) -> float:
    """The odds of fewer than ``failures`` failures in ``runs`` runs."""
    total = 0.0
    for count in range(failures):
        ways = math.lgamma(runs + 1) - math.lgamma(count + 1) - math.lgamma(runs - count + 1)
        total += math.exp(ways + _log_evidence(prior, Sample(count, runs)))
    return min(1.0, total)


def plan(bad: Sample, good: Sample, steps: int, confidence: float) -> Plan | None:
    """How often to run the cell on each of ``steps`` commits, for all to be judged rightly.

    ``bad`` and ``good`` are what the ends came to.  A cell that never failed at the good end counts
    as bad with its first failure.  None when the ends differ too little to be told apart.
    """
    risk = (1 - confidence) / (steps + 1)
    on_bad, on_good = _after(OPEN, bad), _after(of_good(good), good)
    needed = 1
    for runs in range(1, MOST_RUNS + 1):
        # It never falls as the runs grow.
        while good.failures and needed <= runs and 1 - fewer(on_good, runs, needed) > risk:
            needed += 1
        if needed <= runs and fewer(on_bad, runs, needed) <= risk:
            return Plan(runs, needed)
    return None


def posterior(
    candidates: Sequence[Commit],
    seen: Mapping[Commit, Sample],
    after: Mapping[Commit, frozenset[Commit]],
    *,
    good: Prior = NEVER,
    fails_before: bool = False,
) -> dict[Commit, float]:
    """For each candidate the probability that it is the commit with which the cell changed.

    ``seen`` has the runs of every commit that was tested, the ends among them; ``after[commit]``
    are the candidates that ``commit`` has in its history, itself included.  ``good`` is `of_good`
    of the good end.  The cell fails on the commits that have the change, or with ``fails_before``
    on those that have not.  All candidates count as equally likely at first, and every commit's
    runs as independent.
    """
    logs = []
    for candidate in candidates:
        having, lacking = Sample(), Sample()
        for commit, sample in seen.items():
            if candidate in after[commit]:
                having += sample
            else:
                lacking += sample
        failing, passing = (lacking, having) if fails_before else (having, lacking)
        logs.append(_log_evidence(OPEN, failing) + _log_evidence(good, passing))
    best = max(logs, default=0.0)
    weights = [math.exp(value - best) for value in logs]
    total = sum(weights)
    return {c: weight / total for c, weight in zip(candidates, weights, strict=True)}
