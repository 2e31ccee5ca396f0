# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil show`: a run again, or one cell of it."""

from __future__ import annotations

import argparse

from hil.commands.arguments import Commands


def add(commands: Commands) -> None:
    """The parser of `hil show`."""
    show = commands.add_parser(
        "show",
        help="print the matrix of a run again, or one cell's whole evidence",
        description="Prints a finished or unfinished run from its journal.",
    )
    show.add_argument("folder", metavar="RUN", help="a run's name, the start of it, or latest")
    show.add_argument("cell", metavar="CELL", nargs="?", help="a cell's id, or a unique part of it")
    show.add_argument("--out", metavar="DIR", default="results", help="where run folders are")
    show.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.console import Console

    from hil.report import show
    from hil.runs.folder import RunFolder

    folder = RunFolder.find(options.folder, Path(options.out))
    console = Console()
    if options.cell:
        show.show_cell(console, folder, options.cell)
    else:
        show.show_run(console, folder)
    return 0
