# SPDX-License-Identifier: GPL-2.0-or-later
"""The webcam in Python, before the stock uvcvideo of a guest that comes from a snapshot."""

from __future__ import annotations

from pathlib import Path

from tests.lab.driving import Run, finished


def test_both_webcams_pin_what_they_must(tmp_path: Path) -> None:
    keywords = "steady and ((not meta and (/anonymous/ or /pci-bar/)) or (mjpg and /memfd/))"
    status, output = finished(
        "run", "--board", "virtual-webcam", "--out", tmp_path, "-k", keywords, "-m", "hw",
        "--jobs", "1",
    )  # fmt: skip
    assert status == 0, output
    run = Run(tmp_path)
    records = [r for r in run.records if r["driver"] == "uvcvideo"]
    assert {r["verdict"] for r in records} == {"ok"}
    nodes = [node for node in run.meta["nodes"] if node["driver"] == "uvcvideo"]
    video = [node for node in nodes if "meta" not in "".join(node["pinners"])]
    assert [(node["card"], node["allocator"]) for node in video] == [
        ("Self-proving webcam", "vmalloc")
    ] * 2
    frames = [r["evidence"]["data"] for r in records if r["memory"] != "pci-bar"]
    assert all(frame["how"].startswith("the Python webcam, frame") for frame in frames)
    assert {frame["how"].split(", ")[2] for frame in frames} > {"MJPG 320x240", "YUYV 320x240"}
