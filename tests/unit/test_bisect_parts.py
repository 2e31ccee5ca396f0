# SPDX-License-Identifier: GPL-2.0-or-later
"""Bisection without git or board: odds, sights, releases, changelogs, configurations."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.bisect import changelog, modules, releases, trees
from hil.bisect.git import Repository
from hil.bisect.odds import NEVER, Plan, Sample, of_good, plan, posterior
from hil.bisect.sight import Sight, Tally, Wanted
from hil.errors import HilError
from hil.lab.catalogue import Build
from hil.lab.drivers.kbuild import first_error
from hil.verdicts import Verdict


def record(verdict: str, errno: str | None = None, **evidence: Any) -> dict[str, Any]:
    about = {"call": "VIDIOC_QBUF", "errno": errno, **evidence}
    return {"verdict": verdict, "reason": "it is so", "evidence": about, "known": None}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_each_verdict_says(verdict: Verdict) -> None:
    untold = {Verdict.NOT_APPLICABLE, Verdict.NO_RULE}
    sight = Wanted().sight(record(verdict))
    if verdict is Verdict.HARNESS_ERROR:
        assert sight is None, "it runs again"
    elif verdict in untold:
        assert sight is Sight.UNTOLD
    else:
        assert sight is (Sight.GOOD if verdict is Verdict.OK else Sight.BAD)


def test_known_is_bad_too() -> None:
    assert Wanted().sight({**record("leak"), "known": {"id": "x"}}) is Sight.BAD


def test_another_bad_verdict_may_hide_the_wanted_one() -> None:
    wanted = Wanted.parse(["leak"], "")
    assert wanted.sight(record("leak")) is Sight.BAD
    assert wanted.sight(record("crash")) is Sight.UNTOLD
    assert wanted.sight(record("ok")) is Sight.GOOD


def test_an_errno_decides_whatever_the_verdict() -> None:
    wanted = Wanted.parse([], "EFAULT")
    assert wanted.sight(record("ok", "EFAULT")) is Sight.BAD
    assert wanted.sight(record("wrongly-accepted")) is Sight.GOOD
    assert wanted.sight(record("crash", call=None)) is Sight.UNTOLD
    assert Wanted.parse([], "0").sight(record("ok")) is Sight.BAD


@pytest.mark.parametrize("name", ["no-such", "ok", "not-applicable", "harness-error"])
def test_no_such_verdict_to_look_for(name: str) -> None:
    with pytest.raises(HilError):
        Wanted.parse([name], "")


def test_the_suites_own_fault_is_tried_again_and_then_untold() -> None:
    tally = Tally(Wanted(), lambda s: s.runs >= 2)
    for verdict in ("harness-error", "ok", "harness-error", "harness-error"):
        assert not tally.enough
        tally.add(record(verdict))
    assert tally.enough and tally.untold.startswith("harness-error")


def test_a_guest_that_went_down_behind_a_good_run_counts_once() -> None:
    tally = Tally(Wanted(), lambda s: s.runs >= 9)
    tally.add(record("ok"))
    tally.amend(record("crash", verdict_before="ok"))
    assert tally.sample == Sample(1, 1)


def test_where_the_errno_decides_it_is_what_is_told() -> None:
    tally = Tally(Wanted.parse([], "EFAULT"), lambda s: s.runs >= 1)
    tally.add(record("ok", "EFAULT"))
    assert tally.enough and tally.reason.startswith("EFAULT")


def test_rarer_failures_ask_for_more_runs() -> None:
    always = plan(Sample(5, 5), Sample(0, 5), 7, 0.99)
    often = plan(Sample(12, 36), Sample(0, 20), 7, 0.99)
    assert always is not None and often is not None
    assert always.runs < often.runs
    # With the rate known for sure 0.7^n must be below a share of the risk; it is not known so well.
    assert 0.7**often.runs < 0.01 / 7


def test_failures_at_both_ends_ask_for_a_count_or_are_no_difference() -> None:
    both = plan(Sample(40, 80), Sample(5, 80), 7, 0.99)
    assert both is not None and 1 < both.needed < both.runs
    assert plan(Sample(5, 5), Sample(5, 5), 7, 0.99) is None
    assert plan(Sample(12, 36), Sample(12, 36), 7, 0.99) is None


def test_a_plan_is_decided_as_early_as_can_be() -> None:
    some = Plan(10, 3)
    assert not some.decided(Sample(2, 9))
    assert some.decided(Sample(3, 3)) and some.bad(Sample(3, 3))
    assert some.decided(Sample(0, 8)) and not some.bad(Sample(0, 8))


def history(rate: float, commits: int, dice: random.Random) -> tuple[bool, float]:
    """A bisection of a line of commits without git: was the answer right, and how sure was it?"""
    first = dice.randrange(1, commits)

    def run(commit: int, most: int, *, stop: bool = True) -> Sample:
        sample = Sample()
        while sample.runs < most and not (stop and sample.failures):
            sample += Sample(int(commit >= first and dice.random() < rate), 1)
        return sample

    bad = Sample()
    while bad.failures < 12 and not (bad.failures == bad.runs == 5):
        bad += run(commits, 1)
    chosen = plan(bad, Sample(), 7, 0.99)
    assert chosen is not None
    seen = {0: run(0, chosen.runs), commits: bad}
    low, high = 0, commits
    while high - low > 1:
        middle = (low + high) // 2
        seen[middle] = run(middle, chosen.runs)
        low, high = (low, middle) if seen[middle].failures else (middle, high)
    candidates = range(1, commits + 1)
    after = {commit: frozenset(range(1, commit + 1)) for commit in seen}
    odds = posterior(candidates, seen, after, good=of_good(seen[0]))
    best = max(candidates, key=lambda c: odds[c])
    return best == first, odds[best]


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_the_answer_is_right_as_often_as_it_says(rate: float) -> None:
    dice = random.Random(7)
    tries = [history(rate, 100, dice) for _ in range(200)]
    right = sum(ok for ok, _ in tries) / len(tries)
    said = sum(sure for _, sure in tries) / len(tries)
    assert right >= 0.97
    assert said > 0.9 and right > said - 0.02


def test_a_fix_is_the_same_the_other_way_round() -> None:
    after = {0: frozenset[int](), 1: frozenset({1}), 2: frozenset({1, 2})}
    seen = {0: Sample(5, 5), 1: Sample(1, 1), 2: Sample(0, 9)}
    odds = posterior([1, 2], seen, after, good=NEVER, fails_before=True)
    assert odds[2] > 0.99


def build(version: str, release: str = "", series: str = "") -> Build:
    return Build(release or f"{version}-amd64", version, f"{version}-1", ("x",), (), ())


LINE = [
    build(v) for v in ("6.1.170", "6.1.192", "6.12.43", "6.12.90", "6.12.118", "6.16.3", "6.18.5")
]


def versions_of(builds: list[Build]) -> list[str]:
    return [b.version for b in builds]


def test_between_series_their_newest_and_then_the_points_of_one() -> None:
    old, new = releases.end(LINE, "6.1", "--good"), releases.end(LINE, "6.18.5", "--bad")
    assert versions_of(releases.coarse(LINE, old, new)) == [
        "6.1.192",
        "6.12.118",
        "6.16.3",
        "6.18.5",
    ]
    behind = releases.fine(LINE, LINE[1], LINE[4])
    assert versions_of(behind) == ["6.1.192", "6.12.43", "6.12.90", "6.12.118"]
    inside = releases.coarse(LINE, LINE[2], LINE[4])
    assert versions_of(inside) == ["6.12.43", "6.12.90", "6.12.118"]
    with pytest.raises(HilError, match="no such release"):
        releases.end(LINE, "5.15", "--good")


CHANGELOG = """\
linux (6.1.3-1) bookworm; urgency=medium

  * New upstream stable update:
    https://example.org/ChangeLog-6.1.3
    - mm/gup: do not pin what is in CMA
      for long
    - net: unrelated
  [ Somebody ]
  * [amd64] media: vivid: fix a buffer

 -- Somebody <x@example.org>  Tue, 01 Jan 2026 00:00:00 +0000

