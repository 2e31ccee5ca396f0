# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel releases: which one runs, and whether a change is in it.

A change reaches kernels twice: mainline at some release, and older series by their stable points.
``Span`` holds both, so that "since 6.5, and in 6.1.y since 6.1.130" is one value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

FINAL = 1000
"""``rc`` of a release that is no candidate: it comes after all of its candidates."""


class Release(NamedTuple):
    """A kernel release; ordered as released."""

    major: int
    minor: int
    point: int = 0
    rc: int = FINAL

    @property
    def series(self) -> str:
        return f"{self.major}.{self.minor}"

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}"
        if self.point:
            text += f".{self.point}"
        return text if self.rc == FINAL else f"{text}-rc{self.rc}"


def _number(text: str) -> tuple[int, str]:
    """The leading decimal digits and the rest; ValueError when there are none."""
    end = 0
    while end < len(text) and "0" <= text[end] <= "9":
        end += 1
    return int(text[:end]), text[end:]


@lru_cache(maxsize=1024)
def parse(text: str) -> Release:
    """Read 6.12.107, 6.12, 7.3.4+deb13-amd64, 6.1.0-rc8 or Debian's 6.1~rc8; else ValueError."""
    try:
        major, rest = _number(text.strip())
        if not rest.startswith("."):
            raise ValueError
        minor, rest = _number(rest[1:])
        point, rc = 0, FINAL
        if rest[:1] == "." and rest[1:2].isdigit():
            point, rest = _number(rest[1:])
        if rest[:3] in ("-rc", "~rc"):
            rc, rest = _number(rest[3:])
        if rest[:1].isalnum() or rest[:1] == ".":
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{text!r} is no kernel release such as 6.12, 6.12.107 or 6.1-rc8"
        ) from None
    return Release(major, minor, point, rc)


def from_names(uname_release: str, uname_version: str) -> Release:
    """The true release behind ``uname -r`` and ``uname -v``.

    Debian's 5.10 and 6.1 name their ABI in the one (6.1.0-56-amd64) and the release in the other
    ("... Debian 6.1.192-2 (2026-...)").  In place of ``uname -v`` Ubuntu's version signature will
    do ("Ubuntu 6.8.0-31.31-generic 6.8.1").  ValueError when ``uname_release`` is no release.
    """
    running = parse(uname_release)
    words = uname_version.split()
    told = ""
    if "Debian" in words[:-1]:
        told = words[words.index("Debian") + 1]
    elif words[:1] == ["Ubuntu"] and len(words) > 2:
        told = words[-1]
    if told:
        try:
            release = parse(told)
        except ValueError:
            return running
        # A kernel built on Debian from another source keeps Debian's compiler in its version line.
        if release[:2] == running[:2]:
            return release
    return running


def running() -> Release:
    """The release that runs on this machine; ValueError when it has no usual name."""
    name = os.uname()
    version = name.version
    if "Ubuntu" in version:
        try:
            with open("/proc/version_signature", encoding="ascii") as file:  # noqa: PTH123
                version = file.read()
        except OSError:
            pass
    return from_names(name.release, version)


def reached(points: Iterable[Release], release: Release) -> bool:
    """Is a change that entered at ``points`` in ``release``?

    A point without a third number is mainline (6.5: from 6.5-rc1 on; 6.1-rc8: from there on); one
    with it counts within its own series only.
    """
    for point in points:
        if point.point:
            if point[:2] == release[:2] and release >= point:
                return True
        elif point.rc == FINAL:
            if release[:2] >= point[:2]:
                return True
        elif release >= point:
            return True
    return False


class Span:
    """A range of kernels: ``since`` (in it) up to ``until`` (no longer in it).

    Each is a set of points as in ``reached``; an empty ``until`` means that it still holds.
    """

    __slots__ = ("since", "until")

    def __init__(self, since: Iterable[str], until: Iterable[str] = ()) -> None:
        self.since = tuple(parse(text) for text in since)
        self.until = tuple(parse(text) for text in until)
        if not self.since:
            raise ValueError("a span needs at least one release in 'since'")
        for point in self.until:
            if point in self.since:
                raise ValueError(f"{point} is in 'since' and in 'until'")
        # Mainline has one first and one last release; only stable points may be many.
        for name, points in (("since", self.since), ("until", self.until)):
            mainline = [str(point) for point in points if not point.point]
            if len(mainline) > 1:
                raise ValueError(f"'{name}' has more than one mainline release: {mainline}")
            if len({point[:2] for point in points}) < len(points):
                raise ValueError(f"'{name}' has two points of one series")
        first = min(self.since)
        if self.until and all(point <= first for point in self.until):
            raise ValueError(f"it ends at {max(self.until)}, before it begins at {first}")

    def holds(self, release: Release) -> bool:
        return reached(self.since, release) and not reached(self.until, release)

    def __str__(self) -> str:
        text = "from " + " / ".join(str(point) for point in self.since)
        return text + (" to before " + " / ".join(map(str, self.until)) if self.until else " on")
