# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil bisect`: find the release or commit with which a cell went bad, or was mended."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hil.commands.arguments import Commands, Parser, seconds
from hil.errors import HilError

_LATEST = "latest"
_MOST = 1000
_STOP = 128
_EXAMPLES = """\
examples:
  hil bisect releases --cell v4l2-vivid-video0/ext4-shared/capture/steady --good 6.1 --bad 6.12 \\
      --errno EFAULT
  hil bisect module --tree ~/linux --path drivers/media/common/videobuf2 --good v6.1 --bad HEAD \\
      --cell v4l2-vivid-video0/anonymous/capture/steady --kernel debian:6.1
  hil bisect tree --tree ~/linux --good v6.11 --bad v6.12 \\
      --cell v4l2-vivid-video0/thp-part/capture/steady
  hil bisect --resume                 # go on with the latest one

--good is where the cell is well.  When that is the newer end, the fix is looked for.  Your checkout
is not touched: git works in a worktree of its own.

exit status: 0 the commit was found; 2 usage, a wrong end, missing parts, or interrupted; 3 it could
not be completed, or the answer is not one commit"""
_STEP = """\
Called by `git bisect run`, in the worktree of a bisection that `hil bisect` has begun.

exit status: 0 good, 1 bad (the other way round where the fix is looked for); 125 it cannot be told:
the commit does not build or boot, the cell is not applicable, or another defect hides the one;
128 stop: the harness itself is broken"""


