# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference outputs of the recorded runs in ``runs/``.

The tests compare what the reports say today with the files ``runs/NAME/reference-*``.  After a
wanted change ``python tests/unit/data/references.py`` writes them anew: read the difference
before keeping it.
"""

from __future__ import annotations

import io
import json
import runpy
from pathlib import Path

from rich.console import Console

from hil.report.junit import lines as junit_lines
from hil.report.matrix import print_matrix
from hil.report.show import show_cell, show_run
from hil.runs.folder import RunFolder

HERE = Path(__file__).parent
RUNS = HERE / "runs"


def terminal(width: int, encoding: str = "utf-8") -> Console:
    """A pipe of that width and encoding."""
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=raw, width=width, color_system=None, legacy_windows=False)


def said(console: Console) -> str:
    """What was printed, without blanks at the ends of lines."""
    file = console.file
    assert isinstance(file, io.TextIOWrapper)
    text = file.buffer.getvalue().decode(file.encoding)  # type: ignore[attr-defined]
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def outputs(folder: RunFolder) -> dict[str, str]:
    """Name of the reference file -> its text."""
    records, meta = folder.records(), folder.read_meta()
    wide, narrow, plain, cell = terminal(100), terminal(60), terminal(80, "ascii"), terminal(100)
    show_run(wide, folder)
    print_matrix(narrow, records, meta)
    print_matrix(plain, records, meta)
    show_cell(cell, folder, records[0]["cell"])
    junit = "".join(junit_lines(records, meta))
    return {
        "reference-run-100.txt": said(wide),
        "reference-matrix-60.txt": said(narrow),
        "reference-matrix-ascii.txt": said(plain),
        "reference-cell.txt": said(cell),
        "reference-junit.xml": junit,
        "reference-exit.json": json.dumps({"exit": folder.exit_code()}) + "\n",
    }


if __name__ == "__main__":
    fake = runpy.run_path(str(HERE / "fake_run.py"))
    for name, (records, meta) in fake["recorded"]().items():
        fake["write"](RUNS / name, records, meta)
        for file, text in outputs(RunFolder(RUNS / name)).items():
            (RUNS / name / file).write_text(text, encoding="utf-8")
