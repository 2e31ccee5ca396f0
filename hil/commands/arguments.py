# SPDX-License-Identifier: GPL-2.0-or-later
"""What several commands share: the parser that ends usage errors with 2, and kinds of values."""

from __future__ import annotations

import argparse
import json
import sys
from typing import NoReturn, TypeAlias

EXITS = """\
exit status: 0 every verdict as it must be or known; 1 a bad verdict; 2 usage, configuration or
missing parts, or interrupted; 3 the run could not be completed"""
SPECS = """\
kernels (SPEC):
  debian:6.12           the newest release of that series in any suite of the mirror
  debian:6.12.107       that release; Debian's full name works too
  deb:FILE[,FILE]       kernel packages on this disk
  dir:PATH              a kernel build tree, or an unpacked package"""
SEVERAL = """\
  5.10..7.3             every series of the archive in this range; either end may be left out
  all                   every series of the archive"""


class Parser(argparse.ArgumentParser):
    """Ends a usage error with status 2 and the way to the help text."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"hil: {message}\n  See `{self.prog} --help`.\n")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def seconds(text: str) -> float:
    """From a tenth of a second to a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected seconds from 0.1 to 86400")
    return value


def count(text: str) -> int:
    """A small number, from 1 on."""
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 1 to 64")
    return int(text)


def out_and_json(parser: argparse.ArgumentParser) -> None:
    """The options of what reads runs: where they are, and in which form to tell of them."""
    parser.add_argument("--out", metavar="DIR", default="results", help="where run folders are")
    parser.add_argument("--json", action="store_true", help="as JSON, for machines")


def print_json(value: object) -> None:
    """On standard output, ASCII: what a kernel said may hold anything."""
    print(json.dumps(value, indent=1, default=str))
