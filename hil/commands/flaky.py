# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil flaky`: cells that do not come to the same each time."""

from __future__ import annotations

import argparse

from hil.commands.arguments import Commands, out_and_json, print_json


def add(commands: Commands) -> None:
    """The parser of `hil flaky`."""
    flaky = commands.add_parser(
        "flaky",
        help="cells whose verdict differs between runs of one kernel on one board",
        description="Lists cells whose verdict differs between runs of the same kernel, board and "
        "modules, with how many runs came to which. The suite or its rules may have changed "
        "between them: `hil history CELL` names the runs.",
    )
    out_and_json(flaky)
    flaky.set_defaults(run=_flaky)


def _flaky(options: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.console import Console

    from hil.lab.progress import Line
    from hil.report.history import print_flaky
    from hil.runs.history import History

    with Line() as line, History(Path(options.out), line) as history:
        found = history.flaky()
    if options.json:
        print_json([one._asdict() for one in found])
    else:
        print_flaky(Console(), found)
    return 0
