# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels to boot: Debian's stock ones, package files, and the developer's own trees.

A spec is one of::

    debian:6.12             the newest release of that series in any suite of the mirror
    debian:6.12.117         that release; also debian:6.12.117+deb13-amd64, debian:6.1.0-56-amd64
    deb:FILE[,FILE...]      package files
    dir:PATH                a build tree of the kernel, or an unpacked package
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hil.errors import HilError
from hil.lab import cache, catalogue, kernel_store, kernel_tree, progress, versions
from hil.lab.archive import Archive
from hil.lab.catalogue import Build
from hil.lab.kernel_store import Kernel
from hil.lab.progress import Say

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Kernel", "Series", "get", "list_series", "print_list", "resolve"]

_ASK_AGAIN = 900.0  # seconds before an unknown release makes the lists be fetched anew


class Series(NamedTuple):
    """What there is of one series."""

    series: str
    newest: Build
    older: tuple[Build, ...]
    cached: tuple[str, ...]  # releases that are on this disk


def get(spec: str, *, arch: str = "amd64", refresh: bool = False, say: Say | None = None) -> Kernel:
    """The kernel that ``spec`` names, fetched and unpacked when it is not in the cache yet.

    A kernel in the cache needs no network and no work.  HilError for everything that can be wrong
    with a spec, a file, the network or the disk.
    """
    kind, _, rest = spec.partition(":")
    if kind == "debian" and rest:
        with progress.line(say) as line:
            return _debian(spec, rest, arch, refresh, line)
    if kind == "deb" and rest:
        with progress.line(say) as line:
            return _files(spec, [Path(name) for name in rest.split(",") if name], arch, line)
    if kind == "dir" and rest:
        return _folder(spec, Path(rest), arch)
    raise HilError(f"kernel {spec!r} is not understood", _spec_hint(spec))


def _spec_hint(spec: str) -> str:
    if re.match(r"v?\d+\.\d+", spec):
        guess = f"Did you mean debian:{spec.removeprefix('v')}?  "
    elif spec.endswith(".deb"):
        guess = f"Did you mean deb:{spec}?  "
    elif "/" in spec and ":" not in spec:
        guess = f"Did you mean dir:{spec}?  "
    else:
        guess = ""
    return guess + "Expected is debian:SERIES, debian:RELEASE, deb:FILE[,FILE] or dir:PATH."


# Debian's archive


def resolve(
    spec: str, *, arch: str = "amd64", refresh: bool = False, say: Say | None = None
) -> Build:
    """The stock kernel that ``debian:...`` means now; fetches lists when need be, no kernel."""
    kind, _, wanted = spec.partition(":")
    if kind != "debian" or not wanted:
        raise HilError(f"{spec!r} names no kernel of the archive", _spec_hint(spec))
    builds, archive = _builds(arch, refresh, say)
    found = _matching(builds, wanted)
    if not found and not refresh and time.time() - archive.updated > _ASK_AGAIN:
        builds, archive = _renewed(archive, builds, refresh=True)
        found = _matching(builds, wanted)
    whole = [build for build in found if not build.missing]
    if whole:
        return whole[-1]
    raise _unknown(wanted, builds, found)


def _builds(arch: str, refresh: bool, say: Say | None) -> tuple[list[Build], Archive]:
    made, builds = catalogue.load(arch)
    archive = Archive(arch, say)
    if archive.ensure(refresh=refresh) or made != archive.updated or not builds:
        builds = catalogue.renew(archive)
    return builds, archive


def _renewed(
    archive: Archive, builds: list[Build], *, refresh: bool
) -> tuple[list[Build], Archive]:
    try:
        archive.ensure(refresh=refresh)
    except HilError:
        return builds, archive  # the answer is then "unknown", from the lists that are there
    return catalogue.renew(archive), archive


def _matching(builds: Sequence[Build], wanted: str) -> list[Build]:
    """Builds of a series or of one release, oldest first."""
    if re.fullmatch(r"\d+\.\d+", wanted):
        return [build for build in builds if build.series == wanted]
    return [
        build
        for build in builds
        if wanted in (build.release, build.version, build.package_version)
        or wanted == build.release.rpartition("-")[0]
    ]


