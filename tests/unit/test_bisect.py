# SPDX-License-Identifier: GPL-2.0-or-later
"""Bisection but for builds and guests: real git trees, and a board that is a shell script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hil.bisect import changelog, releases
from hil.cli import main
from hil.lab.catalogue import Build

HIL = Path(sys.executable).with_name("hil")
CELL = "v4l2-x/anonymous/capture/steady"
# The file "suite" of a commit says how its cell behaves.
SUITE = """\
case $(cat $HIL_TREE/suite) in
good) v=ok ;;
bad) v=leak ;;
other) v=crash ;;
seldom) echo x >>$HIL_COUNT; v=ok; [ $(($(wc -l <$HIL_COUNT) % 3)) -eq 0 ] && v=leak ;;
absent) v=not-applicable ;;
lost) exit 4 ;;
slow) touch $HIL_COUNT; sleep 60 ;;
esac
echo '{"cell":"'$HIL_CELL'","verdict":"'$v'","reason":"it is so","driver":"vivid",' \\
    '"evidence":{"call":"VIDIOC_QBUF","errno":null},"known":null}' >>$HIL_RESULTS/journal.jsonl
exit 1
"""


class Tree:
    """A git tree of one commit for each word, ``c0`` and so on, and hil bisect over it."""

    def __init__(self, folder: Path, words: str) -> None:
        self.folder, self.tree = folder, folder / "tree"
        self.count = folder / "count"
        (folder / "suite.sh").write_text(SUITE)
        self.git("init", "--quiet", cwd=None)
        for number, word in enumerate(words.split()):
            (self.tree / "suite").write_text(f"{word}\n")
            (self.tree / "number").write_text(f"{number}\n")
            self.git("add", ".")
            self.git(
                "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", f"change {number}"
            )
            self.git("tag", f"c{number}")
        self.last = f"c{len(words.split()) - 1}"

    def git(self, *words: str, cwd: Path | None = Path()) -> str:
        place = [str(self.tree)] if cwd is None else []
        done = subprocess.run(
            ["git", *words, *place], cwd=self.tree if cwd is not None else None,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [HIL, "bisect", *words, "--out", self.folder / "results"],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            **more,
        )  # fmt: skip

    def arguments(self, *more: str, good: str = "c0", bad: str = "") -> list[str]:
        return [
            "tree", "--tree", str(self.tree), "--good", good, "--bad", bad or self.last,
            "--cell", CELL, "--board", "local", "--deploy", "true",
            "--build", "grep -v broken suite", "--suite", f"sh {self.folder}/suite.sh", *more,
        ]  # fmt: skip

    def bisect(self, *more: str, good: str = "c0", bad: str = "") -> tuple[int, str]:
        process = self.start(*self.arguments(*more, good=good, bad=bad))
        output = process.communicate(timeout=120)[0]
        return process.returncode, output

    def inside(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str
    ) -> tuple[int, str]:
        """In this process, which is quicker: where git is not asked to call a step."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        status = main(["bisect", *words, "--out", str(self.folder / "results")])
        return status, "".join(capfd.readouterr())

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HIL_COUNT": str(self.count), "COLUMNS": "200",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }  # fmt: skip

    @property
    def steps(self) -> list[dict[str, Any]]:
        (file,) = (self.folder / "results").glob("bisect-*/steps.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()]


def test_finds_the_commit_and_leaves_the_users_checkout_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "good broken good bad bad broken bad")
    (tree.tree / "number").write_text("the user is at work\n")
    before = tree.git("status", "--porcelain=v2", "--branch")
    status, output = tree.bisect()
    assert status == 0, output
    assert f"{tree.git('rev-parse', 'c3')} is the first bad commit" in output
    assert "last good commit" in output and "change 2" in output
    assert tree.git("status", "--porcelain=v2", "--branch") == before
    assert len(tree.git("worktree", "list").splitlines()) == 1
    assert not tree.git("for-each-ref", "refs/bisect")
    assert not list((tmp_path / "cache").glob("userptr-hil/bisect/*"))


def test_a_cell_that_fails_seldom_runs_as_often_as_that_takes(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "good good seldom seldom")
    status, output = tree.bisect()
    assert status == 0, output
    assert f"{tree.git('rev-parse', 'c2')} is the first bad commit" in output
    passed = [s for s in tree.steps if s["role"] == "step" and s["sight"] == "good"]
    assert all(step["sample"][1] >= 12 for step in passed), "0.67^12 is not below 0.01"


def test_finds_the_fix_when_the_good_end_is_the_newer_one(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "bad bad good good")
    status, output = tree.bisect(good=tree.last, bad="c0")
    assert status == 0, output
    assert f"{tree.git('rev-parse', 'c2')} is the first good commit" in output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("good good good", "was called bad, and the cell did not fail"),
        ("bad bad bad", "was called good, and the cell fails there too"),
        ("bad good good", "wrong ends"),
        ("good good absent", "tells nothing"),
        ("broken good bad", "does not build"),
    ],
)
def test_a_wrong_end_is_noticed_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    words: str, told: str,
) -> None:  # fmt: skip
    tree = Tree(tmp_path, words)
    status, output = tree.inside(monkeypatch, capfd, *tree.arguments("--measure", "6"))
    assert (status, told in output) == (2, True), output
    assert all(step["role"] != "step" for step in tree.steps)


