# SPDX-License-Identifier: GPL-2.0-or-later
"""What "all" and ranges of kernels stand for; the archive is made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hil.errors import HilError
from hil.lab import kernel_store, kernels, series
from hil.lab.series import Lacking, expand

THERE = ["5.10", "6.1", "6.12", "7.2", "7.10"]
LACKS = {"6.19": "the mirror lacks its packages linux-base", "7.0": "the same"}


@pytest.fixture(autouse=True)
def archive(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the mirror and the cache have; ``error`` is raised in place of the lists."""
    has = SimpleNamespace(there=THERE, lacks=LACKS, cached=[], error=None, asked=0)

    def lists(arch: str, say: object) -> tuple[list[str], dict[str, str]]:
        has.asked += 1
        if has.error:
            raise has.error
        return has.there, has.lacks

    monkeypatch.setattr(kernels, "series", lists)
    monkeypatch.setattr(
        kernel_store,
        "cached",
        lambda arch: [(version, SimpleNamespace(version=version)) for version in has.cached],
    )
    return has


@pytest.mark.parametrize(
    ("spec", "found", "lacking"),
    [
        ("all", THERE, ["6.19", "7.0"]),
        ("5.10..6.12", ["5.10", "6.1", "6.12"], []),
        ("debian:6.1..debian:7.2", ["6.1", "6.12", "7.2"], ["6.19", "7.0"]),
        ("debian:6.1..6.12", ["6.1", "6.12"], []),
        ("6.2..6.18", ["6.12"], []),
        ("7.1..", ["7.2", "7.10"], []),
        ("..5.15", ["5.10"], []),
        ("7.0..7.10", ["7.2", "7.10"], ["7.0"]),
    ],
)
def test_ranges(spec: str, found: list[str], lacking: list[str]) -> None:
    specs, missing = expand([spec])
    assert specs == [f"debian:{name}" for name in found]
    assert missing == [Lacking(name, LACKS[name]) for name in lacking]


def test_single_kernels_pass_as_they_are_and_ask_nobody(archive: SimpleNamespace) -> None:
    specs = ["debian:6.12.118", "dir:../linux", "deb:a.deb,b.deb"]
    assert expand(specs) == (specs, [])
    assert archive.asked == 0


def test_each_kernel_runs_once() -> None:
    assert expand(["debian:7.2", "7.2..7.10", "all"])[0] == [
        "debian:7.2", "debian:7.10", "debian:5.10", "debian:6.1", "debian:6.12",
    ]  # fmt: skip


@pytest.mark.parametrize("spec", ["6.13..6.18", "7.3..7.9", "7.2..5.10"])
def test_a_range_with_nothing_in_it(spec: str) -> None:
    with pytest.raises(HilError, match=f"no kernel in the range {spec}") as caught:
        expand([spec])
    assert "5.10, 6.1, 6.12, 7.2, 7.10" in caught.value.hint


@pytest.mark.parametrize("spec", ["..", "6.12.5..6.12.9", "debian:..", "6..7"])
def test_what_is_no_range(spec: str) -> None:
    with pytest.raises(HilError, match="no range of kernels"):
        expand([spec])


def test_a_kernel_that_the_mirror_dropped_is_to_be_had_from_the_cache(
    archive: SimpleNamespace,
) -> None:
    archive.cached = ["6.19.14", "6.1.192"]
    specs, missing = series.expand(["6.12.."])
    assert specs == ["debian:6.12", "debian:6.19", "debian:7.2", "debian:7.10"]
    assert [one.series for one in missing] == ["7.0"]


def test_without_lists_the_cache_serves(archive: SimpleNamespace) -> None:
    archive.error = HilError("no package lists could be fetched")
    with pytest.raises(HilError, match="no package lists"):
        expand(["all"])
    archive.cached = ["6.12.118"]
    assert expand(["all"]) == (["debian:6.12"], [])
