# SPDX-License-Identifier: GPL-2.0-or-later
"""Calling a stock kernel's kbuild for modules in a folder outside of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from hil.lab import hosttools
from hil.lab.drivers.toolchain import Compiler
from hil.lab.hosttools import ToolError


class BuildError(Exception):
    """The compiler failed; ``text`` is its first word, ``command`` what was called."""

    def __init__(self, text: str, command: str, *, disk_full: bool) -> None:
        super().__init__(text)
        self.command, self.disk_full = command, disk_full


def modules(
    headers: Path, work: Path, compiler: Compiler, options: Iterable[str] = ()
) -> list[Path]:
    """Build the modules of ``work``, which has a Kbuild file; BuildError.

    ``options`` are CONFIG_NAME=VALUE; one without a value leaves out what hangs on it.
    """
    command: list[str | Path] = [
        "make", "-C", headers, f"M={work}", f"-j{len(os.sched_getaffinity(0))}",
        *compiler.variables,
        # BTF of modules needs pahole and the kernel's ELF image; nobody here reads it.
        "CONFIG_DEBUG_INFO_BTF_MODULES=", *options, "modules",
    ]  # fmt: skip
    try:
        hosttools.run(command, extra=compiler.environment)
    except ToolError as error:
        called = " ".join(map(str, command))
        raise BuildError(
            first_error(error.output, work), called, disk_full=error.disk_full
        ) from error
    return _made(work)


def _made(work: Path) -> list[Path]:
    """The modules that were built, as kbuild lists them."""
    try:
        listed = (work / "modules.order").read_text().split()
    except OSError:
        return []
    # absolute, or below M=; .o names since 6.2
    found = [work / Path(line).with_suffix(".ko") for line in listed]
    return [path for path in found if path.is_file()]


def strip(compiler: Compiler, module: Path, into: Path) -> None:
    """A copy without what only a debugger reads."""
    hosttools.run([compiler.strip, "--strip-debug", module, "-o", into])


def first_error(output: str, top: Path) -> str:
    """The compiler's first error without the path of the work folder, else the last line."""
    lines = [line.strip().replace(f"{top}/", "") for line in output.splitlines()]
    for line in lines:
        if re.search(r"\berror\b|No rule to make|undefined!|\*\*\*", line, re.IGNORECASE):
            return line
    return lines[-1] if lines else "make said nothing"
