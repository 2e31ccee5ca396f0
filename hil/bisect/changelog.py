# SPDX-License-Identifier: GPL-2.0-or-later
"""What a distribution's changelog says between two kernels, as far as it concerns a cell."""

from __future__ import annotations

import gzip
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hil.cells import Cell
from hil.errors import HilError
from hil.lab import cache, versions
from hil.lab.archive import Archive
from hil.lab.catalogue import Build
from hil.lab.hosttools import run
from hil.lab.progress import Say
from hil.lab.suites import settings

_HEAD = re.compile(r"^linux \(([^)]+)\) ")
_SAYS_NOTHING = frozenset((
    "anonymous", "capture", "contig", "driver", "kernel", "memory", "output", "pages", "partly",
    "private", "shared", "steady", "video", "vmalloc",
))  # fmt: skip
_OTHER_WORDS = {
    "vb2": ("videobuf2", "vb2"), "thp": ("thp", "huge_memory", "huge page"),
    "hugetlb": ("hugetlb",), "ksm": ("ksm",), "swapped": ("swap",), "secret": ("secretmem",),
    "movable": ("mm/migrate", "mm: migrate", "longterm", "cma"),
    "exynos": ("exynos",), "habanalabs": ("habanalabs",),
}  # fmt: skip


class Item(NamedTuple):
    """One line of a changelog, its continuations joined."""

    version: str
    text: str


def text_of(build: Build, arch: str, say: Say) -> str:
    """The changelog of a kernel's source package; HilError when none can be had.

    It comes with the release's small kbuild package; kernels themselves are unpacked without it.
    """
    place = cache.root() / "changelogs" / f"{build.package_version}.gz"
    if not place.exists():
        flavour = settings().flavours.get(arch, arch)
        base = build.release.removesuffix(f"-{flavour}")
        archive = Archive(arch, say)
        archive.ensure(daily=False)
        there = archive.names("linux-kbuild-")
        names = [n for n in (f"linux-kbuild-{base}", f"linux-kbuild-{build.series}") if n in there]
        if not names:
            raise HilError(
                f"the archive has no small package with the changelog of {build.release}"
            )
        with tempfile.TemporaryDirectory() as folder:
            chosen = [f"{names[0]}={build.package_version}"]
            for deb in archive.download(chosen, Path(folder), f"fetching {names[0]}"):
                run(["dpkg-deb", "-x", deb, folder])
            found = sorted(Path(folder).glob("usr/share/doc/*/changelog.Debian.gz"))
            if not found:
                raise HilError(f"{names[0]} has no changelog")
            place.parent.mkdir(parents=True, exist_ok=True)
            with cache.full_disk_is_an_error(place.parent, "a changelog"):
                place.write_bytes(found[0].read_bytes())
    return gzip.decompress(place.read_bytes()).decode(errors="replace")


def items(text: str, after: str, until: str) -> Iterator[Item]:
    """The items of package versions after ``after`` up to ``until``."""
    low, high = versions.key(after), versions.key(until)
    version, words = "", ""
    for line in [*text.splitlines(), "linux (0) end"]:
        head = _HEAD.match(line)
        fresh = head is not None or re.match(r"\s*[-*] |^ -- |^\s*\[ ", line) is not None
        if fresh and words:
            yield Item(version, words)
            words = ""
        if head is not None:
            version = head[1]
        elif version and low < versions.key(version) <= high:
            if match := re.match(r"\s*[-*] (.*)", line):
                words = match[1].strip()
            elif words and line.startswith("   ") and not fresh:
                words += " " + line.strip()


def words_for(cell: str, record: Mapping[str, Any], family: str) -> list[str]:
    """What to look for: files and functions that the cell's rule names, its driver and memory."""
    parts = Cell.parse(cell)
    about = record.get("source") or {}
    told = " ".join(str(value) for value in about.values()) if isinstance(about, dict) else about
    found: list[str] = []
    # As subjects spell them: "mm/gup: ...", "media: videobuf2-core: ..."
    for file in re.findall(r"([\w/-]+)\.[ch]\b", str(told)):
        place = file.split("/")
        found.append("/".join(place[-2:]) if len(place[-1]) < 5 else place[-1])
    found += re.findall(r"\b(?=\w*_)[a-z_]\w{4,}\b", str(told))
    found += [str(record.get("driver", ""))]
    plain = {
        *re.split(r"[-_]", parts.memory),
        *re.split(r"[-_]", parts.condition),
        *re.split("-", family),
    }
    for word in sorted(plain):
        found += _OTHER_WORDS.get(word, (word,) if len(word) > 4 else ())
    return [w for w in dict.fromkeys(w.lower() for w in found) if w and w not in _SAYS_NOTHING]


def concerning(found: Iterator[Item], words: Sequence[str]) -> list[Item]:
    """The items that have one of the words."""
    if not words:
        return []
    pattern = re.compile("|".join(rf"(?<![a-z0-9]){re.escape(word)}" for word in words))
    return [item for item in found if pattern.search(item.text.lower())]