def add(commands: Commands) -> None:
    """The parsers of `hil bisect`."""
    bisect = commands.add_parser(
        "bisect",
        help="find the release or commit with which a cell went bad, or was mended",
        description="Runs one cell on releases or commits until the one is found that changed it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _resume(bisect)
    kinds = bisect.add_subparsers(dest="kind", metavar="KIND")
    bisect.set_defaults(run=_bare)
    releases = kinds.add_parser(
        "releases", help="over the archive's stock kernels: no build",
        description="Over the newest release of each series, then over the stable points of one.",
    )  # fmt: skip
    releases.add_argument(
        "--good",
        metavar="RELEASE",
        default="",
        help="6.12, or 6.12.107 (default: the oldest series)",
    )
    releases.add_argument("--bad", metavar="RELEASE", default="", help="default: the newest series")
    _common(releases)
    releases.set_defaults(run=_releases)
    module = kinds.add_parser(
        "module", help="over commits of a driver, built against a stock kernel's headers",
        description="Builds only the modules of --path and loads them in place of the stock ones.",
    )  # fmt: skip
    _tree(module)
    module.add_argument(
        "--path", metavar="DIR", action="append", default=[],
        help="the driver's folder in the tree; may be repeated: another driver's, or include/...",
    )  # fmt: skip
    module.add_argument(
        "--kernel",
        metavar="SPEC",
        default="debian:6.12",
        help="the kernel whose modules are replaced (default: debian:6.12)",
    )
    _common(module)
    module.set_defaults(run=_module)
    tree = kinds.add_parser(
        "tree", help="over commits of the whole kernel",
        description="Builds kernels with a small configuration made for the cell.",
    )  # fmt: skip
    _tree(tree)
    tree.add_argument(
        "--config", metavar="FRAGMENT", default="", help="options to set besides, as in a .config"
    )
    tree.add_argument(
        "--build", metavar="COMMAND", default="",
        help="builds in place of make: in the checkout, into $HIL_BUILD; a failure is skipped",
    )  # fmt: skip
    _common(tree)
    tree.set_defaults(run=_whole)
    step = kinds.add_parser(
        "step", help="test one commit: what `git bisect run` calls", description=_STEP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    step.set_defaults(run=_step)


def _resume(parser: Parser | argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume", metavar="BISECTION", nargs="?", const=_LATEST, default=argparse.SUPPRESS,
        help="go on with an unfinished one: a folder, a name below --out, or the latest",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", default="results", help="where its folder goes")


def _tree(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tree", metavar="GIT", default="", help="a git tree of the kernel's layout"
    )
    parser.add_argument("--good", metavar="COMMIT", default="", help="where the cell is well")
    parser.add_argument("--bad", metavar="COMMIT", default="", help="where it is not")


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cell", metavar="CELL", default="", help="the whole id of a cell")
    parser.add_argument(
        "--board", metavar="NAME", default="virtual-x86",
        help="a board of lab-config/boards, or a .toml file (default: virtual-x86)",
    )  # fmt: skip
    parser.add_argument(
        "--deploy", metavar="COMMAND", default="",
        help="for a board that is no virtual one: brings what was built to it, and has it come up "
        "(default: $HIL_DEPLOY)",
    )  # fmt: skip
    parser.add_argument(
        "--suite", metavar="COMMAND", default="",
        help="runs the cell on that board (default: $HIL_SUITE, else pytest on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--verdict", metavar="NAME", action="append", default=[],
        help="only this verdict is bad, other bad ones cannot be told; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--errno", metavar="NAME", default="",
        help="bad is what the call answers so, whatever the verdict: EFAULT, or 0 for accepted",
    )  # fmt: skip
    parser.add_argument(
        "--confidence", metavar="P", type=_probability, default=0.99,
        help="how sure the answer has to be (default: 0.99)",
    )  # fmt: skip
    parser.add_argument(
        "--measure", metavar="N", type=_many, default=80,
        help="runs at an end at most, to see how often the cell fails (default: 80)",
    )  # fmt: skip
    parser.add_argument(
        "--repeat", metavar="N", type=_many, default=0,
        help="runs on each commit (default: as many as the rate of failures asks for)",
    )  # fmt: skip
    parser.add_argument(
        "--cell-timeout",
        metavar="S",
        type=seconds,
        default=10.0,
        help="seconds until a cell counts as hanging (default: 10)",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=1, help="what the races' random numbers begin with"
    )
    parser.add_argument(
        "--qemu", choices=("host", "archive"), default="host", help="which QEMU (default: host)"
    )
    _resume(parser)


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 < value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number between 0.5 and 1")
    return value


def _many(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 1 to {_MOST}")
    return int(text)


def _need(options: argparse.Namespace, *names: str) -> None:
    lacking = [f"--{name}" for name in names if not getattr(options, name)]
    if lacking:
        raise HilError(
            f"hil bisect {options.kind} needs {', '.join(lacking)}",
            "See `hil bisect --help` for examples, or go on with one: hil bisect --resume",
        )


def _begin(options: argparse.Namespace, **more: object) -> int:
    from rich.console import Console

    from hil.bisect import begin
    from hil.bisect.sight import Wanted
    from hil.bisect.state import Task
    from hil.lab import board as boards

    Wanted.parse(options.verdict, options.errno)
    task = Task(
        kind=options.kind, cell=options.cell, good=options.good, bad=options.bad,
        repository=str(more.pop("tree", "")), board=boards.lasting(options.board),
        deploy=options.deploy, suite=options.suite, verdicts=tuple(options.verdict),
        errno=options.errno,
        confidence=options.confidence, repeat=options.repeat, measure=options.measure,
        cell_timeout=options.cell_timeout, seed=options.seed, qemu=options.qemu, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    start = begin.over_releases if options.kind == "releases" else begin.tree
    return start(task, Path(options.out), Console())


def _bare(options: argparse.Namespace) -> int:
    if "resume" not in options:
        raise HilError("hil bisect: what?", "releases, module, tree or --resume: hil bisect --help")
    from rich.console import Console

    from hil.bisect import begin

    return begin.resume(options.resume, Path(options.out), Console())


def _releases(options: argparse.Namespace) -> int:
    if "resume" in options:
        return _bare(options)
    _need(options, "cell")
    return _begin(options)


def _module(options: argparse.Namespace) -> int:
    if "resume" in options:
        return _bare(options)
    _need(options, "tree", "path", "good", "bad", "cell")
    return _begin(options, tree=options.tree, paths=tuple(options.path), kernel=options.kernel)


def _whole(options: argparse.Namespace) -> int:
    if "resume" in options:
        return _bare(options)
    _need(options, "tree", "good", "bad", "cell")
    return _begin(options, tree=options.tree, config=options.config, build=options.build)


def _step(options: argparse.Namespace) -> int:
    """Whatever goes wrong here must not look like an answer to git: 1 is "bad"."""
    try:
        from hil.bisect import drive, state
        from hil.bisect.git import Repository

        here = Repository(Path.cwd())
        pointer = here.git_file(state.POINTER)
        if not pointer.exists():
            raise HilError(
                "this is no worktree of a bisection", "Begin one: hil bisect module --help"
            )
        found = state.State.read(Path(pointer.read_text().strip()))
        head = "BISECT_HEAD" if here.asks("rev-parse", "-q", "--verify", "BISECT_HEAD") else "HEAD"
        status, line = drive.step(found, here.commit(head, "the commit"))
        print(line, flush=True)
    except HilError as error:
        print(f"hil: {error}", file=sys.stderr)
        return _STOP
    except KeyboardInterrupt:
        return _STOP
    except Exception:
        import traceback

        traceback.print_exc()
        print("hil: the harness itself failed", file=sys.stderr)
        return _STOP
    return status