linux (6.1.2-1) bookworm; urgency=medium

  * mm/gup: older than asked for

 -- Somebody <x@example.org>  Mon, 31 Dec 2025 00:00:00 +0000
"""


def test_the_changelog_is_searched_for_what_the_rule_names() -> None:
    items = list(changelog.items(CHANGELOG, "6.1.2-1", "6.1.3-1"))
    assert [item.version for item in items] == ["6.1.3-1"] * 4
    made = {
        "driver": "vivid",
        "source": {"source": "mm/gup.c check_vma_flags; frame_vector.c get_vaddr_frames"},
    }
    words = changelog.words_for(
        "v4l2-vivid-video0/anonymous-movable/capture/steady", made, "vb2-vmalloc"
    )
    assert {"mm/gup", "frame_vector", "get_vaddr_frames", "vivid", "videobuf2"} <= set(words)
    assert "steady" not in words
    found = changelog.concerning(iter(items), words)
    assert [item.text for item in found] == [
        "mm/gup: do not pin what is in CMA for long", "[amd64] media: vivid: fix a buffer"
    ]  # fmt: skip


def test_the_configuration_is_made_for_the_cell() -> None:
    plain = trees.fragment("x86_64", "v4l2-vivid-video0/anonymous/capture/steady")
    assert "CONFIG_VIDEO_VIVID=m" in plain and "CONFIG_XFS_FS" not in plain
    files = trees.fragment(
        "x86_64", "v4l2-vivid-video0/xfs-shared/capture/steady", "CONFIG_KASAN=y\n"
    )
    assert "CONFIG_XFS_FS=y" in files
    assert files.endswith("CONFIG_KASAN=y\n")
    with pytest.raises(HilError, match="no configuration for kernels of riscv64"):
        trees.fragment("riscv64", "v4l2-vivid-video0/anonymous/capture/steady")


def test_of_a_failed_build_the_first_error_is_told() -> None:
    output = "  CC x.o\n/w/tree/drivers/x.c:3:1: error: what is this\nmake[1]: *** [x.o] Error 1\n"
    assert first_error(output, Path("/w/tree")) == "drivers/x.c:3:1: error: what is this"


MAKEFILE = """\
videobuf2-common-objs := videobuf2-core.o
obj-$(CONFIG_VIDEOBUF2_CORE) += videobuf2-common.o
obj-$(CONFIG_VIDEOBUF2_DVB) += \\
    videobuf2-dvb.o
