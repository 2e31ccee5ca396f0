# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil report`: one cell as a mail to the maintainers, with a program that shows it."""

from __future__ import annotations

import argparse
import sys

from hil.commands.arguments import Commands

_EPILOG = """\
examples:
  hil report video0/anonymous-movable/capture/steady
  hil report 'video0 memfd-secret' --kernel 6.12 --output mail.txt
  hil report video1/remapped-same-address/output/steady --reproducer again.c
"""


def add(commands: Commands) -> None:
    """The parser of `hil report`."""
    report = commands.add_parser(
        "report",
        help="one cell as a mail to the maintainers, with a C program that shows it",
        description="Looks a cell up in all runs: what was done, expected and seen, on which "
        "kernels, first bad and last good, a reproducer in C, and lines for regzbot.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument("cell", metavar="CELL", help="a cell's id, or a part that only one id has")
    which = report.add_mutually_exclusive_group()
    which.add_argument(
        "--run", metavar="RUN", dest="of_run",
        help="report what that run saw (default: the newest run in which the cell is bad)",
    )  # fmt: skip
    which.add_argument(
        "--kernel", metavar="RELEASE", default="",
        help="report what was seen on that kernel: 6.12, 6.12.107",
    )  # fmt: skip
    report.add_argument(
        "--output", metavar="FILE", help="write it there (default: standard output)"
    )
    report.add_argument("--reproducer", metavar="FILE.c", help="write the C program there as well")
    report.add_argument("--out", metavar="DIR", default="results", help="where run folders are")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from pathlib import Path

    from hil.errors import HilError
    from hil.lab.progress import Line
    from hil.report import mail
    from hil.report.output import write_whole
    from hil.report.reproducer import NoReproducerError, program
    from hil.report.sightings import chosen, sightings
    from hil.runs.folder import RunFolder

    root = Path(options.out)
    run = RunFolder.find(options.of_run, root) if options.of_run else None
    with Line() as line:
        found = sightings(root, options.cell, run, line)
    focus = chosen(found, run, options.kernel.removeprefix("debian:").removeprefix("v"))
    source, why = "", ""
    try:
        source = program(focus.record, focus.meta)
    except NoReproducerError as error:
        why = error.reason
    parts = list(mail.lines(found, focus, source, why))
    if options.output:
        write_whole(Path(options.output), parts)
    if options.reproducer:
        if not source:
            raise HilError(
                f"there is no reproducer of {focus.record['cell']}: {why}",
                "Without --reproducer the mail is made all the same, and says so.",
            )
        write_whole(Path(options.reproducer), [source])
    if not options.output:
        sys.stdout.writelines(parts)
    return 0
