# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot that does not fit, or is damaged, is not used: the guest boots."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hil.lab import board as boards
from hil.lab import cache, kernels, snapshot
from hil.lab.virtual import VirtualBoard
from tests.lab.driving import Run, copy_of_the_board, finished

BOOTING = "booting the guest, for a snapshot"
RUN = ("run", "-k", "video0/ and /memfd/")


def test_everything_that_goes_in_is_in_the_key(tmp_path: Path) -> None:
    kernel = kernels.get("debian:6.12")

    def key(old: str = "", new: str = "") -> str:
        file = copy_of_the_board(tmp_path, old, new)
        return VirtualBoard(boards.load(str(file)), kernel).key

    keys = {
        key(),
        key("n_devs=2", "n_devs=1"),  # a module's option
        key("cpus = 2", "cpus = 1"),
        key("quiet", "debug"),
        key("[guest]", '[suite]\nconditions = ["spin"]\n[guest]'),
    }
    assert len(keys) == 5
    assert key() in keys


def test_a_damaged_snapshot_is_dropped_and_made_anew(tmp_path: Path) -> None:
    kernel = kernels.get("debian:6.12")
    file = copy_of_the_board(tmp_path, "[guest]\n", "[guest]\n# for a damaged snapshot\n")
    name = VirtualBoard(boards.load(str(file)), kernel).key
    arguments = (*RUN, "--board", file, "--out", tmp_path)
    folder = cache.root() / "snapshots" / name
    if not folder.exists():
        status, output = finished(*arguments)
        assert status == 0, output
    # QEMU itself has to find out: size and times are as they should be.
    state = folder / "state"
    status_before = state.stat()
    state.write_bytes(os.urandom(status_before.st_size))
    os.utime(state, ns=(status_before.st_atime_ns, status_before.st_mtime_ns))
    assert snapshot.find(name) is not None
    status, output = finished(*arguments)
    assert status == 0, output
    assert BOOTING in output
    assert [r["verdict"] for r in Run(tmp_path).records] == ["ok"]
    status, output = finished(*arguments)
    assert status == 0, output
    assert BOOTING not in output
    said = json.loads((folder / "snapshot.json").read_text())["said"]
    assert Run(tmp_path).meta["uname"] == said["suite"]["uname"]
