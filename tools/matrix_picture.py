#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Draws a run's matrix as an SVG, as the terminal shows it: ``tools/matrix_picture.py RUN``.

The pictures of the documentation are made with it, from real runs.  No fonts are fetched by the
picture: it asks for any monospaced one, and each run of letters has its width written beside it.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME

from hil.errors import HilError
from hil.report.matrix import print_matrix
from hil.runs.folder import RunFolder

_FONTS = '"Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace'


def without_remote_fonts(svg: str) -> str:
    """rich's picture without the addresses that it fetches its font from."""
    svg = re.sub(r"@font-face\s*\{[^}]*\}\s*", "", svg)
    return svg.replace("font-family: Fira Code, monospace", f"font-family: {_FONTS}")


def draw(records: Sequence[dict[str, Any]], meta: dict[str, Any], width: int, title: str) -> str:
    """The SVG of the matrix and the lists beneath it, ``width`` columns wide."""
    console = Console(
        record=True, file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor"
    )
    print_matrix(console, records, meta)
    return without_remote_fonts(
        console.export_svg(title=title, theme=DEFAULT_TERMINAL_THEME, unique_id="hil")
    )


def chosen(records: Sequence[dict[str, Any]], words: Sequence[str]) -> list[dict[str, Any]]:
    """The records whose cell's id has one of ``words`` in it; all when there are none."""
    return [r for r in records if not words or any(word in r["cell"] for word in words)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", metavar="RUN", help="a run's name, the start of it, or latest")
    parser.add_argument("--out", metavar="DIR", default="results", help="where run folders are")
    parser.add_argument("--to", metavar="FILE", default="docs/img/matrix.svg", help="the picture")
    parser.add_argument("--width", metavar="N", type=int, default=100, help="columns")
    parser.add_argument(
        "--only", metavar="WORD", action="append", default=[],
        help="only cells whose id has this in it, /thp for instance; may be repeated",
    )  # fmt: skip
    options = parser.parse_args(argv)
    try:
        folder = RunFolder.find(options.run, Path(options.out))
        records, meta = folder.records(), folder.read_meta()
    except HilError as error:
        print(error, file=sys.stderr)
        return 2
    few = chosen(records, options.only)
    if not few:
        print(f"no cell of {folder.name} has {options.only} in its id", file=sys.stderr)
        return 2
    if len(few) < len(records):
        meta = {**meta, "cells": len(few)}
    title = f"Linux {meta.get('kernel', '?')} on {meta.get('board', '?')}"
    Path(options.to).write_text(draw(few, meta, options.width, title), encoding="utf-8")
    print(f"{options.to}: {len(few)} of {len(records)} cells of {folder.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
