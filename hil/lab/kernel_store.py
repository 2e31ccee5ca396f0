# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels on this disk: what is known of one, and those in the cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cache, image, kernel_tree, versions

_LAYOUT = 1  # of trees in the cache; a change makes every identity another one


class Kernel(NamedTuple):
    """A kernel on disk, ready to boot."""

    spec: str  # as it was asked for
    release: str  # uname -r, the name of the modules folder
    version: str  # the upstream release with its stable point: "6.1.192"
    arch: str  # Debian's name: amd64, arm64, armhf
    vmlinuz: Path
    modules: Path  # .../lib/modules/RELEASE, with modules.dep
    config: Path | None
    system_map: Path | None
    identity: str  # SHA-256 over all that went in
    package_version: str  # "6.1.192-2"; empty for a tree

    @property
    def place(self) -> Path:
        """Its folder in the cache; for one that is somewhere else, its image."""
        for folder in self.vmlinuz.parents:
            if (folder / "kernel.json").exists():
                return folder
        return self.vmlinuz


def checked(
    spec: str, found: kernel_tree.Found, arch: str, identity: str, package_version: str
) -> Kernel:
    """A kernel of these parts; HilError when image, modules and architecture do not fit."""
    head = image.read(found.vmlinuz)
    if head.arch != arch:
        raise HilError(
            f"{found.vmlinuz} is a kernel for {head.arch}, and the machine to boot is {arch}",
            f"Take a kernel built for {arch}.",
        )
    if head.release and head.release != found.release:
        raise HilError(
            f"{found.vmlinuz} is {head.release}, but the modules are for {found.release}",
            "Image and modules must come from one build: run make again.",
        )
    assert found.modules is not None
    version = (
        versions.upstream(package_version)
        if re.match(r"\d+\.\d+\.[1-9]", package_version)
        else image.true_version(found.release, head.banner)
    )
    return Kernel(
        spec,
        found.release,
        version,
        arch,
        found.vmlinuz,
        found.modules,
        found.config,
        found.system_map,
        identity,
        package_version,
    )


def identity(parts: Sequence[str]) -> str:
    """SHA-256 over what goes into a kernel's tree."""
    return hashlib.sha256("\n".join([f"layout {_LAYOUT}", *parts]).encode()).hexdigest()


def place(arch: str, name: str, identity: str) -> Path:
    """The folder of the cache for one kernel."""
    return cache.root() / "kernels" / arch / f"{name}_{identity[:12]}"


def write(
    stage: Path, found: kernel_tree.Found, arch: str, identity: str, package_version: str
) -> None:
    """Note what lies in ``stage``, for `read`; raises like `checked`."""
    kernel = checked("", found, arch, identity, package_version)
    fields = {
        name: str(value.relative_to(stage)) if isinstance(value, Path) else value
        for name, value in kernel._asdict().items()
    }
    cache.write_json(stage / "kernel.json", fields)


def read(place: Path, spec: str) -> Kernel | None:
    """The kernel that `write` noted in a folder; None when it is not there, or not whole."""
    kept = cache.read_json(place / "kernel.json")
    if not isinstance(kept, dict) or "vmlinuz" not in kept:
        return None

    def path(name: str) -> Path | None:
        return place / kept[name] if kept[name] else None

    if not (place / kept["vmlinuz"]).is_file() or not (place / kept["modules"]).is_dir():
        return None
    return Kernel(
        spec=spec,
        release=kept["release"],
        version=kept["version"],
        arch=kept["arch"],
        vmlinuz=place / kept["vmlinuz"],
        modules=place / kept["modules"],
        config=path("config"),
        system_map=path("system_map"),
        identity=kept["identity"],
        package_version=kept["package_version"],
    )


def cached(arch: str) -> list[tuple[str, Kernel]]:
    """Kernels of the archive that are on this disk, with their releases, oldest first."""
    found = []
    for file in sorted((cache.root() / "kernels" / arch).glob("[0-9]*/kernel.json")):
        if kernel := read(file.parent, ""):
            found.append((kernel.release, kernel._replace(spec=f"debian:{kernel.release}")))
    return sorted(found, key=lambda pair: versions.key(pair[1].package_version))


def newest_cached(spec: str, wanted: str, arch: str) -> Kernel | None:
    """The newest of the archive's kernels on this disk that ``debian:wanted`` may mean."""
    series = bool(re.fullmatch(r"\d+\.\d+", wanted))
    fits = [
        kernel
        for release, kernel in cached(arch)
        if (series and versions.series(kernel.version) == wanted)
        or wanted in (release, kernel.version, kernel.package_version, release.rpartition("-")[0])
    ]
    return fits[-1]._replace(spec=spec) if fits else None
