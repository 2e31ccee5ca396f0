# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds drivers against a stock kernel's headers; what was built stays in the cache.

Headers and source come from the distribution's packages of the very kernel, or from the build tree
of a ``dir:`` kernel.  Nothing is installed and no rights are needed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hil.errors import HilError
from hil.lab import cache
from hil.lab.drivers import kbuild, sources, toolchain
from hil.lab.drivers.kbuild import BuildError
from hil.lab.drivers.recipe import FOLDER, Recipe, apply
from hil.lab.drivers.sources import Source
from hil.lab.kernels import Kernel
from hil.lab.modules import name_of
from hil.lab.progress import Say

_LAYOUT = 1


class Built(NamedTuple):
    """One module, built or from the cache."""

    name: str
    file: Path
    source: str
    """Where the source came from: a package with its version, or a build tree."""
    corrections: tuple[str, ...]
    """What was changed in it, for the results; empty when it is as the kernel has it."""

    def told(self) -> dict[str, Any]:
        """For run.json."""
        return {"name": self.name, "source": self.source, "corrections": list(self.corrections)}


def get(
    recipes: Sequence[Recipe], kernel: Kernel, *, unmodified: Sequence[str] = (), say: Say
) -> list[Built]:
    """Build ``recipes`` for a kernel, in their order; those that it ships are left out.

    ``unmodified`` names modules whose source is to stay as it is.  HilError when there are no
    headers or no source for the kernel, or the compiler fails.
    """
    wanted = [recipe for recipe in recipes if recipe.wanted(kernel.arch)]
    if not wanted:
        return []
    compiler = toolchain.find(kernel)
    parts = [
        _LAYOUT, kernel.identity, compiler.identity, sorted(unmodified),
        [recipe.identity for recipe in wanted],
        [Path(m.__file__ or "").read_text() for m in (sources, toolchain)],
        Path(__file__).read_text(),
    ]  # fmt: skip
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    place = cache.root() / "drivers" / kernel.arch / f"{kernel.release}_{key}"
    found = _read(place, wanted)
    if found is None:
        with cache.lock(f"drivers-{place.name}"):
            found = _read(place, wanted)
            if found is None:
                job = _Job(wanted, kernel, compiler, frozenset(unmodified))
                with cache.staging(place) as stage:
                    _build(job, stage, say)
                found = _read(place, wanted)
    assert found is not None
    return found


def _read(place: Path, recipes: Sequence[Recipe]) -> list[Built] | None:
    kept = cache.read_json(place / "built.json")
    if not isinstance(kept, dict):
        return None
    found = []
    for recipe in recipes:
        told = kept.get(recipe.name)
        file = place / f"{recipe.name}.ko"
        if told is None or not file.exists():
            return None
        found.append(Built(recipe.name, file, told["source"], tuple(told["corrections"])))
    return found


class _Job(NamedTuple):
    """What to build, and how."""

    recipes: Sequence[Recipe]
    kernel: Kernel
    compiler: toolchain.Compiler
    unmodified: frozenset[str]


def _build(job: _Job, stage: Path, say: Say) -> None:
    """Build into ``stage``: the modules, and what is to be told of them."""
    recipes, kernel, compiler, unmodified = job
    paths = sorted({path for recipe in recipes for path in recipe.sources})
    headers = sources.headers(kernel, say)
    tree = sources.source(kernel, paths, say)
    say(f"building {', '.join(r.name for r in recipes)} for {kernel.release}")
    work = stage / "work"
    options: dict[str, str] = {}
    told: dict[str, dict[str, Any]] = {}
    for recipe in recipes:
        made = lay(recipe, kernel.arch, tree, work, unmodified=recipe.name in unmodified)
        options |= recipe.options(kernel.arch)
        told[recipe.name] = {"source": made.source, "corrections": list(made.corrections)}
    (work / "Kbuild").write_text("".join(f"obj-m += {r.name}/\n" for r in recipes))
    try:
        built = kbuild.modules(headers, work, compiler, variables(options))
    except BuildError as error:
        if error.disk_full:
            raise cache.no_space(stage, "building drivers") from error
        raise HilError(
            f"{', '.join(r.name for r in recipes)} cannot be built for {kernel.release}: {error}",
            f"The command was: {error.command}",
        ) from error
    for recipe in recipes:
        file = next((path for path in built if name_of(path) == recipe.name), None)
        if file is None:
            raise HilError(f"make was content, but there is no module {recipe.name}")
        kbuild.strip(compiler, file, stage / f"{recipe.name}.ko")
    shutil.rmtree(work)
    cache.write_json(stage / "built.json", told)


def variables(options: Mapping[str, str]) -> list[str]:
    """Kernel options for make's command line, which leaves out what is not set."""
    return [f"CONFIG_{name}={'' if value == 'n' else value}" for name, value in options.items()]


def lay(recipe: Recipe, arch: str, tree: Source, work: Path, *, unmodified: bool = False) -> Built:
    """A folder below ``work`` to build the recipe's module in, corrected; what is to be told."""
    corrections = recipe.corrections(arch, unmodified=unmodified)
    folder = work / recipe.name
    _lay(recipe, tree.folder, folder)
    for correction in corrections:
        apply(correction, folder)
    _prelude(recipe, arch, [c.prelude for c in corrections], folder)
    source = tree.name + _without(arch) if recipe.sources else "this project"
    return Built(recipe.name, folder, source, tuple(c.what for c in corrections))


# The kbuild packages of 64-bit machines have a modpost for 32-bit modules, but one that takes their
# device tables for 64-bit ones (scripts/mod/file2alias.c) and gives up.  Without the table a module
# has no aliases, which only udev would read.
_NO_ALIASES = """\
#ifndef __ASSEMBLY__
#include <linux/module.h>
#undef MODULE_DEVICE_TABLE
#define MODULE_DEVICE_TABLE(type, name)
#endif"""


def _without(arch: str) -> str:
    """What the modules of an architecture lack, for the results."""
    return ", without module aliases" if arch == "armhf" else ""


def _lay(recipe: Recipe, tree: Path, folder: Path) -> None:
    """A folder with the recipe's sources, flat, and its makefile."""
    folder.mkdir(parents=True)
    for path in recipe.sources:
        place = tree / path
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in files:
            if file.suffix in (".c", ".h") or file.name == "Makefile":
                shutil.copyfile(file, folder / file.name)
    for name in recipe.own:
        shutil.copyfile(FOLDER / name, folder / Path(name).name)
    if recipe.makefile:
        (folder / "Makefile").write_text(recipe.makefile + "\n")


def _prelude(recipe: Recipe, arch: str, preludes: Sequence[str], folder: Path) -> None:
    """Options as macros, and what corrections put before the source."""
    lines = []
    for name, value in recipe.options(arch).items():
        lines += [f"#undef CONFIG_{name}", f"#undef CONFIG_{name}_MODULE"]
        if value != "n":
            lines.append(f"#define CONFIG_{name}{'_MODULE' if value == 'm' else ''} 1")
    if _without(arch):
        lines.append(_NO_ALIASES)
    header = folder / "hil-prelude.h"
    header.write_text("\n".join([*lines, *preludes, ""]))
    with (folder / "Makefile").open("a") as file:
        file.write(f"\nccflags-y += -include {header}\n")
