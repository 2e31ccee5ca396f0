# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil cache`: what is kept on disk between runs, and removing it."""

from __future__ import annotations

import argparse
import re

from hil.commands.arguments import Commands

_EXAMPLES = """\
examples:
  hil cache                             what is there, how large and how old
  hil cache prune                       snapshots beyond their limit
  hil cache prune --older-than 14d      all that no run used for two weeks
  hil cache prune --limit 20G           the oldest, until the rest fits
  hil cache prune --all --kind kernels  every kernel

What a run uses stays, whatever is asked for.  All of it can be fetched or made again."""
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def add(commands: Commands) -> None:
    """The parser of `hil cache`."""
    cache = commands.add_parser(
        "cache",
        help="what is kept on disk between runs, and removing it",
        description="Shows what the cache folder holds: kinds, sizes, ages, limits.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache.add_argument("--all", action="store_true", help="every part, not only the kinds")
    cache.set_defaults(run=_show)
    actions = cache.add_subparsers(dest="action", metavar="ACTION")
    prune = actions.add_parser(
        "prune",
        help="remove parts, the oldest first; without options, snapshots beyond their limit",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prune.add_argument("--all", action="store_true", help="all of it")
    prune.add_argument(
        "--older-than", metavar="AGE", type=age,
        help="what no run used for so long: 90m, 12h, 14d, 2w",
    )  # fmt: skip
    prune.add_argument(
        "--limit", metavar="SIZE", type=_size,
        help="the oldest, until the rest takes no more: 512M, 20G",
    )  # fmt: skip
    prune.add_argument(
        "--kind", metavar="KIND", action="append", default=[],
        help="only parts of this kind, as `hil cache` names them; may be repeated",
    )  # fmt: skip
    prune.add_argument("--dry-run", action="store_true", help="tell what would go, remove nothing")
    prune.set_defaults(run=_prune)


def _show(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.report.cache import print_cache

    print_cache(Console(), every=options.all)
    return 0


def _prune(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.lab import cache_parts
    from hil.report.cache import print_pruned

    cache_parts.check_kinds(options.kind)
    found = cache_parts.prune(
        options.kind,
        all_=options.all,
        older=options.older_than,
        limit=options.limit,
        dry=options.dry_run,
    )
    print_pruned(Console(), found, dry=options.dry_run)
    return 0


def age(text: str) -> float:
    """Seconds of "90m", "12h", "14d" or "2w"."""
    match = re.fullmatch(r"(\d+)([mhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected an age such as 12h or 14d")
    return int(match[1]) * _UNITS[match[2]]


def _size(text: str) -> int:
    from hil import tables
    from hil.errors import HilError

    try:
        return tables.size(text, "--limit")
    except HilError:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected a size such as 512M or 20G"
        ) from None
