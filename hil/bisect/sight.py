# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cell's record says to a bisection: good, bad, nothing, or that it has to run again."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hil.bisect.odds import Sample
from hil.errors import HilError
from hil.verdicts import Verdict

_TRIES = 3
"""How often a cell that the suite or the machine failed is run again before it counts as untold."""
ACCEPTED = "0"


class Sight(enum.StrEnum):
    """What a commit comes to."""

    GOOD = "good"
    BAD = "bad"
    UNTOLD = "untold"
    """It does not build or boot, the cell is not applicable, or another defect hides the one."""


class StopError(HilError):
    """The harness itself is broken: a bisection that went on would come to a wrong answer."""


class Wanted(NamedTuple):
    """What counts as bad."""

    verdicts: tuple[Verdict, ...] = ()
    """Empty is every verdict that says something bad of driver or kernel, known or not."""
    errno: str = ""
    """When set: the call's answer decides in place of the verdict, "0" is accepted."""

    @classmethod
    def parse(cls, verdicts: Iterable[str], errno: str) -> Wanted:
        """From the command line; HilError for a name that is none."""
        found = []
        for name in verdicts:
            try:
                verdict = Verdict(name)
            except ValueError:
                raise HilError(
                    f"--verdict {name}: there is no such verdict",
                    f"Verdicts: {', '.join(v for v in Verdict if v.bad)}.",
                ) from None
            if verdict in (Verdict.OK, Verdict.NOT_APPLICABLE, Verdict.HARNESS_ERROR):
                raise HilError(f"--verdict {name}: says nothing bad of a driver", "See README.md.")
            found.append(verdict)
        if found and errno:
            raise HilError("--verdict and --errno exclude each other", "Give one of them.")
        return cls(tuple(found), errno)

    def sight(self, record: Mapping[str, Any]) -> Sight | None:
        """What one record says; None when the cell is to run again.

        A verdict that is known of this kernel is as bad as another: the reader looks for where it
        came in.  `no-rule` says nothing, for nothing tells good from bad then.
        """
        verdict = Verdict(record["verdict"])
        if verdict is Verdict.HARNESS_ERROR:
            return None
        if verdict is Verdict.NOT_APPLICABLE:
            return Sight.UNTOLD
        if self.errno:
            evidence = record["evidence"]
            if evidence.get("call") is None:
                return Sight.UNTOLD
            answer = evidence.get("errno") or ACCEPTED
            return Sight.BAD if answer == self.errno else Sight.GOOD
        if verdict is Verdict.OK:
            return Sight.GOOD
        if self.verdicts:
            return Sight.BAD if verdict in self.verdicts else Sight.UNTOLD
        return Sight.UNTOLD if verdict is Verdict.NO_RULE else Sight.BAD


@dataclass
class Tally:
    """Runs of one cell on one commit, as they come in."""

    wanted: Wanted
    done: Callable[[Sample], bool]
    """Whether so many runs are enough."""
    sample: Sample = field(default_factory=Sample)
    verdicts: Counter[str] = field(default_factory=Counter)
    untold: str = ""
    """Why nothing can be told; empty while something can."""
    reason: str = ""
    """What the first bad record said, or else the last one."""
    _again: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record."""
        self.verdicts[str(record["verdict"])] += 1
        sight = self.wanted.sight(record)
        said = record["evidence"].get("errno") or "accepted"
        text = f"{said if self.wanted.errno else record['verdict']}: {record['reason']}"
        if sight is None:
            self._again += 1
            if self._again >= _TRIES:
                self.untold = text
        elif sight is Sight.UNTOLD:
            self.untold = text
        else:
            bad = sight is Sight.BAD
            if not self.sample.failures:
                self.reason = text
            self.sample += Sample(int(bad), 1)

    def amend(self, record: Mapping[str, Any]) -> None:
        """Count a record in place of the good one that the same run gave before."""
        self.verdicts[str(record["evidence"]["verdict_before"])] -= 1
        before = Verdict(record["evidence"]["verdict_before"])
        if self.wanted.sight({**record, "verdict": before}) is Sight.GOOD:
            self.sample = Sample(self.sample.failures, self.sample.runs - 1)
        self.add(record)

    @property
    def enough(self) -> bool:
        return bool(self.untold) or self.done(self.sample)
