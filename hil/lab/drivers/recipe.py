# SPDX-License-Identifier: GPL-2.0-or-later
"""What a driver is built of: one TOML file each, in lab-config/drivers.

A recipe names parts of the kernel's source package, never a copy of them.  What is changed before
the build is a correction, with its reason, and is told in every result.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from hil import tables
from hil.errors import HilError
from hil.lab.board import ROOT

FOLDER = ROOT / "lab-config" / "drivers"
ARCHITECTURES = ("amd64", "arm64", "armhf")


@dataclass(frozen=True)
class Correction:
    """A change to the source, or to what is compiled before it."""

    what: str
    because: str
    arch: tuple[str, ...] = ()
    """Debian's names of the architectures that need it; empty is all."""
    file: str = ""
    edits: tuple[tuple[str, ...], ...] = ()
    """Pairs of text in ``file``: each first one is there exactly once and becomes the second."""
    prelude: str = ""
    """C that is included before every file."""


@dataclass(frozen=True)
class Recipe:
    """One module."""

    name: str
    """As /proc/modules spells it."""
    summary: str
    sources: tuple[str, ...] = ()
    """Folders or files of the kernel's source package."""
    own: tuple[str, ...] = ()
    """Files of this project, beside the recipe."""
    makefile: str = ""
    """Where the source folder has none of its own."""
    config: tuple[str, ...] = ()
    """OPTION=y, m or n: for make and for the C source."""
    config_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The same, by architecture."""
    arch: tuple[str, ...] = ()
    """Architectures whose stock kernels lack it; empty is all."""
    correction: tuple[Correction, ...] = ()
    identity: str = field(default="", repr=False)
    """Changes with the recipe and its own files."""

    def wanted(self, arch: str) -> bool:
        """Whether kernels of this architecture need it built."""
        return not self.arch or arch in self.arch

    def options(self, arch: str) -> dict[str, str]:
        """Kernel options to set: {"DRM_EXYNOS_G2D": "y"}."""
        pairs = (text.partition("=") for text in (*self.config, *self.config_of.get(arch, ())))
        return {name: value for name, _, value in pairs}

    def corrections(self, arch: str, *, unmodified: bool = False) -> list[Correction]:
        """Those that apply; ``unmodified`` leaves out what changes the source itself."""
        return [
            c for c in self.correction
            if (not c.arch or arch in c.arch) and not (unmodified and c.edits)
        ]  # fmt: skip


def load(name: str) -> Recipe:
    """The recipe lab-config/drivers/NAME.toml; HilError for what is wrong with it."""
    path = FOLDER / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise HilError(f"no driver recipe {name!r}: {path} does not exist", f"There are: {known}.")
    content = tables.load(path)
    digest = hashlib.sha256(path.read_bytes())
    recipe = tables.build(Recipe, content, str(path))
    for file in recipe.own:
        digest.update((FOLDER / file).read_bytes())
    recipe = tables.build(Recipe, {**content, "identity": digest.hexdigest()}, str(path))
    _check(recipe, path)
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    arches = {*recipe.arch, *recipe.config_of, *(a for c in recipe.correction for a in c.arch)}
    for arch in sorted(arches - set(ARCHITECTURES)):
        raise HilError(
            f"{path}: found architecture {arch!r}", f"Expected some of {', '.join(ARCHITECTURES)}."
        )
    for option in (*recipe.config, *(o for some in recipe.config_of.values() for o in some)):
        if option.partition("=")[2] not in ("y", "m", "n"):
            raise HilError(f"{path}: found {option!r}", "Expected OPTION=y, OPTION=m or OPTION=n.")
    for correction in recipe.correction:
        if bool(correction.edits) != bool(correction.file) or not (
            correction.edits or correction.prelude
        ):
            raise HilError(
                f"{path}: the correction {correction.what!r} changes nothing",
                "Give 'file' and 'edits', or 'prelude'.",
            )
        if any(len(pair) != 2 for pair in correction.edits):
            raise HilError(f"{path}: 'edits' of {correction.what!r}", "Expected pairs [OLD, NEW].")


def apply(correction: Correction, folder: Path) -> None:
    """Edit the source in ``folder``; HilError when it is not as the recipe expects."""
    if not correction.edits:
        return
    path = folder / correction.file
    text = path.read_text()
    for old, new in correction.edits:
        if text.count(old) != 1:
            raise HilError(
                f"{correction.file} of this kernel has {old!r} {text.count(old)} times, expected "
                f"once, for the correction: {correction.what}",
                "The source has changed: look whether the correction is still needed.",
            )
        text = text.replace(old, new)
    path.write_text(text)
