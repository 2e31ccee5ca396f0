# SPDX-License-Identifier: GPL-2.0-or-later
"""Small run folders of several kernels, made up cell by cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hil.runs.folder import RunFolder

KNOWN = {"id": "not-migrated", "reference": "https://example.org/1", "because": "no FOLL_LONGTERM"}


def record(cell: str, verdict: str = "ok", **more: Any) -> dict[str, Any]:
    """A record of ``pinner/memory/direction/condition``; ``errno``, ``zone`` and others go to the
    evidence, ``known=True`` makes it a known defect."""
    pinner, memory, direction, condition = cell.split("/")
    errno, zone = more.pop("errno", None), more.pop("zone", "Normal")
    known, kernel = more.pop("known", False), more.pop("kernel", "6.12.1")
    live = 0 if errno else 4
    evidence: dict[str, Any] = {
        "stage": "done",
        "call": "VIDIOC_QBUF",
        "errno": errno,
        "buffer": {"pages": 4, "address": "0x1000"},
        "pins": {"during": {"live": live}, "after": {"live": 0}},
        "frames": {"during": {"zones": {f"0/{zone}": 4}}},
        "seconds": {"wall": 0.1},
        **more,
    }
    if verdict == "not-applicable":
        evidence = {"stage": "make", "call": "VIDIOC_QBUF", "setup": {"not_applicable": "no swap"}}
    return {
        "cell": cell, "pinner": pinner, "driver": "vivid", "memory": memory,
        "direction": direction, "condition": condition, "kernel": kernel,
        "expected": {"accept": errno is None, "errnos": [errno] if errno else []},
        "verdict": verdict, "reason": f"{memory} came to {verdict}",
        "known": KNOWN if known else None, "evidence": evidence, "seconds": 0.1,
    }  # fmt: skip


def run(
    root: Path,
    name: str,
    kernel: str,
    records: list[dict[str, Any]],
    meta: Mapping[str, Any] | None = None,
) -> RunFolder:
    """A complete run of those records; `meta` changes run.json."""
    folder = RunFolder(root / name)
    folder.path.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({**r, "kernel": kernel}, separators=(",", ":")) + "\n" for r in records]
    folder.journal.write_text("".join(lines), encoding="ascii")
    about = {
        "run": name, "board": "virtual-x86", "kernel": kernel, "kernel_spec": f"debian:{kernel}",
        "started": f"2026-11-{10 + len(list(root.iterdir())):02}T10:00:00Z", "cells": len(records),
        "status": "complete", **(meta or {}),
    }  # fmt: skip
    folder.write_meta(about)
    return folder


A, B, C, D = (f"v4l2-vivid-video0/{m}/capture/steady" for m in ("anonymous", "thp", "memfd", "ksm"))


def three(root: Path) -> list[RunFolder]:
    """Three kernels, not in the order in which they were released."""
    return [
        run(root, "r-610", "6.10", [record(A), record(B, "leak"), record(C, errno="EFAULT")]),
        run(root, "r-510", "5.10.200", [record(A, "stayed", known=True, zone="Movable"),
                                       record(B), record(C), record(D)]),
        run(root, "r-69", "6.9.3", [record(A), record(B), record(C, "not-applicable"), record(D)]),
    ]  # fmt: skip
