# SPDX-License-Identifier: GPL-2.0-or-later
"""The C programs of `hil report`, built as the mail says: on the kernel of the run they show what
the suite saw there, good and bad."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hil.runs.folder import RunFolder
from hil.verdicts import Verdict
from tests.lab.driving import finished
from tests.lab.inside import run_inside

HERE = Path(__file__).parent
CELLS = (
    "anonymous/capture/steady",
    "anonymous-movable/capture/steady",
    "hugetlb-2m-private/capture/munmap",
    "thp/capture/dontneed",
    "unmapped-middle/capture/steady",
    "remapped-same-address/capture/steady",
)
# What the two kernels must have between them, or this test shows little: 5.10 leaves movable pages
# where they are, and both keep the pages of a pointer that was mapped anew.
BAD = {
    "debian:5.10": {Verdict.STAYED, Verdict.STALE},
    "debian:6.12": {Verdict.STALE},
}


def built(records: list[dict[str, Any]], out: Path, folder: Path) -> dict[str, bytes]:
    """Each record's program, as `hil report --reproducer` writes it, statically linked."""
    files = {}
    for number, record in enumerate(records):
        source, binary = folder / f"{number}.c", folder / str(number)
        told = ("--output", folder / "mail.txt", "--reproducer", source, "--out", out)
        status, output = finished("report", record["cell"], *told)
        assert status == 0, output
        command = ["gcc", "-Wall", "-Werror", "-static", "-o", binary, source]
        subprocess.run(command, check=True)
        files[f"programs/{number}"] = binary.read_bytes()
    return files


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc and libc6-dev")
@pytest.mark.parametrize("kernel", BAD)
def test_they_show_what_was_seen(kernel: str, tmp_path: Path) -> None:
    out = tmp_path / "results"
    cells = " or ".join(f"v4l2-vivid-video0/{cell}" for cell in CELLS)
    finished("run", "--kernel", kernel, "-m", "hw", "-k", cells, "--out", out)
    records = RunFolder(out / "latest").records()
    assert len(records) == len(CELLS)
    verdicts = {record["verdict"] for record in records}
    assert verdicts == BAD[kernel] | {Verdict.OK}
    files = built(records, out, tmp_path)
    (tmp_path / "guest").mkdir()
    found = run_inside(HERE / "reproducers.py", kernel, tmp_path / "guest", files=files)
    for number, record in enumerate(records):
        shown = found[str(number)]
        wanted = 0 if record["verdict"] == Verdict.OK else 1
        assert shown["status"] == wanted, f"{record['cell']}: {record['reason']}\n{shown['words']}"
