# SPDX-License-Identifier: GPL-2.0-or-later
"""Which state of the suite a result says it is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hil.system import version


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_clone_tells_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    git(tmp_path, "tag", "some-tag")
    commit = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert version.told(tmp_path).split(", ")[-1] == commit
    (tmp_path / "a").write_text("2")
    assert version.told(tmp_path).endswith(f"{commit}-dirty")


def test_without_git_the_version_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = version.told(tmp_path)
    assert plain and "," not in plain
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version.told(tmp_path) == plain
