# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil faults`: seeded faults in real drivers, and whether the suite catches each by its name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hil.commands.arguments import Commands, count, print_json, seconds

if TYPE_CHECKING:
    from hil.faults.catalogue import Fault

_EPILOG = """\
examples:
  hil faults                                 all of them, in some minutes
  hil faults 'leak-*' --kernel debian:7.3    some, on another kernel
  hil faults --list                          what there is

Each fault is one file in tests/faults: lines of the distribution's own source and what they become.
The module is built against the kernel's headers and put in place of the stock one; then the cells
run in which the fault may show.  The same modules, built with nothing changed, run first, and must
be clean.  See docs/bug-finding.md.

exit status: 0 every fault was caught by a verdict that names it, and the unchanged builds are
clean; 1 not so; 2 usage, missing parts, or interrupted; 3 some could not be built or run"""


def add(commands: Commands) -> None:
    """The parser of `hil faults`."""
    faults = commands.add_parser(
        "faults",
        help="plant faults in the drivers and see that the suite catches each by its name",
        description="Builds drivers with one mistake each and runs the suite on them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    faults.add_argument("names", metavar="NAME", nargs="*",
                        help="faults, or shell patterns for them (default: all)")  # fmt: skip
    faults.add_argument("--list", action="store_true", help="only list them")
    faults.add_argument("--board", metavar="NAME", action="append", default=[],
                        help="only faults of this board; may be repeated")  # fmt: skip
    faults.add_argument("--kernel", metavar="SPEC", default="debian:6.12",
                        help="whose modules are built (default: debian:6.12)")  # fmt: skip
    faults.add_argument("--everything", action="store_true",
                        help="run all cells of a short run, not only those where the fault may "
                        "show")  # fmt: skip
    faults.add_argument("--no-control", dest="control", action="store_false",
                        help="do without the unchanged builds")  # fmt: skip
    faults.add_argument("--cell-timeout", metavar="S", type=seconds, default=10.0,
                        help="seconds until a cell counts as hanging (default: 10)")  # fmt: skip
    faults.add_argument("--jobs", metavar="N", type=count, default=0,
                        help="guests side by side (default: as many as cores and memory "
                        "allow)")  # fmt: skip
    faults.add_argument("--out", metavar="DIR", default="results/faults",
                        help="where the runs' folders go (default: results/faults)")  # fmt: skip
    faults.add_argument("--write", action="store_true",
                        help="write the table into docs/bug-finding.md")  # fmt: skip
    faults.add_argument("--json", action="store_true", help="the results as JSON, for machines")
    faults.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.faults import campaign, catalogue, table

    chosen = catalogue.chosen(options.names, options.board)
    if options.list:
        _list(options, chosen)
        return 0
    console = Console(stderr=options.json)
    wish = campaign.Wish(
        kernel=options.kernel, out=options.out, everything=options.everything,
        control=options.control, cell_timeout=options.cell_timeout, jobs=options.jobs,
    )  # fmt: skip
    results = campaign.run(
        chosen, wish, ["hil", *sys.argv[1:]], console,
        lambda result: console.print(table.line(result), highlight=False, soft_wrap=True,
                                     markup=False),
    )  # fmt: skip
    if options.json:
        print_json([result.told() for result in results])
    else:
        table.show(console, results)
    if options.write:
        table.write(results, chosen, options.kernel.removeprefix("debian:"))
    return campaign.exit_code(results)


def _list(options: argparse.Namespace, faults: Sequence[Fault]) -> None:
    from rich.console import Console
    from rich.table import Table

    if options.json:
        print_json([{"name": f.name, "board": f.board, "module": f.module, "summary": f.summary,
                     "verdicts": list(f.verdicts)} for f in faults])  # fmt: skip
        return
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("fault", "board", "module", "what is changed", "must come to"):
        rows.add_column(name, overflow="fold")
    for fault in faults:
        rows.add_row(fault.name, fault.board, fault.module, fault.summary,
                     " or ".join(fault.verdicts))  # fmt: skip
    Console().print(rows)
