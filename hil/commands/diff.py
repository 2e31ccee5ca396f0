# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil diff`: what changed between two runs, or two kernels."""

from __future__ import annotations

import argparse

from hil.commands.arguments import Commands, out_and_json, print_json

_EPILOG = """\
A and B, each:
  RUN                   a run's name, the start of it, latest, or its folder's path
  6.12, debian:6.12     a kernel series: its newest complete run, on the same board as the other
  6.12.107              a release
  dir:PATH              a build tree

kinds of differences, in this order:
{kinds}

exit status: 0 no new bad cell; 1 a cell is bad and was not; 2 usage or missing parts

examples:
  hil diff 6.1 6.12
  hil diff 20261122 latest --every"""


def add(commands: Commands) -> None:
    """The parser of `hil diff`."""
    from hil.runs.diff import MEANING, Kind

    kinds = "\n".join(f"  {kind:22}{MEANING[kind]}" for kind in Kind if kind is not Kind.SAME)
    diff = commands.add_parser(
        "diff",
        help="what changed between two runs or two kernels",
        description="Compares two runs cell by cell: verdicts first, then errnos, then what the "
        "kernel shows of pins, movable memory and allocators. Times and addresses are left out.",
        epilog=_EPILOG.format(kinds=kinds),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    diff.add_argument("first", metavar="A", help="a run or a kernel")
    diff.add_argument("second", metavar="B", help="a run or a kernel")
    diff.add_argument(
        "--every", action="store_true", help="name every cell, not only the first ones of a kind"
    )
    out_and_json(diff)
    diff.set_defaults(run=_diff)


def _diff(options: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.console import Console

    from hil.lab.progress import Line
    from hil.report.diff import as_json, compare, print_diff
    from hil.runs.history import History

    with Line() as line, History(Path(options.out), line) as history:
        old, new = history.find_two(options.first, options.second)
        if old.cells + new.cells > 5000:
            line(f"comparing {old.name} and {new.name}")
        compared = compare(history, old, new)
    if options.json:
        print_json(as_json(compared))
    else:
        print_diff(Console(), compared, every=options.every)
    return compared.status
