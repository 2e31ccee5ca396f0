# SPDX-License-Identifier: GPL-2.0-or-later
"""KTAP version 1 as Documentation/dev-tools/ktap.rst has it, read strictly: for tests."""

from __future__ import annotations

import re
from typing import NamedTuple

_RESULT = re.compile(r"(ok|not ok) (\d+) ([^#]+?)(?: # (?:(SKIP|XFAIL|TIMEOUT|ERROR)\b ?)?(.*))?")


class Test(NamedTuple):
    """One result line, with the tests nested in it and what was said of it."""

    ok: bool
    name: str
    directive: str
    text: str
    said: list[str]
    inner: list[Test]

    def leaves(self, path: str = "") -> dict[str, Test]:
        """The innermost tests by the names that lead to them."""
        own = f"{path}/{self.name}" if path else self.name
        found = {} if self.inner else {own: self}
        for test in self.inner:
            found |= test.leaves(own)
        return found


def read(text: str) -> list[Test]:
    """The outermost tests; AssertionError with the line that is not as it must be."""
    rest = text.splitlines()[::-1]
    tests, _ = _block(rest, "", None)
    assert not rest, f"after the last test: {rest[-1]!r}"
    return tests


def _block(rest: list[str], indent: str, header: str | None) -> tuple[list[Test], str | None]:
    """Version line, perhaps a Subtest line, plan, then so many tests; ``rest`` is reversed."""
    assert rest.pop() == f"{indent}KTAP version 1"
    name = None
    while rest[-1].startswith(f"{indent}# "):
        line = rest.pop()
        if line.startswith(f"{indent}# Subtest: "):
            name = line.partition(": ")[2]
    plan = rest.pop()
    match = re.fullmatch(rf"{indent}1\.\.(\d+)", plan)
    assert match, f"a plan was expected, found {plan!r}"
    return [_test(rest, indent, number) for number in range(1, int(match[1]) + 1)], name


def _test(rest: list[str], indent: str, number: int) -> Test:
    inner: list[Test] = []
    header = None
    if rest[-1] == f"{indent}  KTAP version 1":
        inner, header = _block(rest, f"{indent}  ", None)
    said = []
    while rest[-1].startswith(f"{indent}# "):
        said.append(rest.pop().removeprefix(f"{indent}# "))
    line = rest.pop()
    assert line.startswith(indent), f"not indented by {len(indent)}: {line!r}"
    match = _RESULT.fullmatch(line[len(indent) :])
    assert match, f"a result was expected, found {line!r}"
    state, found, name, directive, text = match.groups()
    assert int(found) == number, f"number {number} was expected: {line!r}"
    assert header is None or header == name, f"Subtest {header!r} ends as {name!r}"
    test = Test(state == "ok", name, directive or "", text or "", said, inner)
    if inner:
        assert test.ok == all(t.ok for t in inner), f"{name!r} is not what its tests are"
    if directive in ("TIMEOUT", "ERROR"):
        assert not test.ok, f"{directive} goes with 'not ok': {line!r}"
    return test
