# SPDX-License-Identifier: GPL-2.0-or-later
"""The habanalabs board: the real driver on the Gaudi in Python, and what becomes of its faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.lab.board import BOARDS
from tests.lab.driving import Run, finished

PINNER = "habanalabs-accel0"
CLASSES = ("anonymous-unaligned", "thp", "anonymous-movable", "unmapped-middle", "zero-length")
STOCK = f"{PINNER}-stock/anonymous/capture/steady"


def test_the_driver_pins_and_the_card_moves_the_data(tmp_path: Path) -> None:
    words = " or ".join(f"accel0/{name}/" for name in CLASSES)
    status, output = finished(
        "run", "--board", "virtual-gaudi", "--out", tmp_path, "-k", f"stock or {words}"
    )
    assert status == 0, output
    assert "corrected copy of a stock module" in output
    run = Run(tmp_path)
    records = {record["cell"]: record for record in run.records}
    assert set(records) == {STOCK, *(
        f"{PINNER}/{name}/{direction}/steady"
        for name in CLASSES for direction in ("capture", "output")
    )}  # fmt: skip
    for cell, record in records.items():
        evidence = record["evidence"]
        assert evidence["pins"]["after"]["live"] == 0
        if cell == STOCK:
            assert (record["verdict"], evidence["errno"]) == ("wrongly-refused", "EINVAL")
            assert record["known"]["id"] == "habanalabs-node-cannot-be-opened"
            assert any("drm_open_helper" in line for line in evidence["log"])
            assert evidence["note"] is None
            continue
        assert record["verdict"] == "ok", record["reason"]
        assert "hl_fops.fop_flags" in evidence["note"]
        if record["memory"] != "zero-length":
            (call,) = evidence["pin_calls"]
            assert call["flags"] == ["FOLL_WRITE", "FOLL_LONGTERM"]
        if evidence["errno"] is None:
            assert evidence["data"]["corrupt_bytes"] == 0 < evidence["data"]["bytes"]
    assert len(run.meta["corrected_modules"]) == 1
    assert list(run.path.glob("silicon-gaudi.log"))


def with_fault(folder: Path, fault: str) -> Path:
    text = (BOARDS / "virtual-gaudi.toml").read_text()
    file = folder / "faulty.toml"
    options = f'model = "gaudi"\noptions = {{ fault = "{fault}" }}\n'
    file.write_text(text.replace('model = "gaudi"\n', options))
    return file


def test_a_card_that_never_answers_is_no_pinner(tmp_path: Path) -> None:
    status, output = finished(
        "run", "--board", with_fault(tmp_path, "no-answer"), "--out", tmp_path, "-k", "anonymous"
    )
    assert status == 3, output
    assert "gave the device up" in output


@pytest.mark.parametrize("fault", ["dropped-interrupt"])
def test_work_that_does_not_arrive_is_never_a_pass(tmp_path: Path, fault: str) -> None:
    status, output = finished(
        "run", "--board", with_fault(tmp_path, fault), "--out", tmp_path, "--cell-timeout", "30",
        "-k", "accel0/anonymous/capture",
    )  # fmt: skip
    assert status == 1, output
    (record,) = Run(tmp_path).records
    assert record["verdict"] in ("corrupt", "hang"), record["reason"]
    if record["verdict"] == "corrupt":
        assert "ETIMEDOUT" in record["reason"]


def test_a_goya_is_a_find(tmp_path: Path) -> None:
    """The driver's own probe fails: what it says of its page pool, and what the suite says."""
    file = tmp_path / "goya.toml"
    text = (BOARDS / "virtual-gaudi.toml").read_text()
    file.write_text(text.replace('model = "gaudi"', 'model = "goya"'))
    status, output = finished("run", "--board", file, "--qemu", "archive", "--out", tmp_path)
    assert status == 3, output
    assert "no driver has taken it" in output
    console = (Run(tmp_path).path / "console.log").read_text()
    assert "Failed to add memory to page gen pool" in console
    assert "Failed to initialize MMU S/W structures" in console
