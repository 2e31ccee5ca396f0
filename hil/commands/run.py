# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil run`: the suite on a board."""

from __future__ import annotations

import argparse
import sys

from hil.commands.arguments import EXITS, SEVERAL, SPECS, Commands, count, seconds
from hil.errors import HilError

EXAMPLES = """\
examples:
  hil run -k 'hugetlb and capture'               some cells, on the newest 6.12
  hil run --kernel 5.10..7.3 --out /srv/hil      each series from 5.10 to 7.3
  hil run --kernel all -m hw                     every series, slow cells too
  hil run --kernel debian:6.12 --kernel dir:linux -k memfd"""


def add(commands: Commands) -> None:
    """The parser of `hil run`."""
    run = commands.add_parser(
        "run",
        help="run the suite on a board",
        description="Boots the board, runs the suite's cells on it and judges each of them.",
        epilog=f"{SPECS}\n{SEVERAL}\n\n{EXAMPLES}\n\n{EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "--board", metavar="NAME", default="virtual-x86",
        help="a board of lab-config/boards, or the path of a .toml file (default: virtual-x86)",
    )  # fmt: skip
    run.add_argument(
        "--kernel", metavar="SPEC", action="append", default=[],
        help="the kernel to boot (default: debian:6.12); may be repeated, and may be a range such "
        "as 5.10..7.3, or all: each kernel is a run of its own",
    )  # fmt: skip
    run.add_argument(
        "--module", metavar="FILE.ko", action="append", default=[],
        help="load this build in place of the stock module of its name; may be repeated",
    )  # fmt: skip
    run.add_argument(
        "-k", dest="keywords", metavar="EXPR", default="",
        help="only cells whose id matches, in pytest's words: -k 'hugetlb and capture'",
    )  # fmt: skip
    run.add_argument(
        "-m", dest="marks", metavar="EXPR", default=None,
        help="only cells so marked (default: 'hw and not slow'; -m hw runs the slow ones too)",
    )  # fmt: skip
    run.add_argument("--out", metavar="DIR", default="results", help="where run folders go")
    run.add_argument(
        "--resume", metavar="RUN", action="append", default=[],
        help="go on with an unfinished run; may be repeated",
    )  # fmt: skip
    run.add_argument(
        "--cell-timeout", metavar="S", type=seconds, default=10.0,
        help="seconds until a cell counts as hanging (default: 10)",
    )  # fmt: skip
    run.add_argument(
        "--seed", metavar="N", type=int, default=1,
        help="what the races' random numbers begin with; a cell's evidence names it (default: 1)",
    )  # fmt: skip
    run.add_argument(
        "--destructive", action="store_true",
        help="on this machine (--board local): conditions too that may harm it; a virtual board "
        "has them anyway",
    )  # fmt: skip
    run.add_argument(
        "--jobs", metavar="N", type=count, default=0,
        help="guests side by side (default: as many as cores and memory allow)",
    )  # fmt: skip
    run.add_argument(
        "--qemu", choices=("host", "archive"), default="host",
        help="this machine's QEMU, or a newer one that is fetched into the cache and not installed "
        "(default: host)",
    )  # fmt: skip
    run.add_argument(
        "--clients", action="store_true",
        help="run the board's test programs of others too, after the cells: their words are kept",
    )  # fmt: skip
    run.add_argument(
        "--cold", action="store_true", help="boot, and neither use nor make a snapshot"
    )
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.lab import runner

    if options.resume and (options.kernel or options.module or options.keywords or options.marks):
        raise HilError(
            "--resume goes on with the kernel, modules and cells that the run began with",
            "Leave out --kernel, --module, -k and -m, or start a new run without --resume.",
        )
    chosen = runner.Options(
        board=options.board, modules=tuple(options.module), keywords=options.keywords,
        marks="hw and not slow" if options.marks is None else options.marks, out=options.out,
        cell_timeout=options.cell_timeout, cold=options.cold, clients=options.clients,
        seed=options.seed, destructive=options.destructive, jobs=options.jobs, qemu=options.qemu,
    )  # fmt: skip
    return runner.run(
        chosen, ["hil", *sys.argv[1:]], Console(), kernels=options.kernel, resumed=options.resume
    )
