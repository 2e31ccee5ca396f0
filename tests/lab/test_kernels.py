# SPDX-License-Identifier: GPL-2.0-or-later
"""Several kernels in one run: each has its folder, and what goes wrong costs its own kernel."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.lab import kernels, modules
from tests.lab.driving import Hil, finished

CHOICE = ("-k", "video0/ and (soft-offline or (memfd/ or tmpfs) and steady)")


def runs(out: Path) -> dict[str, Path]:
    """Folders of runs that judged something, by the series of their kernels."""
    found = {}
    for path in sorted(file.parent for file in out.glob("2*/journal.jsonl")):
        meta = json.loads((path / "run.json").read_text())
        found[".".join(meta["kernel"].split(".")[:2])] = path
    return found


def meta(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((path / "run.json").read_text())
    return read


def cells(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "journal.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel that does not find its root: its module virtio_blk is another one."""
    stock = kernels.get("debian:6.12")
    tree = tmp_path_factory.mktemp("kernel") / "tree"
    shutil.copytree(stock.place, tree, symlinks=True)
    (tree / "kernel.json").unlink()
    files = modules.closure(stock, ["virtio_blk", "squashfs"]).files
    place = {modules.name_of(file): tree / file.relative_to(stock.place) for file in files}
    shutil.copy(place["squashfs"], place["virtio_blk"])
    return tree


@pytest.fixture(scope="module")
def night(
    tmp_path_factory: pytest.TempPathFactory, broken: Path
) -> tuple[int, str, dict[str, Path]]:
    out = tmp_path_factory.mktemp("results")
    kernels_ = ("--kernel", "6.1..6.12", "--kernel", f"dir:{broken}")
    status, output = finished("run", *kernels_, "--out", out, *CHOICE)
    return status, output, runs(out)


def test_a_kernel_that_does_not_boot_costs_itself_alone(
    night: tuple[int, str, dict[str, Path]],
) -> None:
    status, output, folders = night
    assert status == 3, output
    assert "Traceback" not in output
    assert "did not come up" in output
    assert "tree: nothing judged" in output
    for series in ("6.1", "6.12"):
        assert meta(folders[series])["status"] == "complete"
        assert {record["verdict"] for record in cells(folders[series])} == {"ok"}
        assert f"{series}: complete, 0 bad" in output


def test_both_kernels_judge_the_same_cells_and_stand_on_one_page(
    night: tuple[int, str, dict[str, Path]],
) -> None:
    _, output, folders = night
    one, other = ({record["cell"] for record in cells(folders[s])} for s in ("6.1", "6.12"))
    assert one == other
    (page,) = folders["6.1"].parent.glob("*-kernels.html")
    assert str(page) in output
    text = page.read_text()
    assert all(meta(folders[series])["kernel"] in text for series in ("6.1", "6.12"))


def test_every_cell_that_may_wreck_the_guest_has_a_restored_one_of_its_own(
    night: tuple[int, str, dict[str, Path]],
) -> None:
    _, _, folders = night
    for series in ("6.1", "6.12"):
        judged = cells(folders[series])
        destructive = sum(record["condition"] == "soft-offline" for record in judged)
        assert 0 < destructive < len(judged)
        starts = meta(folders[series])["starts"]
        assert len(starts) == destructive + 1
        assert {start["how"] for start in starts} == {"snapshot"}


def test_ctrl_c_leaves_every_journal_whole_and_all_can_go_on(
    started: Callable[..., Hil], tmp_path: Path
) -> None:
    hil = started("run", "--kernel", "6.1..6.12", "--out", tmp_path, *CHOICE)

    def second_has_begun() -> bool:
        journals = list(tmp_path.glob("2*/journal.jsonl"))
        return len(journals) == 2 and any(journal.stat().st_size for journal in journals)

    hil.until(second_has_begun)
    assert hil.interrupt() == 2
    assert hil.guests_gone()
    assert "Traceback" not in hil.output
    before = {series: cells(path) for series, path in runs(tmp_path).items()}
    names = re.findall(r"--resume (\S+)", hil.output)
    assert names, hil.output
    assert {
        path.name for path in runs(tmp_path).values() if meta(path)["status"] != "complete"
    } == {*names}

    resumed = [part for name in names for part in ("--resume", name)]
    status, output = finished("run", *resumed, "--out", tmp_path)
    assert status == 0, output
    for series, path in runs(tmp_path).items():
        assert meta(path)["status"] == "complete"
        after = cells(path)
        assert after[: len(before[series])] == before[series]
        assert len({record["cell"] for record in after}) == len(after) == meta(path)["cells"]