def test_what_cannot_be_told_is_never_good_or_bad(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "good good absent other absent bad bad")
    status, output = tree.bisect("--verdict", "leak")
    assert status == 3, output
    assert "It is one of these" in output
    for number in (2, 3, 4, 5):
        assert f"change {number}" in output.partition("It is one of these")[2]


def test_pytests_own_statuses_stop_it_and_it_goes_on_when_told(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "good good lost lost bad bad")
    status, output = tree.bisect()
    assert status == 3, output
    assert "the suite on board local ended with 4" in output
    assert "hil bisect --resume" in output
    # the board's keeper has mended it
    (tmp_path / "suite.sh").write_text(SUITE.replace("lost) exit 4", "lost) v=leak"))
    shutil.rmtree(tmp_path / "cache")  # somebody made room
    process = tree.start("--resume")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert f"{tree.git('rev-parse', 'c2')} is the first bad commit" in output
    assert sum(step["role"] == "good end" for step in tree.steps) == 1
    process = tree.start("--resume")
    assert "is over" in process.communicate(timeout=60)[0]
    assert process.returncode == 2


def test_ctrl_c_leaves_a_state_to_go_on_with(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "good good slow bad bad")
    process = tree.start(*tree.arguments())
    deadline = time.monotonic() + 60
    while not tree.count.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert "go on with: hil bisect --resume" in output
    (tmp_path / "suite.sh").write_text(
        SUITE.replace("slow) touch", "slow) v=leak; true").replace("sleep 60", "true")
    )
    process = tree.start("--resume")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert f"{tree.git('rev-parse', 'c2')} is the first bad commit" in output


RELEASES = ("6.1.170", "6.1.192", "6.12.43", "6.12.90", "6.12.118", "6.16.3", "6.18.5")
CHANGELOG = """\
linux (6.12.90-1) trixie; urgency=medium

  * New upstream stable update:
    - media: vivid: hold what is pinned
    - net: something else

linux (6.12.43-1) trixie; urgency=medium
"""


def test_over_releases_then_over_the_stable_points_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tree = Tree(tmp_path, "good")
    (tmp_path / "suite.sh").write_text(
        "case $HIL_RELEASE in 6.1.*|6.12.43) word=good ;; *) word=bad ;; esac\n"
        + SUITE.replace("$(cat $HIL_TREE/suite)", "$word")
    )
    builds = [Build(name, name, f"{name}-1", (), (), ()) for name in RELEASES]
    monkeypatch.setattr(releases, "offered", lambda arch, say: builds)
    monkeypatch.setattr(changelog, "text_of", lambda build, arch, say: CHANGELOG)
    status, output = tree.inside(
        monkeypatch, capfd, "releases", "--good", "6.1", "--bad", "6.18", "--cell", CELL,
        "--board", "local", "--deploy", "test -n $HIL_RELEASE",
        "--suite", f"sh {tmp_path}/suite.sh",
    )  # fmt: skip
    assert status == 0, output
    coarse, _, fine = output.partition("there are stable points")
    assert "6.12.118 is the first bad release" in coarse
    assert "6.12.90 is the first bad release" in fine
    assert "last good release: 6.12.43" in fine
    assert "6.12.90-1: media: vivid: hold what is pinned" in fine
    assert "something else" not in fine


@pytest.mark.parametrize(
    "words",
    [
        ["tree"],
        ["module", "--tree", ".", "--good", "a", "--bad", "b", "--cell", CELL],
        ["tree", "--tree", "/nonexistent", "--good", "a", "--bad", "b", "--cell", CELL],
        ["tree", "--tree", ".", "--good", "no-such", "--bad", "HEAD", "--cell", CELL],
        ["tree", "--tree", ".", "--good", "HEAD", "--bad", "HEAD", "--cell", CELL],
        ["tree", "--tree", ".", "--good", "HEAD~", "--bad", "HEAD", "--cell", "nonsense"],
        [
            "tree",
            "--tree",
            ".",
            "--good",
            "HEAD~",
            "--bad",
            "HEAD",
            "--cell",
            CELL,
            "--board",
            "local",
        ],
        ["releases", "--cell", CELL, "--verdict", "no-such"],
        ["--resume", "no-such"],
        [],
    ],
    ids=" ".join,
)
def test_what_a_user_can_get_wrong_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    words: list[str],
) -> None:  # fmt: skip
    tree = Tree(tmp_path, "good bad")
    monkeypatch.chdir(tree.tree)
    status, output = tree.inside(monkeypatch, capfd, *words)
    assert status == 2
    assert output.startswith("hil: ")


def test_step_outside_of_a_bisection_is_no_answer(tmp_path: Path) -> None:
    done = subprocess.run([HIL, "bisect", "step"], cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == 128
