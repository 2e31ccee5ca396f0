# SPDX-License-Identifier: GPL-2.0-or-later
"""Every verdict becomes the outcome that design.md has for it, in a real pytest session."""

from __future__ import annotations

import pytest

from hil.verdicts import Verdict

pytest_plugins = ["pytester"]

# Suite and journal are stand-ins; fixtures/verdict.py and the test itself are the real ones.
CONFTEST = """
import pytest
from hil.cells import Cell, Direction

VERDICT, KNOWN, KILLED = {verdict!r}, {known!r}, {killed!r}

class Suite:
    def run(self, cell, timeout):
        known = {{"id": "it", "reference": "0123456789ab", "because": ""}} if KNOWN else None
        return {{"cell": cell.id, "kernel": "6.12", "driver": "vivid", "memory": cell.memory,
                "verdict": VERDICT, "reason": "found this, expected that", "known": known,
                "evidence": {{"child": {{"killed": KILLED}}}}}}

class Journal:
    lines = []
    def begin(self, cell): self.lines.append(cell)
    def write(self, record): self.lines.append(record["verdict"])

@pytest.fixture(scope="session")
def suite(): return Suite()

@pytest.fixture(scope="session")
def journal(): return Journal()

@pytest.fixture(params=["anonymous", "memfd"])
def cell(request): return Cell("v4l2-vivid-video0", request.param, Direction.CAPTURE, "steady")
"""
TEST = """
from fixtures.verdict import conclude
def test_pinning(record, journal):
    assert journal.lines[-2:] == ["v4l2-vivid-video0/" + record["memory"] + "/capture/steady",
                                  record["verdict"]]
    conclude(record)
"""


def outcomes(
    pytester: pytest.Pytester, verdict: Verdict, known: bool, killed: bool | None = None
) -> dict[str, int]:
    pytester.makeconftest(CONFTEST.format(verdict=str(verdict), known=known, killed=killed))
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess("-rA")
    found = result.parseoutcomes()
    told = "found this, expected that"
    if found.keys() & {"failed", "errors", "skipped"} and not (known and verdict is Verdict.OK):
        assert told in result.stdout.str()
        assert "hil/" not in result.stdout.str()
    return found


@pytest.mark.parametrize("verdict", list(Verdict))
def test_verdict_becomes_outcome(pytester: pytest.Pytester, verdict: Verdict) -> None:
    expected = {
        Verdict.OK: {"passed": 2},
        Verdict.NOT_APPLICABLE: {"skipped": 2},
        Verdict.HARNESS_ERROR: {"errors": 2},
    }.get(verdict, {"failed": 2})
    assert outcomes(pytester, verdict, known=False) == expected


@pytest.mark.parametrize("verdict", [Verdict.STAYED, Verdict.HANG, Verdict.WRONGLY_ACCEPTED])
def test_known_is_a_strict_expected_failure(pytester: pytest.Pytester, verdict: Verdict) -> None:
    assert outcomes(pytester, verdict, known=True) == {"xfailed": 2}
    assert outcomes(pytester, Verdict.OK, known=True) == {"failed": 2}


def test_a_child_that_cannot_be_killed_stops_the_session(pytester: pytest.Pytester) -> None:
    assert outcomes(pytester, Verdict.HANG, known=False, killed=False) == {"failed": 1}
