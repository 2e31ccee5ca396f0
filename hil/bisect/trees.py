# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole kernels: a commit checked out, configured for the cell, and built where the last one was.

The configuration is as small as can be: `make allnoconfig` with the options that
lab-config/bisect/ARCH.toml names for the cell, and the user's fragment after them.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from pathlib import Path

from hil import tables
from hil.bisect.modules import UnbuildableError
from hil.bisect.sight import StopError
from hil.bisect.state import State
from hil.errors import HilError
from hil.lab import cache, hosttools, kernels
from hil.lab.architectures import ARCHITECTURES, Architecture
from hil.lab.board import ROOT, Board
from hil.lab.drivers import toolchain
from hil.lab.drivers.kbuild import first_error
from hil.lab.hosttools import ToolError
from hil.lab.kernels import Kernel
from hil.lab.modules import Own
from hil.lab.progress import Say

FOLDER = ROOT / "lab-config" / "bisect"
_ARCH = {"amd64": "x86", "arm64": "arm64", "armhf": "arm"}
_TOOLS = ("make", "gcc", "flex", "bison", "bc")
_LIBELF = Path("/usr/include/libelf.h")
_SIZE = 3_000_000_000
"""Bytes that a checkout of the kernel and a build of it take."""


@dataclass(frozen=True)
class Part:
    """Options that some cells need."""

    cells: tuple[str, ...]
    because: str
    config: str
    """Words: OPTION is built in, OPTION=m a module, OPTION=n left out."""


@dataclass(frozen=True)
class Recipe:
    """lab-config/bisect/ARCH.toml."""

    targets: tuple[str, ...]
    part: tuple[Part, ...]


def fragment(arch: str, cell: str, more: str = "") -> str:
    """The configuration fragment for a cell on an architecture (QEMU's name); HilError."""
    path = FOLDER / f"{arch}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise HilError(
            f"there is no configuration for kernels of {arch} to start from: no {path}",
            f"There are: {known}.  Write one, or give all that the guest needs by --config.",
        )
    recipe = tables.build(Recipe, tables.load(path), str(path))
    lines: list[str] = []
    for part in recipe.part:
        if any(fnmatch.fnmatchcase(cell, pattern) for pattern in part.cells):
            lines.append(f"# {part.because}")
            for word in part.config.split():
                name, _, value = word.partition("=")
                lines.append(f"CONFIG_{name}={value or 'y'}")
    return "\n".join([*lines, more.rstrip(), ""])


def targets(arch: str) -> tuple[str, ...]:
    """What make has to make."""
    path = FOLDER / f"{arch}.toml"
    return tables.build(Recipe, tables.load(path), str(path)).targets


def build(
    state: State, commit: str, board: Board, arch: str, say: Say
) -> tuple[Kernel | None, list[Own], list[Path]]:
    """Build a commit; the kernel for a guest, or the build folder for a board of the lab.

    UnbuildableError when this commit cannot be built.
    """
    machine = next(one for one in ARCHITECTURES.values() if one.debian == arch)
    tree = state.worktree
    objects = state.work / "build"
    if not state.task.build:
        _need_tools()
    cache.need_space(state.work, _SIZE if not objects.exists() else 0, "a kernel build")
    objects.mkdir(parents=True, exist_ok=True)
    tree.run("checkout", "--quiet", "--force", "--detach", commit)
    if state.task.build:
        say(f"building {commit[:12]}: {state.task.build}")
        facts = {"HIL_BUILD": str(objects), "HIL_COMMIT": commit}
        try:
            hosttools.run(["sh", "-c", state.task.build], cwd=tree.folder, extra=facts)
        except ToolError as error:
            raise UnbuildableError(first_error(error.output, tree.folder)) from error
    else:
        with cache.full_disk_is_an_error(objects, "a kernel build"):
            _configure(state, machine, arch, objects, say)
        say(f"building {commit[:12]}")
        _make(tree.folder, objects, arch, [*targets(machine.name)])
    if board.kind != "virtual":
        return None, [], [objects]
    try:
        return kernels.get(f"dir:{objects}", arch=arch, say=say), [], [objects]
    except HilError as error:
        raise UnbuildableError(error.message) from error


def _need_tools() -> None:
    for tool in _TOOLS:
        hosttools.need(tool)
    if not _LIBELF.exists():  # tools/objtool
        raise HilError(
            "the header libelf.h is missing, which the kernel's own tools are built with",
            "Install it (Debian: apt-get install libelf-dev).",
        )


def _configure(state: State, machine: Architecture, arch: str, objects: Path, say: Say) -> None:
    """Write .config where it would be another one than before."""
    task = state.task
    more = Path(task.config).read_text() if task.config else ""
    wanted = fragment(machine.name, task.cell, more)
    file = objects / "hil.fragment"
    say("configuring")
    fresh = not file.exists() or file.read_text() != wanted or not (objects / ".config").exists()
    if fresh:
        file.write_text(wanted)
        _make(state.worktree.folder, objects, arch, ["allnoconfig"], KCONFIG_ALLCONFIG=str(file))
        _tell_missing(wanted, objects / ".config", objects / "hil.missing")
    else:  # other commits have other options: those keep their values, new ones their defaults
        _make(state.worktree.folder, objects, arch, ["olddefconfig"])


def _tell_missing(wanted: str, config: Path, into: Path) -> None:
    """Note which options the kernel does not have, or does not let be set."""
    found = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", config.read_text(), re.MULTILINE))
    asked = dict(re.findall(r"^(CONFIG_\w+)=([ym])$", wanted, re.MULTILINE))
    lacking = [name for name, value in asked.items() if found.get(name, "n") not in (value, "y")]
    into.write_text("".join(f"{name}\n" for name in lacking))


def _make(source: Path, objects: Path, arch: str, goals: list[str], **variables: str) -> None:
    prefix = toolchain.of_programs(arch)
    compiler = f"{prefix}gcc"
    if hosttools.find("ccache"):
        compiler = f"ccache {compiler}"
    command: list[str | Path] = [
        "make", "-C", source, f"O={objects}", f"ARCH={_ARCH[arch]}", f"CC={compiler}",
        f"-j{len(os.sched_getaffinity(0))}", *([f"CROSS_COMPILE={prefix}"] if prefix else []),
        *goals,
    ]  # fmt: skip
    # The time of the build is in the kernel: the same commit is to give the same kernel.
    fixed = {
        "KBUILD_BUILD_TIMESTAMP": "1970-01-01", "KBUILD_BUILD_USER": "hil",
        "KBUILD_BUILD_HOST": "hil", "MAKEFLAGS": "", "KCFLAGS": "", "KBUILD_OUTPUT": "",
    }  # fmt: skip
    try:
        hosttools.run(command, extra={**fixed, **variables})
    except ToolError as error:
        if error.disk_full:
            raise cache.no_space(objects, "a kernel build") from error
        if "source tree is not clean" in error.output:
            raise StopError(f"make refuses: {error.last_line}", "") from error
        raise UnbuildableError(first_error(error.output, source)) from error
