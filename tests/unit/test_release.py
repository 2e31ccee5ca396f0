# SPDX-License-Identifier: GPL-2.0-or-later
"""hil/system/release.py: names of kernels, and spans with stable points."""

from __future__ import annotations

import pytest

from hil.system.release import FINAL, Release, Span, from_names, parse, reached, running


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("6.12", (6, 12, 0, FINAL)),
        ("6.12.107", (6, 12, 107, FINAL)),
        ("7.3.4+deb13-amd64", (7, 3, 4, FINAL)),
        ("7.3.4-1~bpo13+1", (7, 3, 4, FINAL)),
        ("6.1.0-56-amd64", (6, 1, 0, FINAL)),
        ("6.1.0-rc8", (6, 1, 0, 8)),
        ("6.1~rc8-1~exp1", (6, 1, 0, 8)),
        ("5.10.262-1\n", (5, 10, 262, FINAL)),
    ],
)
def test_parse(text: str, release: tuple[int, ...]) -> None:
    assert parse(text) == release


@pytest.mark.parametrize("text", ["", "6", "six.1", "6.", "6.1x", "6.1.2.3", "6.1-rc", "v6.1"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is no kernel release such as"):
        parse(text)


def test_a_release_prints_as_it_is_called() -> None:
    names = ["6.12.107", "6.12", "6.1-rc8", "5.10.262"]
    assert [str(parse(name)) for name in names] == names
    assert parse("6.12.107").series == "6.12"


def test_releases_are_ordered_as_released() -> None:
    names = ["5.10.262", "5.15", "6.1-rc8", "6.1", "6.1.2", "6.1.37", "6.1.192", "6.12", "7.3-rc1"]
    assert sorted(map(parse, reversed(names))) == list(map(parse, names))


@pytest.mark.parametrize(
    ("uname_release", "uname_version", "expected"),
    [
        ("6.1.0-56-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-01)", "6.1.192"),
        ("5.10.0-36-amd64", "#1 SMP Debian 5.10.262-1 (2026-10-20)", "5.10.262"),
        ("6.12.107+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1 (2026)", "6.12.107"),
        ("7.3.4+deb13-amd64", "#1 SMP Debian 7.3.4-1~bpo13+1 (2026-11-15)", "7.3.4"),
        ("6.8.0-31-generic", "Ubuntu 6.8.0-31.31-generic 6.8.1", "6.8.1"),
        ("6.12.0-rc3+", "#7 SMP PREEMPT_DYNAMIC Sat Nov 21 10:00:00 UTC 2026", "6.12-rc3"),
        # built on Debian, from another source
        ("6.6.9", "#1 SMP Debian 12.2.0-14 (2026)", "6.6.9"),
        ("6.6.9", "#1 SMP Debian unknown (2026)", "6.6.9"),
        ("6.6.9", "#1 SMP built by Debian", "6.6.9"),
    ],
)
def test_the_true_release(uname_release: str, uname_version: str, expected: str) -> None:
    assert str(from_names(uname_release, uname_version)) == expected


def test_the_release_of_this_machine() -> None:
    assert running().major >= 3


@pytest.mark.parametrize(
    ("release", "there"),
    [
        ("6.1.129", False),
        ("6.1.130", True),
        ("6.2.16", False),
        ("6.4.16", False),
        ("6.5-rc1", True),
        ("6.5", True),
        ("7.3.4", True),
        ("5.15.200", False),
    ],
)
def test_a_fix_with_a_stable_point(release: str, there: bool) -> None:
    assert reached([parse("6.5"), parse("6.1.130")], parse(release)) is there


@pytest.mark.parametrize(
    ("release", "there"), [("6.1-rc7", False), ("6.1-rc8", True), ("6.1", True), ("6.2", True)]
)
def test_a_fix_within_the_candidates(release: str, there: bool) -> None:
    assert reached([parse("6.1-rc8")], parse(release)) is there


@pytest.mark.parametrize(
    ("release", "inside"),
    [
        ("6.12.13", False),
        ("6.12.14", True),
        ("6.12.35", True),
        ("6.12.36", False),
        ("6.13.12", False),
        ("6.14", True),
        ("6.15.11", True),
        ("6.16", False),
    ],
)
def test_a_span_ends_at_its_stable_points(release: str, inside: bool) -> None:
    span = Span(["6.14", "6.12.14"], ["6.16", "6.12.36"])
    assert span.holds(parse(release)) is inside


def test_a_span_prints_its_points() -> None:
    span = Span(["6.14", "6.12.14"], ["6.16"])
    assert str(span) == "from 6.14 / 6.12.14 to before 6.16"
    assert str(Span(["5.10"])) == "from 5.10 on"


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        ([], [], "needs at least one"),
        (["6.5"], ["6.5"], "'since' and in 'until'"),
        (["6.5"], ["6.1"], "ends at 6.1, before it begins at 6.5"),
        (["6.5", "6.6"], [], "more than one mainline"),
        (["6.5", "6.1.3", "6.1.9"], [], "two points of one series"),
        (["soon"], [], "is no kernel release"),
    ],
)
def test_a_bad_span(since: list[str], until: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Span(since, until)


def test_a_release_is_a_plain_tuple() -> None:
    assert Release(6, 1) == parse("6.1")
