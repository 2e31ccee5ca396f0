# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: `hil run`, `hil kernels`, `hil doctor`, `hil show`."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from hil.errors import HilError

_EXITS = """\
exit status: 0 every verdict as it must be or known; 1 a bad verdict; 2 usage, configuration or
missing parts, or interrupted; 3 the run could not be completed"""
_SPECS = """\
kernels (SPEC):
  debian:6.12           the newest release of that series in any suite of the mirror
  debian:6.12.107       that release; Debian's full name works too
  deb:FILE[,FILE]       kernel packages on this disk
  dir:PATH              a kernel build tree, or an unpacked package"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"hil: {message}\n  See `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="hil",
        description="Tells whether Linux drivers pin user memory correctly.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_kernels(commands)
    doctor = commands.add_parser(
        "doctor",
        help="what this machine can do, and the remedy for what it lacks",
        description="Checks QEMU, KVM, tools, disk, memory, devices and huge pages.",
    )
    doctor.set_defaults(run=_doctor)
    show = commands.add_parser(
        "show",
        help="print the matrix of a run again, or one cell's whole evidence",
        description="Prints a finished or unfinished run from its journal.",
    )
    show.add_argument("folder", metavar="RUN", help="a run's name, the start of it, or latest")
    show.add_argument("cell", metavar="CELL", nargs="?", help="a cell's id, or a unique part of it")
    show.add_argument("--out", metavar="DIR", default="results", help="where run folders are")
    show.set_defaults(run=_show)
    return top


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser(
        "run",
        help="run the suite on a board",
        description="Boots the board, runs the suite's cells on it and judges each of them.",
        epilog=f"{_SPECS}\n\n{_EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "--board", metavar="NAME", default="virtual-x86",
        help="a board of lab-config/boards, or the path of a .toml file (default: virtual-x86)",
    )  # fmt: skip
    run.add_argument(
        "--kernel", metavar="SPEC", action="append", default=[],
        help="the kernel to boot (default: debian:6.12); may be repeated, each is a run of its own",
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
    run.add_argument("--resume", metavar="RUN", default="", help="go on with an unfinished run")
    run.add_argument(
        "--cell-timeout", metavar="S", type=_seconds, default=10.0,
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
        "--jobs", metavar="N", type=_count, default=0,
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


def _add_kernels(commands: argparse._SubParsersAction[_Parser]) -> None:
    kernels = commands.add_parser(
        "kernels",
        help="list and fetch stock kernels",
        epilog=_SPECS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = kernels.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="series and releases to be had, sizes, what is cached"
    )
    listing.add_argument("--all", action="store_true", help="every release, not only the newest")
    listing.add_argument("--refresh", action="store_true", help="fetch the package lists anew")
    listing.set_defaults(run=_kernels_list)
    get = actions.add_parser("get", help="fetch and unpack a kernel")
    get.add_argument("spec", metavar="SPEC")
    get.set_defaults(run=_kernels_get)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected seconds from 0.1 to 86400")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 1 to 64")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.lab import runner

    if options.resume and (options.kernel or options.module or options.keywords or options.marks):
        raise HilError(
            "--resume goes on with the kernel, modules and cells that the run began with",
            "Leave out --kernel, --module, -k and -m, or start a new run without --resume.",
        )
    console = Console()
    worst = 0
    asked = bool(options.kernel)
    marks = "hw and not slow" if options.marks is None else options.marks
    for kernel in options.kernel or [runner.DEFAULT_KERNEL]:
        chosen = runner.Options(
            board=options.board, kernel=kernel, modules=tuple(options.module),
            keywords=options.keywords, marks=marks, out=options.out,
            resume=options.resume, cell_timeout=options.cell_timeout, cold=options.cold,
            clients=options.clients,
            seed=options.seed, destructive=options.destructive, jobs=options.jobs,
            qemu=options.qemu,
        )  # fmt: skip
        try:
            status = runner.run(chosen, ["hil", *sys.argv[1:]], console, own_kernel=asked)
        except HilError as error:
            if len(options.kernel) < 2:
                raise
            print(f"hil: {kernel}: {error}", file=sys.stderr)  # the other kernels still get theirs
            status = error.status
        worst = max(worst, status)
    return worst


def _kernels_list(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.lab import kernels

    return kernels.print_list(Console(), every=options.all, refresh=options.refresh)


def _kernels_get(options: argparse.Namespace) -> int:
    from hil.lab import kernels
    from hil.lab.progress import Line

    with Line() as line:
        kernel = kernels.get(options.spec, say=line)
    print(f"{kernel.release}: {kernel.vmlinuz}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.lab import doctor

    return doctor.report(Console())


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


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; errors that a person can mend end with status 2 and no traceback."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _interrupt)
    try:
        options = parser().parse_args(argv)
        status: int = options.run(options)
    except HilError as error:
        print(f"hil: {error}", file=sys.stderr)
        return error.status
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("hil", "fixtures"):
            raise
        print(
            f"hil: the Python package {error.name} is missing\n"
            "  Run `make setup`, or install the lab's packages: pip install -e '.[lab]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"hil: {where}{error.strerror}\n  Make room and try again.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        with suppress(OSError):
            print("hil: interrupted", file=sys.stderr)
        return 2
    return status


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
