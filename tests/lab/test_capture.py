# SPDX-License-Identifier: GPL-2.0-or-later
"""The frame grabber in Python before the stock tw68: videobuf2's dma-sg, and bytes by DMA."""

from __future__ import annotations

from pathlib import Path

from tests.lab.driving import Run, finished


def test_the_card_writes_the_pinned_pages(tmp_path: Path) -> None:
    keywords = (
        "tw68 and steady and (/anonymous/ or /memfd/ or /hugetlb-2m-private/ or /unmapped-first/)"
    )
    arguments = ("--board", "virtual-capture", "--out", tmp_path, "-k", keywords)
    status, output = finished("run", *arguments)
    assert status == 0, output
    run = Run(tmp_path)
    records = {r["memory"]: r for r in run.records if r["driver"] == "tw68"}
    assert {r["verdict"] for r in records.values()} == {"ok"}
    assert records["unmapped-first"]["evidence"]["errno"] == "ENOMEM"
    for memory in ("anonymous", "memfd", "hugetlb-2m-private"):
        data = records[memory]["evidence"]["data"]
        assert data["how"].startswith("the Python capture card, frame")
        assert data["corrupt_bytes"] == 0
        assert data["bytes"] >= 230400
    card = next(node for node in run.meta["nodes"] if node["driver"] == "tw68")
    assert card["allocator"] == "dma-sg"
    assert (run.path / "silicon-tw68.log").exists()
