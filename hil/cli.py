# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: `hil COMMAND`, each command a module of hil/commands."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from hil.commands import (
    bisect,
    cache,
    diff,
    doctor,
    export,
    faults,
    flaky,
    history,
    kernels,
    matrix,
    report,
    run,
    show,
)
from hil.commands.arguments import EXITS, Parser
from hil.errors import HilError

COMMANDS = (
    run,
    kernels,
    cache,
    doctor,
    show,
    matrix,
    history,
    diff,
    flaky,
    report,
    export,
    bisect,
    faults,
)
"""In the order in which the help text lists them."""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="hil",
        description="Tells whether Linux drivers pin user memory correctly.",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


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
