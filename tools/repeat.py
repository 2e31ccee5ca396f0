# SPDX-License-Identifier: GPL-2.0-or-later
"""The same run again and again: does each cell come to the same verdict every time?

python tools/repeat.py [-n 10] [--out DIR] [--write] -- --kernel debian:6.12 -m 'hw and not slow'

What stands after -- is for `hil run`.  Exits with 1 when a cell came to different verdicts, and
names it; a flaky cell is a defect of the cell.  --write adds a line to docs/stability.md.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hil.runs.folder import RunFolder
from hil.runs.outcome import last_of_each

PAGE = Path(__file__).parents[1] / "docs" / "stability.md"


class Outcomes(NamedTuple):
    """What a number of runs came to."""

    cells: int
    runs: int
    verdicts: Counter[str]
    """Of all runs together."""
    flaky: dict[str, list[str]]
    """Cells with different verdicts, or missing in some run: what each run said."""


def compare(runs: Iterable[Iterable[Mapping[str, Any]]]) -> Outcomes:
    """Compare the records of several runs."""
    said: dict[str, list[str]] = defaultdict(list)
    verdicts: Counter[str] = Counter()
    count = 0
    for records in runs:
        for record in last_of_each(records):
            known = " (known)" if record.get("known") else ""
            cell, verdict = str(record["cell"]), f"{record['verdict']}{known}"
            said[cell] += ["missing"] * (count - len(said[cell])) + [verdict]
            verdicts[verdict] += 1
        count += 1
    for answers in said.values():
        answers.extend(["missing"] * (count - len(answers)))
    flaky = {cell: answers for cell, answers in said.items() if len(set(answers)) > 1}
    return Outcomes(len(said), count, verdicts, flaky)


def line(found: Outcomes, kernel: str, command: str, when: str) -> str:
    """A row of the page's table."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(found.verdicts.items()))
    differ = "none" if not found.flaky else ", ".join(f"`{cell}`" for cell in found.flaky)
    return (
        f"| {when} | {kernel} | `{command}` | {found.runs} | {found.cells} | {counts} | {differ} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", dest="runs", type=int, default=10, help="how many runs (default: 10)")
    parser.add_argument("--out", help="where the run folders go (default: a folder in /tmp)")
    parser.add_argument("--write", action="store_true", help="add a line to docs/stability.md")
    parser.add_argument("arguments", nargs="*", help="for `hil run`, after --")
    options = parser.parse_args()
    root = Path(options.out or tempfile.mkdtemp(prefix="hil-repeat-"))
    hil = Path(sys.executable).with_name("hil")
    kernel, records = "", []
    for number in range(1, options.runs + 1):
        began = time.monotonic()
        out = root / f"{number:02}"
        command = [str(hil), "run", "--out", str(out), *options.arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            print(done.stdout[-2000:] + done.stderr[-2000:], file=sys.stderr)
            return done.returncode
        folder = RunFolder.find("latest", out)
        records.append(folder.records())
        kernel = folder.read_meta()["kernel"]
        last = next((text for text in done.stdout.splitlines()[::-1] if " cells: " in text), "")
        print(f"{number:3} {time.monotonic() - began:6.1f} s  {last}", flush=True)
    found = compare(records)
    for cell, answers in found.flaky.items():
        print(f"{cell}: {', '.join(answers)}")
    print(f"{found.cells} cells, {found.runs} runs, {len(found.flaky)} differ; run folders: {root}")
    if options.write:
        told = line(
            found, kernel, shlex.join(["hil", "run", *options.arguments]), time.strftime("%F")
        )
        PAGE.write_text(f"{PAGE.read_text().rstrip()}\n{told}\n")
    return 1 if found.flaky else 0


if __name__ == "__main__":
    sys.exit(main())
