# SPDX-License-Identifier: GPL-2.0-or-later
"""Boards with device models: one in a guest, one that fails, and one with a mistake in it."""

from __future__ import annotations

from pathlib import Path

from tests.lab.driving import Run, copy_of_the_board, finished

MODELS = Path(__file__).with_name("models.py")
CELL = "v4l2-vivid-video0/pci-bar/capture/steady"


def board(folder: Path, more: str = "") -> Path:
    """virtual-x86 with a PCI device of our own in place of QEMU's."""
    old = 'devices = ["pci-testdev,membar=16M"]'
    silicon = f'[[machine.silicon]]\nmodel = "{MODELS}:MemoryCard"\n{more}\n[guest]\n'
    file = copy_of_the_board(folder, old, "devices = []")
    file.write_text(file.read_text().replace("[guest]\n", silicon, 1))
    return file


def test_a_guest_has_the_device_that_a_model_makes(tmp_path: Path) -> None:
    status, output = finished(
        "run", "--board", board(tmp_path), "--out", tmp_path, "-k", "video0/pci-bar/capture/steady"
    )
    assert status == 0, output
    run = Run(tmp_path)
    assert run.cells == [CELL]
    proof = run.records[0]["evidence"]["buffer"]["proof"]
    assert "0000:00:10.0" in str(proof)  # the model's slot
    assert run.meta["starts"][0]["how"] == "cold"
    assert (run.path / "silicon-memorycard.log").read_text() == ""


def test_a_model_that_fails_is_named(tmp_path: Path) -> None:
    file = board(tmp_path, 'options = { fails = "yes" }')
    status, output = finished("run", "--board", file, "--out", tmp_path, "-k", "video0/pci-bar")
    assert status == 3, output
    assert "the device model memorycard ended with 1: RuntimeError: the memory card" in output
    assert "Traceback" not in output
    assert "Traceback" in (Run(tmp_path).path / "silicon-memorycard.log").read_text()


def test_a_transport_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = board(tmp_path, 'transport = "vfio"')
    status, output = finished("run", "--board", file, "--out", tmp_path)
    assert status == 2
    assert "transport: found 'vfio'" in output