def _unknown(wanted: str, builds: Sequence[Build], found: Sequence[Build]) -> HilError:
    whole = [build for build in builds if not build.missing]
    offered = sorted({build.series for build in whole}, key=versions.number)
    listing = f"Series to be had: {', '.join(offered)}."
    if found:
        lack = ", ".join(found[-1].missing)
        return HilError(
            f"the mirror has no whole kernel for debian:{wanted}: {found[-1].release} lacks {lack}",
            listing,
        )
    nearest = _nearest(wanted, whole)
    guess = f"The nearest is debian:{nearest}.  " if nearest else ""
    return HilError(f"no suite of the mirror has a kernel debian:{wanted}", guess + listing)


def _nearest(wanted: str, builds: Sequence[Build]) -> str:
    numbers = [int(n) for n in re.findall(r"\d+", wanted)[:3]]
    if not numbers:
        return ""

    def place(numbers: Sequence[int]) -> int:
        major, minor, point = (*numbers, 0, 0)[:3]
        return (major * 1000 + minor) * 1000 + point

    names = {b.series if len(numbers) < 3 else b.version for b in builds}
    have = {name: place([int(n) for n in re.findall(r"\d+", name)]) for name in names}
    return min(sorted(names), key=lambda name: abs(have[name] - place(numbers)), default="")


def _debian(spec: str, wanted: str, arch: str, refresh: bool, say: Say) -> Kernel:
    try:
        build = resolve(spec, arch=arch, refresh=refresh, say=say)
    except HilError:
        # Dropped by the mirror, or no lists: a kernel that is here serves.
        if not refresh and (kernel := kernel_store.newest_cached(spec, wanted, arch)):
            return kernel
        raise
    identity = kernel_store.identity(
        [arch, *(f"{p.name}={p.version} {p.sha256}" for p in build.packages)],
    )
    place = kernel_store.place(arch, build.release, identity)
    kernel = kernel_store.read(place, spec)
    if kernel is not None:
        return kernel
    try:
        return _fetch(build, place, identity, arch, say)._replace(spec=spec)
    except HilError as error:
        older = kernel_store.newest_cached(spec, wanted, arch)
        if older is None or refresh:
            raise
        say(f"note: {build.release} cannot be had ({error.message}): {older.release} serves")
        return older


def _fetch(build: Build, place: Path, identity: str, arch: str, say: Say) -> Kernel:
    size = build.size + build.installed + build.installed // 8
    what = f"kernel {build.release} ({cache.megabytes(build.size)})"
    with cache.lock(f"kernel-{place.name}"):
        if kernel := kernel_store.read(place, ""):
            return kernel
        cache.need_space(place.parent, size, what)
        with cache.staging(place) as stage:
            debs = stage / "debs"
            debs.mkdir()
            chosen = [f"{p.name}={p.version}" for p in build.packages]
            files = Archive(arch, say).download(chosen, debs, f"fetching {what}")
            say(f"unpacking {what}")
            found = kernel_tree.unpack(files, stage, build.installed)
            shutil.rmtree(debs)
            kernel_store.write(stage, found, arch, identity, build.package_version)
    done = kernel_store.read(place, "")
    assert done is not None
    return done


def list_series(
    *, arch: str = "amd64", refresh: bool = False, say: Say | None = None
) -> tuple[list[Series], list[str]]:
    """Every series to be had, oldest first, and notes on what had to be left out."""
    builds, archive = _builds(arch, refresh, say)
    on_disk = {release for release, _ in kernel_store.cached(arch)}
    found: list[Series] = []
    groups, lacks = _grouped(builds)
    for name, group in groups.items():
        here = tuple(build.release for build in group if build.release in on_disk)
        found.append(Series(name, group[-1], tuple(group[:-1]), here))
    return found, [*archive.notes, *(f"no {name}: {why}" for name, why in lacks.items())]


def series(arch: str = "amd64", say: Say | None = None) -> tuple[list[str], dict[str, str]]:
    """Names of the series that the archive has whole, oldest first; of the others what they lack.

    HilError when there are no lists and none can be fetched.
    """
    groups, lacks = _grouped(_builds(arch, False, say)[0])
    return list(groups), lacks


