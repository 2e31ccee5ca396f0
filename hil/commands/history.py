# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil history`: one cell in every run that there was."""

from __future__ import annotations

import argparse

from hil.commands.arguments import Commands, out_and_json, print_json

_REBUILD = "rebuild"


def add(commands: Commands) -> None:
    """The parser of `hil history`."""
    history = commands.add_parser(
        "history",
        help="what a cell came to in every run, by kernel",
        description="Prints what one cell came to in each run, kernels in the order of their "
        "release. Asks an index beside the run folders, history.sqlite, which is brought up to "
        "date by itself; `hil history rebuild` makes it anew.",
        epilog="examples:\n  hil history v4l2-vivid-video0/thp-movable/capture/steady\n"
        "  hil history 'video0/ thp-movable steady'   all words are in its id, and in no other's\n"
        "  hil history rebuild",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    history.add_argument(
        "cell", metavar="CELL",
        help="a cell's id, or a part that only one has; or `rebuild`",
    )  # fmt: skip
    out_and_json(history)
    history.set_defaults(run=_history)


def _history(options: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.console import Console

    from hil.lab.progress import Line
    from hil.report.history import as_dict, print_history
    from hil.report.show import find_id
    from hil.runs.history import History
    from hil.runs.index import NAME

    root = Path(options.out)
    with Line() as line, History(root, line) as history:
        if options.cell == _REBUILD:
            history.index.rebuild()
            told = f"{len(history.runs())} runs, {len(history.cells())} cells"
        else:
            told = ""
            cell = find_id(history.cells(), options.cell, f"the runs in {root}/")
            found = history.of(cell)
    if told:
        print(f"{root / NAME}: {told}")
    elif options.json:
        print_json({"cell": cell, "runs": [as_dict(seen) for seen in found]})
    else:
        print_history(Console(), cell, found)
    return 0
