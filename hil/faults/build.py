# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds faulty modules against a stock kernel's headers, in a work folder that stays.

Only files that differ from what is there are written, so that kbuild compiles one file a fault.
What was built stays in the cache, by the text that it was built from.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.faults.catalogue import Fault, apply
from hil.lab import cache, drivers
from hil.lab.drivers import build as recipes
from hil.lab.drivers import kbuild, sources, toolchain
from hil.lab.drivers.kbuild import BuildError
from hil.lab.drivers.recipe import Recipe
from hil.lab.drivers.toolchain import Compiler
from hil.lab.kernels import Kernel
from hil.lab.modules import name_of
from hil.lab.progress import Say


class _Layout(NamedTuple):
    """A driver's sources as they are built: below the kernel's paths, or flat for a recipe."""

    files: dict[str, str]
    """Path below the work folder: text, as the distribution has it."""
    options: list[str]
    flat: str = ""
    """The one folder of a recipe's files; empty where they lie at the kernel's paths."""

    def place(self, path: str) -> str:
        """Where a file of the kernel's source is."""
        return f"{self.flat}/{Path(path).name}" if self.flat else path


def build(fault: Fault, kernel: Kernel, say: Say, *, changed: bool = True) -> Path:
    """The fault's module, or the same module as it is where ``changed`` is false.

    HilError when the fault does not fit this kernel or it can't be built.
    """
    layout = _layout(fault, kernel, say)
    at = {
        layout.place(path): path for path in (fault.file, *(e.file for e in fault.edit if e.file))
    }
    found = {path: layout.files[place] for place, path in at.items() if place in layout.files}
    new = apply(fault, found, control=not changed)
    files = {**layout.files, **{layout.place(path): text for path, text in new.items()}}
    compiler = toolchain.find(kernel)
    text = repr((sorted(files.items()), layout.options, compiler.identity, fault.module))
    root = cache.root() / "faults" / f"{kernel.release}_{kernel.identity[:12]}"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    target = root / "built" / f"{fault.module}-{key}.ko"
    if not target.exists():
        shape = hashlib.sha256(repr(sorted(layout.files)).encode()).hexdigest()[:8]
        work = root / shape
        with cache.lock(f"faults-{root.name}-{shape}"):
            if not target.exists():
                headers = sources.headers(kernel, say)
                say(f"building {fault.module} for {kernel.release}: {fault.name}")
                with cache.full_disk_is_an_error(root, "building faulty modules"):
                    _write(work, files)
                    made = _compiled(headers, work, compiler, layout.options, fault)
                    _keep(made, fault, compiler, target)
    return target


def _recipe(fault: Fault, kernel: Kernel) -> Recipe | None:
    """The recipe of a driver that stock kernels of this architecture lack."""
    path = drivers.FOLDER / f"{fault.module.replace('_', '-')}.toml"
    path = path if path.exists() else drivers.FOLDER / f"{fault.module}.toml"
    if not path.exists():
        return None
    recipe = drivers.load(path.stem)
    return recipe if recipe.wanted(kernel.arch) else None


def _layout(fault: Fault, kernel: Kernel, say: Say) -> _Layout:
    recipe = _recipe(fault, kernel)
    if recipe is not None:
        tree = sources.source(kernel, sorted(recipe.sources), say)
        place = cache.root() / "faults" / f"laid-{recipe.name}-{kernel.identity[:12]}"
        with cache.lock(f"faults-laid-{recipe.name}"):
            shutil.rmtree(place, ignore_errors=True)
            recipes.lay(recipe, kernel.arch, tree, place)
            files = _read(place, place)
            shutil.rmtree(place)
        options = recipes.variables(recipe.options(kernel.arch))
        # the header that is included before all has the name of the place it was made in
        makefile = f"{recipe.name}/Makefile"
        files[makefile] = files[makefile].replace(f"{place}/{recipe.name}", "$(src)")
        files["Kbuild"] = f"obj-m += {recipe.name}/\n"
        return _Layout(files, options, recipe.name)
    tree = sources.source(kernel, fault.paths, say)
    files = {}
    for path in fault.paths:
        files |= _read(tree.folder / path, tree.folder)
    folders = [path for path in fault.paths if f"{path}/Makefile" in files]
    if not folders:
        raise HilError(f"{fault.name}: no Makefile in {', '.join(fault.paths)} of this kernel")
    files["Kbuild"] = "".join(f"obj-m += {path}/\n" for path in folders)
    return _Layout(files, [])


def _read(place: Path, top: Path) -> dict[str, str]:
    """Texts by their paths below ``top``."""
    found = {}
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if file.is_file():
            found[str(file.relative_to(top))] = file.read_text(errors="surrogateescape")
    return found


def _write(work: Path, files: dict[str, str]) -> None:
    """Bring the work folder to these files; those that are as they were are left alone."""
    for path, text in files.items():
        file = work / path
        data = text.encode(errors="surrogateescape")
        if not file.exists() or file.read_bytes() != data:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def _compiled(
    headers: Path, work: Path, compiler: Compiler, options: list[str], fault: Fault
) -> list[Path]:
    try:
        return kbuild.modules(headers, work, compiler, options)
    except BuildError as error:
        if error.disk_full:
            raise cache.no_space(work, "building faulty modules") from error
        raise HilError(
            f"{fault.name} does not build: {error}", f"The command was: {error.command}"
        ) from error


def _keep(made: list[Path], fault: Fault, compiler: Compiler, target: Path) -> None:
    """Strip the fault's module into the cache; HilError when it is not among what was made."""
    file = next((path for path in made if name_of(path) == fault.module), None)
    if file is None:
        there = ", ".join(sorted(name_of(path) for path in made))
        raise HilError(f"{fault.name}: no module {fault.module} was built", f"There are: {there}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}")
    kbuild.strip(compiler, file, fresh)
    fresh.rename(target)