obj-$(CONFIG_VIDEOBUF2_NEW) += videobuf2-new.o
"""


def test_of_a_commit_only_what_changed_is_written_and_only_what_is_needed_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["videobuf2_common", "videobuf2_dvb", "vivid"]
    needed = SimpleNamespace(names=["videobuf2_common", "vivid"])
    monkeypatch.setattr(modules.modules, "closure", lambda kernel, drivers: needed)
    monkeypatch.setattr(
        modules.modules, "index", lambda kernel: SimpleNamespace(files=dict.fromkeys(names))
    )
    git = Repository(tmp_path / "tree")
    git.folder.mkdir()
    git.run("init", "--quiet")
    ids = []
    for files in (
        {
            "drivers/x/Makefile": MAKEFILE,
            "drivers/x/a.c": "1",
            "include/media/x.h": "1",
            "other": "",
        },
        {"drivers/x/a.c": "2", "drivers/x/b.c": "1"},
        {"drivers/x/b.c": None},
    ):
        for name, text in files.items():
            place = git.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text) if text is not None else place.unlink()
        git.run("add", "--all")
        git.run("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x")
        ids.append(git.commit("HEAD", ""))
    board: Any = SimpleNamespace(guest=SimpleNamespace(drivers=("vivid",)))
    kernel: Any = None
    shop = modules.Workshop(tmp_path / "work", kernel, board, ["drivers/x/", "include/media"])
    top = shop.work / "tree"

    def laid(commit: str) -> dict[str, tuple[str, int]]:
        files = git.files(commit, shop.paths)
        shop._lay(git, files)
        assert shop._left_out(files) == ["CONFIG_VIDEOBUF2_DVB"]
        found = (path for path in top.rglob("*") if path.is_file())
        return {
            str(path.relative_to(top)): (path.read_text(), path.stat().st_mtime_ns)
            for path in found
        }

    first, second, third = map(laid, ids)
    assert set(first) == {"Kbuild", "drivers/x/Makefile", "drivers/x/a.c", "include/media/x.h"}
    assert f"-I{top}/include" in first["Kbuild"][0] and "drivers/x/" in first["Kbuild"][0]
    assert second["drivers/x/a.c"][0] == "2" and second["drivers/x/b.c"][0] == "1"
    for name in ("Kbuild", "drivers/x/Makefile", "include/media/x.h"):
        assert first[name] == second[name] == third[name]
    assert "drivers/x/b.c" not in third and third["drivers/x/a.c"] == second["drivers/x/a.c"]
