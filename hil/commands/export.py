# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil export`: a run in the formats that others read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hil.commands.arguments import Commands

if TYPE_CHECKING:
    from hil.runs.folder import RunFolder

FORMATS = ("ktap", "junit", "kcidb", "csv", "markdown")
_EPILOG = """\
formats:
  ktap       KTAP version 1, nested: pinner, memory class, cell; for kunit.py and kernel CI
  junit      JUnit XML, the same as the run folder's junit.xml
  kcidb      JSON of KCIDB's schema v5.3: checkout, build, tests, issues and incidents
  csv        a line a cell, stable columns
  markdown   totals, matrix, bad and known cells, for an issue or a wiki

examples:
  hil export latest --format ktap
  hil export latest --format csv --output cells.csv
  hil export latest --format kcidb --origin my_lab --output run.json
"""


def add(commands: Commands) -> None:
    """The parser of `hil export`."""
    export = commands.add_parser(
        "export",
        help="print a run as KTAP, JUnit, KCIDB, CSV or Markdown",
        description="Makes another format of a finished or unfinished run, from its journal.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("folder", metavar="RUN", help="a run's name, the start of it, or latest")
    export.add_argument(
        "--format", required=True, choices=FORMATS, help="what to make of it: see below"
    )
    export.add_argument(
        "--output", metavar="FILE", help="write it there, in one step (default: standard output)"
    )
    export.add_argument(
        "--origin", metavar="NAME",
        help="of kcidb: the name of the CI system that all ids begin with (default: userptr_hil)",
    )  # fmt: skip
    export.add_argument("--out", metavar="DIR", default="results", help="where run folders are")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from pathlib import Path

    from hil.errors import HilError
    from hil.runs.folder import RunFolder

    if options.origin is not None and options.format != "kcidb":
        raise HilError("--origin is of --format kcidb", "Leave one of the two out.")
    folder = RunFolder.find(options.folder, Path(options.out))
    if not folder.journal.exists():
        raise HilError(f"{folder.path} has no journal.jsonl", "No cell has been judged in it yet.")
    parts = _parts(folder, options.format, options.origin)
    if options.output:
        from hil.report.output import write_whole

        write_whole(Path(options.output), parts)
        return 0
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")  # as the formats say, whatever the locale is
    sys.stdout.writelines(parts)
    sys.stdout.flush()
    return 0


def _parts(folder: RunFolder, form: str, origin: str | None) -> Iterator[str]:
    from hil.report import csv, junit, kcidb, ktap, markdown
    from hil.runs.stream import Cells

    cells, meta = Cells(folder.journal), {"run": folder.name, **folder.read_meta()}
    if form == "ktap":
        return ktap.lines(cells, meta)
    if form == "kcidb":
        return kcidb.lines(cells, meta, cells.in_flight, origin or kcidb.ORIGIN)
    make: Mapping[str, Any] = {"junit": junit.lines, "csv": csv.lines, "markdown": markdown.lines}
    made: Iterable[str] = make[form](cells, meta)
    return iter(made)
