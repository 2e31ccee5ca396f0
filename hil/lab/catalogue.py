# SPDX-License-Identifier: GPL-2.0-or-later
"""The stock kernels that the archive offers, kept as one small file that is quick to read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from hil.lab import cache, versions
from hil.lab.archive import Archive, Package

_LAYOUT = 1


class Build(NamedTuple):
    """One stock kernel: one or three packages."""

    release: str  # as ``uname -r`` will say
    version: str  # the true release: "6.1.192"
    package_version: str
    suites: tuple[str, ...]
    packages: tuple[Package, ...]  # to fetch
    missing: tuple[str, ...]  # packages that it needs and the mirror does not have

    @property
    def series(self) -> str:
        """``"6.12"``."""
        return versions.series(self.version)

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(package.size for package in self.packages)

    @property
    def installed(self) -> int:
        """Bytes unpacked."""
        return sum(package.installed for package in self.packages)

    @property
    def order(self) -> tuple[Any, ...]:
        """Newest last.

        By package version in dpkg's order: of the same kernel release the build native to the
        newest Debian release wins, since rebuilds for older ones carry ``~deb12u1`` or ``~bpo12``
        and ``~`` sorts first.  (6.12.117-1 of trixie before 6.12.117-1~deb12u1 of bookworm.)
        """
        return versions.key(self.package_version)


def find_builds(archive: Archive) -> list[Build]:
    """Every build of the plain flavour in the archive's lists, oldest first.

    Cloud, rt and 16k-page flavours, unsigned images and debug symbols are left out.
    """
    flavour = re.escape(archive.settings.flavours.get(archive.arch, archive.arch))
    # \d.\d.\d keeps out metapackages (linux-image-6.12-amd64); no "-WORD" before the flavour
    # keeps out the others (6.12.117+deb13-cloud-amd64).
    release = re.compile(
        rf"linux-(image|binary)-(\d+\.\d+\.\d+[\w.+~]*(?:-[\d.]+\w*[\d.]*)?-{flavour})"
    )
    names: dict[str, set[str]] = {}
    for prefix in ("linux-image-", "linux-binary-"):
        for name in archive.names(prefix):
            if match := release.fullmatch(name):
                names.setdefault(match[2], set()).add(match[1])
    wanted = []
    for text, kinds in names.items():
        # From 6.19 on linux-image-RELEASE is an empty metapackage.
        kinds_needed = ("base", "binary", "modules") if "binary" in kinds else ("image",)
        wanted.append((text, [f"linux-{part}-{text}" for part in kinds_needed]))
    found: dict[str, dict[str, Package]] = {}
    for package in archive.packages([name for _, parts in wanted for name in parts]):
        found.setdefault(package.name, {})[package.version] = package
    builds = []
    for text, parts in wanted:
        lead = found.get(
            next(p for p in parts if p.startswith(("linux-image", "linux-binary"))), {}
        )
        for version, package in lead.items():
            have = [found[p][version] for p in parts if version in found.get(p, {})]
            lack = [p for p in parts if version not in found.get(p, {})]
            builds.append(
                Build(
                    text,
                    versions.upstream(version),
                    version,
                    package.suites,
                    tuple(have),
                    tuple(lack),
                )
            )
    return sorted(builds, key=lambda build: (build.order, build.release))


def load(arch: str) -> tuple[float, list[Build]]:
    """When the kept catalogue was made (seconds since the epoch, 0 is never), and what it holds."""
    kept = cache.read_json(_file(arch))
    if not isinstance(kept, dict) or kept.get("layout") != _LAYOUT:
        return 0.0, []
    builds = []
    for row in kept["builds"]:
        packages = tuple(Package(p[0], p[1], tuple(p[2]), *p[3:]) for p in row[4])
        builds.append(Build(row[0], row[1], row[2], tuple(row[3]), packages, tuple(row[5])))
    return float(kept["updated"]), builds


def renew(archive: Archive) -> list[Build]:
    """Make the catalogue from the archive's lists and keep it."""
    builds = find_builds(archive)
    value = {"layout": _LAYOUT, "updated": archive.updated, "builds": builds}
    cache.write_json(_file(archive.arch), value)
    return builds


def _file(arch: str) -> Path:
    return cache.root() / "archive" / arch / "kernels.json"
