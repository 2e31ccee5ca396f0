# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that fills up: status 2, no traceback, and what was judged is kept."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.lab import cache
from tests.lab.driving import Run, finished

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs: run as root")
CHOICE = ("-k", "video0/ and (memfd or tmpfs or shared-anonymous or readonly)")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder that holds 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_results_fill_up(small: Path) -> None:
    status, output = finished("run", "--out", small, *CHOICE)
    assert status == 2, output
    assert "Traceback" not in output
    assert "No space left on device" in output or "disk full" in output
    run = Run(small)
    before = run.cells
    assert before
    assert run.meta["status"] == "incomplete"
    subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
    status, output = finished("run", "--resume", "latest", "--out", small)
    assert status == 0, output
    assert run.cells[: len(before)] == before
    assert len(run.cells) == len(set(run.cells)) == run.meta["cells"]


def test_the_cache_is_full(small: Path, tmp_path: Path) -> None:
    mine = small / cache.NAME
    mine.mkdir()
    for part in cache.root().iterdir():
        if part.name != "snapshots":
            (mine / part.name).symlink_to(part)
    out = tmp_path / "results"
    status, output = finished("run", "--out", out, *CHOICE, env={"XDG_CACHE_HOME": str(small)})
    assert status == 2, output
    assert "Traceback" not in output
    assert "disk full" in output
    assert "a snapshot of the guest" in output
    assert str(mine) in output
    assert not list(mine.glob("snapshots/*"))
