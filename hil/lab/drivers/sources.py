# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's headers and parts of its source, from the distribution's packages, in the cache."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cache, kernel_tree, suites, versions
from hil.lab.archive import Archive
from hil.lab.drivers import toolchain
from hil.lab.hosttools import ToolError, run
from hil.lab.kernels import Kernel
from hil.lab.progress import Say


class Source(NamedTuple):
    """Parts of a kernel's source, at their places below ``folder``."""

    folder: Path
    name: str


def _own_tree(kernel: Kernel) -> Path | None:
    """The build tree of a ``dir:`` kernel."""
    kind, _, rest = kernel.spec.partition(":")
    path = Path(rest)
    return path.resolve() if kind == "dir" and kernel_tree.is_build_tree(path) else None


def _need_package(kernel: Kernel) -> None:
    if not kernel.package_version or not kernel.spec.startswith("debian:"):
        raise HilError(
            f"there are no headers for {kernel.spec} to build drivers against",
            "Take a kernel of the archive (--kernel debian:6.12) or a build tree (dir:PATH).",
        )


def headers(kernel: Kernel, say: Say) -> Path:
    """The folder to build modules in."""
    tree = _own_tree(kernel)
    if tree is not None:
        return tree
    _need_package(kernel)
    place = cache.root() / "headers" / kernel.arch / f"{kernel.release}_{kernel.identity[:12]}"
    folder = place / "usr/src" / f"linux-headers-{kernel.release}"
    if folder.exists():
        return folder
    flavour = suites.settings().flavours.get(kernel.arch, kernel.arch)
    base = kernel.release.removesuffix(f"-{flavour}")
    series = versions.series(kernel.version)
    version = kernel.package_version
    # One kbuild package a series, later one a release; its programs run on this machine.
    host = Archive(toolchain.host_arch(), say)
    host.ensure(daily=False)
    names = host.names("linux-kbuild-")
    kbuild = next((n for n in (f"linux-kbuild-{base}", f"linux-kbuild-{series}") if n in names), "")
    if not kbuild:
        raise HilError(f"the archive has no linux-kbuild for {kernel.release}", "Take another one.")
    with cache.lock(f"headers-{place.name}"):
        if folder.exists():
            return folder
        cache.need_space(place.parent, 250_000_000, "the kernel's headers")
        with cache.staging(place) as stage:
            own = [f"linux-headers-{base}-common={version}",
                   f"linux-headers-{kernel.release}={version}"]  # fmt: skip
            _fetch(Archive(kernel.arch, say), own, stage, f"fetching headers of {kernel.release}")
            _fetch(host, [f"{kbuild}={beside(host, kbuild, version)}"], stage,
                   f"fetching {kbuild}")  # fmt: skip
            # It names the place where it would be installed.
            makefile = stage / "usr/src" / f"linux-headers-{kernel.release}" / "Makefile"
            makefile.write_text(makefile.read_text().replace("/usr/src/", f"{place}/usr/src/"))
            toolchain.make_runnable(stage, place, say)
    return folder


def source(kernel: Kernel, paths: Sequence[str], say: Say) -> Source:
    """Folders and files of the kernel's source; nothing else of it is kept."""
    tree = _own_tree(kernel)
    if tree is not None:
        link = tree / "source"  # of a tree made with O=
        return Source(link.resolve() if link.exists() else tree, f"build tree {tree}")
    if not paths:
        return Source(Path("/nonexistent"), "")
    _need_package(kernel)
    package = f"linux-source-{versions.series(kernel.version)}"
    version = kernel.package_version
    name = f"{package} {version}"
    place = _source_place(kernel, name, paths)
    if not place.exists():
        archive = Archive(kernel.arch, say)
        archive.ensure(daily=False)
        version = beside(archive, package, version)
        name = f"{package} {version}"
        place = _source_place(kernel, name, paths)
    if place.exists():
        return Source(place, name)
    with cache.lock(f"sources-{place.name}"):
        if place.exists():
            return Source(place, name)
        cache.need_space(place.parent, 350_000_000, "the kernel's source")
        with cache.staging(place) as stage:
            chosen = [f"{package}={version}"]
            _fetch(Archive(kernel.arch, say), chosen, stage / "raw", f"fetching {name}")
            (file,) = (stage / "raw/usr/src").glob("linux-source-*.tar.xz")
            top = file.name.removesuffix(".tar.xz")
            say(f"taking the driver out of {name}")
            try:
                run(["tar", "-xJf", file, "-C", stage, "--strip-components=1",
                     *(f"{top}/{path}" for path in paths)])  # fmt: skip
            except ToolError as error:
                if error.disk_full:
                    raise cache.no_space(stage, name) from error
                missing = re.findall(r"tar: [^/\s]+/(\S+): Not found", error.output)
                raise HilError(
                    f"{name} has no {', '.join(missing) or error.last_line}",
                    "The driver of the recipe is not in this kernel: take another one.",
                ) from error
            shutil.rmtree(stage / "raw")
    return Source(place, name)


def _source_place(kernel: Kernel, name: str, paths: Sequence[str]) -> Path:
    key = hashlib.sha256(repr((name, sorted(paths))).encode()).hexdigest()[:12]
    return cache.root() / "sources" / f"{kernel.version}_{key}"


def beside(archive: Archive, package: str, version: str) -> str:
    """The version of ``package`` to take with a kernel of ``version``: its own, or the nearest.

    The archive drops a package when its source is built anew, and the signed kernel of that build
    may come hours later.  A build of the same upstream version serves as well; the oldest of those
    that are newer, or the newest.  HilError when there is none.
    """
    there = {found.version for found in archive.packages([package])}
    if version in there:
        return version
    same = [one for one in there if versions.upstream(one) == versions.upstream(version)]
    same.sort(key=versions.key)
    newer = [one for one in same if versions.key(one) > versions.key(version)]
    if not same:
        raise HilError(
            f"the archive has no {package} {version}, nor another build of "
            f"{versions.upstream(version)}",
            f"There are: {', '.join(sorted(there, key=versions.key)) or 'none'}.  Take a newer "
            "kernel of the series, or a build tree (dir:PATH).",
        )
    return newer[0] if newer else same[-1]


def _fetch(archive: Archive, chosen: Sequence[str], into: Path, what: str) -> None:
    archive.ensure(daily=False)
    debs = into / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    for file in archive.download(chosen, debs, what):
        try:
            run(["dpkg-deb", "-x", file, into])
        except ToolError as error:
            if error.disk_full:
                raise cache.no_space(into, what) from error
            raise HilError(f"cannot unpack {file.name}: {error.last_line}") from error
    shutil.rmtree(debs)
