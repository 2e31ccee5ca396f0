# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages with all that they need, unpacked into a folder: the stuff of guest images.

Nothing is installed and no maintainer script runs; no rights are needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cache, kernel_tree, progress
from hil.lab.archive import Archive
from hil.lab.hosttools import ToolError, run
from hil.lab.progress import Say

_LAYOUT = 1
#: /bin and its kin are links into usr, as on an installed system
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class Tree(NamedTuple):
    """An unpacked closure."""

    folder: Path  # a root file system without device nodes, passwords or state
    packages: Mapping[str, str]  # name -> version
    identity: str  # SHA-256 over the packages' own checksums


def closure(
    suite: str,
    names: Sequence[str],
    arch: str = "amd64",
    *,
    refresh: bool = False,
    say: Say | None = None,
) -> Tree:
    """``names`` and all that they depend on (no Recommends) from a suite and its security updates.

    What was once chosen stays until ``refresh``, so that an image is the same tomorrow and needs no
    network.  HilError when the suite or a package is not to be had, or the disk is full.
    """
    wanted = sorted(set(names))
    text, place = _identity(suite, wanted, arch), _place(suite, wanted, arch)
    if not refresh and (tree := _read(place)):
        return tree
    with cache.lock(f"packages-{place.name}"), progress.line(say) as line:
        if not refresh and (tree := _read(place)):
            return tree
        archive = Archive(arch, line)
        archive.ensure(refresh=refresh, daily=False)
        line(f"choosing packages from {suite}")
        chosen = archive.closure(wanted, suite)
        only = archive.narrowed(suite)
        what = f"fetching {len(chosen)} packages of {suite}"
        cache.need_space(place.parent, 400_000_000, what)
        with cache.staging(place) as stage:
            debs = stage / "debs"
            debs.mkdir()
            files = archive.download(chosen, debs, what, only=only)
            line(f"unpacking {len(files)} packages")
            packages, sums = unpack(files, stage / "tree")
            for file in files:
                file.unlink()
            debs.rmdir()
            digest = hashlib.sha256("\n".join([text, *sums]).encode()).hexdigest()
            value = {"packages": packages, "identity": digest, "layout": _LAYOUT}
            cache.write_json(stage / "packages.json", value)
    made = _read(place)
    assert made is not None
    return made


def cached(suite: str, names: Sequence[str], arch: str = "amd64") -> Tree | None:
    """What `closure` has made before; None when it would have to fetch."""
    return _read(_place(suite, sorted(set(names)), arch))


def _identity(suite: str, wanted: Sequence[str], arch: str) -> str:
    return json.dumps([_LAYOUT, wanted, suite, arch])


def _place(suite: str, wanted: Sequence[str], arch: str) -> Path:
    text = _identity(suite, wanted, arch)
    label = f"{suite}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return cache.root() / "packages" / arch / label


def unpack(files: Sequence[Path], folder: Path) -> tuple[dict[str, str], list[str]]:
    """Unpack packages over each other; names with versions, and sorted checksums of the files."""
    for name in _MERGED:
        (folder / "usr" / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(f"usr/{name}")
    packages: dict[str, str] = {}
    sums = []
    for file in files:
        control = kernel_tree.control(file)
        packages[control.name] = control.version
        with file.open("rb") as stream:
            sums.append(f"{control.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}")
        try:
            # not dpkg-deb -x: it puts folders in place of the links above
            data = run(["dpkg-deb", "--fsys-tarfile", file])
            run(
                [
                    "tar",
                    "-x",
                    "-p",
                    "--keep-directory-symlink",
                    "--no-same-owner",
                    "-C",
                    folder,
                    "-f",
                    "-",
                ],
                data=data,
            )
        except ToolError as error:
            if error.disk_full:
                raise cache.no_space(folder, f"unpacking {file.name}") from error
            raise HilError(f"cannot unpack {file.name}: {error.last_line}") from error
    for name in _MERGED:
        if not any((folder / "usr" / name).iterdir()):
            (folder / "usr" / name).rmdir()
            (folder / name).unlink()
    return packages, sorted(sums)


def _read(place: Path) -> Tree | None:
    kept = cache.read_json(place / "packages.json")
    if not isinstance(kept, dict) or kept.get("layout") != _LAYOUT:
        return None
    return Tree(place / "tree", kept["packages"], kept["identity"])
