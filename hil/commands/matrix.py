# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil matrix`: kernels side by side."""

from __future__ import annotations

import argparse

from hil.commands.arguments import Commands

_EPILOG = """\
each RUN:
  a run's name, the start of it, latest, or its folder's path
  6.12, debian:6.12     a kernel series: its newest complete run
  6.12.107              a release

without any: of each kernel series the newest complete run that chose its cells (-k, -m) as the
newest of all did

examples:
  hil matrix
  hil matrix --html kernels.html
  hil matrix 5.10 6.1 6.12 --html kernels.html"""


def add(commands: Commands) -> None:
    """The parser of `hil matrix`."""
    matrix = commands.add_parser(
        "matrix",
        help="runs of several kernels side by side, on the terminal or as one HTML file",
        description="Prints totals by kernel and the cells that differ between neighbours; --html "
        "writes all cells with their evidence into one file that works from disk.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    matrix.add_argument("runs", metavar="RUN", nargs="*", help="a run or a kernel")
    matrix.add_argument("--html", metavar="FILE", default="", help="write the page there")
    matrix.add_argument("--board", metavar="NAME", default="", help="only runs on that board")
    matrix.add_argument("--out", metavar="DIR", default="results", help="where run folders are")
    matrix.set_defaults(run=_matrix)


def _matrix(options: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.console import Console

    from hil.errors import HilError
    from hil.lab.progress import Line
    from hil.report.across import print_across, write_across
    from hil.runs.folder import RunFolder
    from hil.runs.history import History

    with Line() as line, History(Path(options.out), line) as history:
        runs = [history.find(text, options.board) for text in options.runs]
        if not options.runs:
            runs = history.series(options.board)
        if not runs:
            where = f" on {options.board}" if options.board else ""
            raise HilError(
                f"no complete run{where} in {options.out}/", "Make one: hil run; or name a run."
            )
        folders = [RunFolder(run.path) for run in runs]
        if options.html:
            line(f"writing {options.html}")
            write_across(folders, Path(options.html))
    print_across(Console(), folders)
    if options.html:
        print(f"{options.html}: {len(folders)} runs side by side")
    return 0
