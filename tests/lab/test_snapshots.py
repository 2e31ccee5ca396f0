# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot that does not fit, is damaged or half made is not used: the guest boots."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hil.lab import board as boards
from hil.lab import cache, kernels, snapshot
from hil.lab.virtual import VirtualBoard
from tests.lab.driving import Hil, Run, copy_of_the_board, finished, misbehaving_board

BOOTING = "booting the guest, for a snapshot"


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


def test_neither_a_damaged_snapshot_is_used_nor_a_half_made_one(
    started: Callable[..., Hil], tmp_path: Path
) -> None:
    board = misbehaving_board(tmp_path)
    arguments = ("run", "--board", board, "--out", tmp_path, "-k", "video0/memfd/capture/steady")
    name = VirtualBoard(boards.load(str(board)), kernels.get("debian:6.12")).key
    folder = cache.root() / "snapshots" / name
    if not folder.exists():
        status, output = finished(*arguments)
        assert status == 0, output

    # Size and times stay as they should be: QEMU itself has to find out.
    state = folder / "state"
    before = state.stat()
    state.write_bytes(os.urandom(before.st_size))
    os.utime(state, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert snapshot.find(name) is not None
    hil = started(*arguments)
    half = folder.with_name(f".{name}.new.{hil.process.pid}")
    hil.until((half / "state").exists)
    assert hil.interrupt() == 2
    assert BOOTING in hil.output
    assert "Traceback" not in hil.output
    assert hil.guests
    assert hil.guests_gone()
    assert not half.exists()
    # A quick machine may have got it done before the interrupt: then it is whole.
    made = snapshot.find(name) is not None
    assert made == folder.exists()

    for booting in (not made, False):
        status, output = finished(*arguments)
        assert status == 0, output
        assert (BOOTING in output) == booting
        run = Run(tmp_path)
        assert [record["verdict"] for record in run.records] == ["ok"]
        assert [start["how"] for start in run.meta["starts"]] == ["snapshot"]
