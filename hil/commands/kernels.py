# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil kernels`: what is to be had, and fetching it."""

from __future__ import annotations

import argparse

from hil.commands.arguments import SPECS, Commands


def add(commands: Commands) -> None:
    """The parser of `hil kernels`."""
    kernels = commands.add_parser(
        "kernels",
        help="list and fetch stock kernels",
        epilog=SPECS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = kernels.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="series and releases to be had, sizes, what is cached"
    )
    listing.add_argument("--all", action="store_true", help="every release, not only the newest")
    listing.add_argument("--refresh", action="store_true", help="fetch the package lists anew")
    listing.set_defaults(run=_list)
    get = actions.add_parser("get", help="fetch and unpack a kernel")
    get.add_argument("spec", metavar="SPEC")
    get.set_defaults(run=_get)


def _list(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.lab import kernels

    return kernels.print_list(Console(), every=options.all, refresh=options.refresh)


def _get(options: argparse.Namespace) -> int:
    from hil.lab import kernels
    from hil.lab.progress import Line

    with Line() as line:
        kernel = kernels.get(options.spec, say=line)
    print(f"{kernel.release}: {kernel.vmlinuz}")
    return 0
