# SPDX-License-Identifier: GPL-2.0-or-later
"""The webcam in Python, before the stock uvcvideo of a guest that comes from a snapshot."""

from __future__ import annotations

from pathlib import Path

from tests.lab.driving import Run, finished


def test_both_webcams_pin_what_they_must(tmp_path: Path) -> None:
    keywords = "not meta and (/anonymous/ or /memfd/ or /pci-bar/)"
    status, output = finished(
        "run", "--board", "virtual-webcam", "--out", tmp_path, "-k", keywords, "--jobs", "1"
    )
    assert status == 0, output
    run = Run(tmp_path)
    assert {(r["driver"], r["verdict"]) for r in run.records} == {("uvcvideo", "ok")}
    nodes = [node for node in run.meta["nodes"] if "meta" not in "".join(node["pinners"])]
    assert [(node["card"], node["allocator"]) for node in nodes] == [
        ("Self-proving webcam", "vmalloc")
    ] * 2
    assert len({r["pinner"] for r in run.records}) >= 2