def _grouped(builds: Sequence[Build]) -> tuple[dict[str, list[Build]], dict[str, str]]:
    """Whole builds by series, and why there is none of the other series; both oldest first."""
    groups: dict[str, list[Build]] = {}
    lacking: dict[str, Build] = {}
    for build in builds:
        if build.missing:
            lacking[build.series] = build
        else:
            groups.setdefault(build.series, []).append(build)
    lacks = {}
    for name in sorted(set(lacking) - set(groups), key=versions.number):
        lack = " and ".join(
            part.removesuffix(f"-{lacking[name].release}") for part in lacking[name].missing
        )
        lacks[name] = f"the mirror lacks its packages {lack}"
    return {name: groups[name] for name in sorted(groups, key=versions.number)}, lacks


def print_list(
    console: Console, *, arch: str = "amd64", refresh: bool = False, every: bool = False
) -> int:
    """Print what `list_series` finds: a row a series, or for ``every`` release; returns 0."""
    from hil.lab import kernel_list

    return kernel_list.print_list(console, arch=arch, refresh=refresh, every=every)


# Package files


def _files(spec: str, files: Sequence[Path], arch: str, say: Say) -> Kernel:
    controls = [kernel_tree.control(file) for file in files]
    for file, control in zip(files, controls, strict=True):
        if control.arch not in (arch, "all"):
            raise HilError(
                f"{file} is a package for {control.arch}, and the machine to boot is {arch}",
                f"Take the {arch} package of the same kernel.",
            )
        if not re.match(r"linux-(image|binary|modules|base)", control.name):
            raise HilError(
                f"{file} is the package {control.name}, which is no kernel",
                "Expected is linux-image-*, or linux-base-*, linux-binary-* and linux-modules-*.",
            )
    identity = kernel_store.identity([arch, *sorted(cache.sha256_file(file) for file in files)])
    place = kernel_store.place(arch, "deb", identity)
    if kernel := kernel_store.read(place, spec):
        return kernel
    with cache.lock(f"kernel-{place.name}"):
        if kernel := kernel_store.read(place, spec):
            return kernel
        say(f"unpacking {', '.join(file.name for file in files)}")
        with cache.staging(place) as stage:
            found = kernel_tree.unpack(files, stage, sum(c.installed for c in controls))
            kernel_store.write(stage, found, arch, identity, controls[0].version)
    done = kernel_store.read(place, spec)
    assert done is not None
    return done


# Folders


def _folder(spec: str, path: Path, arch: str) -> Kernel:
    if not path.is_dir():
        raise HilError(f"no such folder: {path}", "The spec is dir:PATH, a build tree or package.")
    path = path.resolve()
    if kernel_tree.is_build_tree(path):
        found, modules = kernel_tree.build_tree(path, arch)
    else:
        found, modules = kernel_tree.find(path, str(path)), []
        assert found.modules is not None
        modules = sorted(p for p in found.modules.rglob("*.ko*") if p.is_file())
    identity = kernel_store.identity([arch, kernel_tree.stat_identity([found.vmlinuz, *modules])])
    if found.modules is not None and (found.modules / "modules.dep").is_file():
        return kernel_store.checked(spec, found, arch, identity, "")
    # depmod's files are made in the cache: the tree is the developer's.  One place a path, so that
    # rebuilds replace each other.
    place = kernel_store.place(arch, "dir", kernel_store.identity([str(path)]))
    with cache.lock(f"kernel-{place.name}"):
        kept = cache.read_json(place / "kernel.json")
        if not isinstance(kept, dict) or kept.get("identity") != identity:
            with cache.staging(place) as stage:
                base = path if found.modules is None else found.modules
                kernel_tree.link_modules(base, modules, stage, found.release)
                cache.write_json(stage / "kernel.json", {"identity": identity})
    at = place / "lib" / "modules" / found.release
    return kernel_store.checked(spec, found._replace(modules=at), arch, identity, "")


def lasting(spec: str, kernel: Kernel) -> str:
    """A spec that finds this very kernel tomorrow, and from another folder: for --resume."""
    kind, _, rest = spec.partition(":")
    if kind == "debian":
        return f"debian:{kernel.release}"
    names = [name for name in rest.split(",") if name] if kind == "deb" else [rest]
    return f"{kind}:{','.join(str(Path(name).absolute()) for name in names)}"
