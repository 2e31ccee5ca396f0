# SPDX-License-Identifier: GPL-2.0-or-later
"""What 100,000 cells cost those who report them: pages, exports, the index, and a browser.

    .venv/bin/python bench/reports.py --like results/RUN --write

The cells are records of a real run (``--like``), again and again under other pinners' names and
with other frame numbers, since a page packs well what repeats itself; without it they are made up.
Each report is made by a process of its own: seconds, and megabytes at the most (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.page import replaced, table  # noqa: E402
from hil.runs.folder import RunFolder  # noqa: E402

DOCUMENT = ROOT / "docs" / "performance.md"
KERNELS = ("5.10.262", "6.1.192", "6.12.118", "6.16.12", "6.17.13", "6.18.21", "6.19.9", "7.0.6",
           "7.1.3", "7.2.5")  # fmt: skip
LIMIT = 20.0
"""Seconds that a report of 100,000 cells may take."""
_FRAME = re.compile(rb'"frame":\d+')


def lines_like(folder: Path | None) -> list[bytes]:
    """The records that are repeated."""
    if folder is not None:
        return (folder / "journal.jsonl").read_bytes().splitlines()
    fake = runpy.run_path(str(ROOT / "tests" / "unit" / "data" / "fake_run.py"))
    return [json.dumps(record, separators=(",", ":")).encode() for record in fake["records"](680)]


def make_run(place: Path, like: list[bytes], cells: int, kernel: str) -> None:
    """A run of so many cells on a kernel."""
    place.mkdir(parents=True)
    rng = random.Random(f"{kernel} {cells}")
    with (place / "journal.jsonl").open("wb") as journal:
        for number in range(cells):
            lap, at = divmod(number, len(like))
            frame = b'"frame":%d' % rng.randrange(1 << 20)
            line = _FRAME.sub(frame, like[at])
            pinner = json.loads(line)["pinner"].encode()
            for key in (b'{"cell":"', b'"pinner":"'):
                line = line.replace(key + pinner, b"%s%s-%d" % (key, pinner, lap), 1)
            journal.write(line + b"\n")
    RunFolder(place).write_meta(
        {
            "run": place.name, "board": "synthetic", "kernel": kernel, "cells": cells,
            "kernel_spec": f"debian:{kernel}", "started": "2026-11-25T10:00:00Z",
            "finished": "2026-11-25T11:00:00Z", "status": "complete",
        }
    )  # fmt: skip


def _exported(kind: str) -> Callable[[Path, Path], None]:
    def export(one: Path, many: Path) -> None:
        from hil.cli import main

        words = ["export", str(one / "run"), "--format", kind, "--output", str(one / f"run.{kind}")]
        if main(words):
            raise RuntimeError(f"hil {' '.join(words)} failed")

    return export


def _page_of_one(one: Path, many: Path) -> None:
    from hil.report import html

    html.write(RunFolder(one / "run"))


def _page_across(one: Path, many: Path) -> None:
    from hil.report.across import write_across

    write_across([RunFolder(many / kernel) for kernel in KERNELS], many / "across.html")


def _index(one: Path, many: Path) -> None:
    from hil.runs.history import History

    with History(many) as history:
        history.index.rebuild()


def _diff(one: Path, many: Path) -> None:
    from hil.report.diff import compare
    from hil.runs.history import History

    with History(many) as history:
        compare(history, *history.find_two(KERNELS[0], KERNELS[1]))


def _matrix(one: Path, many: Path) -> None:
    from rich.console import Console

    from hil.report.matrix import print_matrix
    from hil.runs.brief import briefs
    from hil.runs.stream import Cells

    folder = RunFolder(one / "run")
    with Path(os.devnull).open("w") as nowhere:
        print_matrix(Console(file=nowhere), briefs(Cells(folder.journal)), folder.read_meta())


JOBS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "html": ("report.html of one run", _page_of_one),
    "across": ("hil matrix --html, {kernels} kernels of {each} cells", _page_across),
    "matrix": ("the matrix on the terminal", _matrix),
    **{
        kind: (f"hil export --format {kind}", _exported(kind))
        for kind in ("junit", "ktap", "kcidb", "csv", "markdown")
    },
    "index": ("hil history rebuild, {kernels} runs of {each} cells", _index),
    "diff": ("hil diff, two runs of {each} cells", _diff),
}


def measure(job: str, one: Path, many: Path) -> tuple[float, float, float]:
    """Seconds, seconds of processor time and megabytes of one job, in a process of its own."""
    command = [sys.executable, __file__, "--job", job, str(one), str(many)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, processor, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, processor, megabytes


def do(job: str, one: Path, many: Path) -> None:
    """The work of that process."""
    began = time.monotonic()
    JOBS[job][1](one, many)
    seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))


_SCROLL = """
const done = arguments[1], box = document.getElementById("scroll"), times = [];
const step = arguments[0] || (box.scrollHeight - box.clientHeight) / 120;
let last = performance.now(), count = 0;
box.scrollTop = 0;
const turn = (now) => {
  times.push(now - last);
  last = now;
  if (++count > 121) return done(times.slice(2));
  box.scrollTop += step;
  requestAnimationFrame(turn);
};
requestAnimationFrame(turn);
"""


def in_browser(page: Path) -> Iterator[tuple[str, str, float]]:
    """(what, unit, value) of a page in headless Chromium, which draws without a graphics card."""
    tool: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "page_picture.py"))
    with tool["browser"](1400, 900) as driver:
        driver.set_script_timeout(120)
        began = time.monotonic()
        driver.get(page.as_uri())
        yield "until it is loaded", "s", time.monotonic() - began
        # A wheel moves some 100 pixels a turn, the scroll bar any distance.
        for what, step in (("by a wheel's turns", 100), ("by its bar, end to end", 0)):
            frames = driver.execute_async_script(_SCROLL, step)
            yield f"a frame while scrolling {what}, median of 120", "ms", statistics.median(frames)
            yield f"a frame while scrolling {what}, slowest", "ms", max(frames)
        began = time.monotonic()
        driver.execute_script("document.querySelector('#rows button').click()")
        tool["evidence"](driver)
        yield "from a click to the evidence", "s", time.monotonic() - began
        began = time.monotonic()
        driver.find_element("id", "changing").click()
        yield "a filter over all rows", "s", time.monotonic() - began


def figures(cells: int, like: Path | None, place: Path) -> Iterator[list[str]]:
    """Rows of the table."""
    each = cells // len(KERNELS)
    records = lines_like(like)
    one, many = place / "one", place / "many"
    say(f"making {cells} cells twice")
    make_run(one / "run", records, cells, "6.12.118")
    for kernel in KERNELS:
        make_run(many / kernel, records, each, kernel)
    size = (one / "run" / "journal.jsonl").stat().st_size
    yield ["the journal", f"{size / 1e6:.0f} MB", "", "", ""]
    for job, (title, _) in JOBS.items():
        name = title.format(kernels=len(KERNELS), each=each)
        say(name)
        seconds, processor, megabytes = measure(job, one, many)
        met = "met" if seconds <= LIMIT else "**not met**"
        used = (f"{seconds:.1f} s", f"{processor:.1f} s", f"{megabytes:.0f} MB")
        yield [name, *used, f"<= {LIMIT:g} s: {met}"]
    page = many / "across.html"
    yield ["that page", f"{page.stat().st_size / 1e6:.0f} MB", "", "", ""]
    say("the page in a browser")
    for what, unit, value in in_browser(page):
        yield [f"that page: {what}", f"{value:.{1 if unit == 's' else 0}f} {unit}", "", "", ""]


def say(text: str) -> None:
    print(f"load {os.getloadavg()[0]:.1f}  {text}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", metavar="N", type=int, default=100_000, help="how many")
    parser.add_argument("--like", metavar="RUN", type=Path, help="the folder of a real run")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name} anew")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job, one, many = options.job
        do(job, Path(one), Path(many))
        return 0
    before = os.getloadavg()[2]
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        rows = list(figures(options.cells, options.like, Path(place)))
    about = (
        f"{options.cells} cells; {len(os.sched_getaffinity(0))} cores with a load of {before:.1f} "
        f"before; Python {platform.python_version()}; {time.strftime('%Y-%m-%d', time.gmtime())}"
    )
    text = f"{about}:\n\n" + table(rows, ("", "it takes", "of a processor", "memory", "target"))
    print(text)
    if options.write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), text, "bench/reports.py"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
