# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian package versions: their order, and the kernel release inside."""

from __future__ import annotations

import re
from typing import Any


def _part(text: str) -> tuple[Any, ...]:
    # deb-version(7): runs of non-digits and digits in turn; ~ sorts before the end, letters before
    # other signs.
    keys: list[tuple[tuple[int, ...], int]] = []
    for letters, digits in re.findall(r"(\D*)(\d*)", text):
        order = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in letters]
        keys.append(((*order, 0), int(digits or 0)))
    return (*keys, ((0,), 0))


def key(version: str) -> tuple[Any, ...]:
    """A sort key that orders package versions as dpkg does."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return (int(epoch) if epoch.isdigit() else 0, _part(upstream), _part(revision))


def upstream(version: str) -> str:
    """The kernel release inside a package version.

    ``"6.1.192-2"`` is ``"6.1.192"``; ``"7.4~rc3-1~exp1"`` is ``"7.4-rc3"``; ``"6.12-1"`` is
    ``"6.12"``.  Debian's 5.10 and 6.1 packages are named by their ABI (``6.1.0-56-amd64``): only
    the version tells the stable point.
    """
    rest = version.partition(":")[2] or version
    text = rest.rpartition("-")[0] or rest
    match = re.match(r"(\d+\.\d+(?:\.\d+)?)(?:~(rc\d+))?", text)
    if match is None:
        return text
    return f"{match[1]}-{match[2]}" if match[2] else match[1]


def series(release: str) -> str:
    """``"6.12.117+deb13-amd64"`` is of series ``"6.12"``; empty when it is no release."""
    match = re.match(r"\d+\.\d+", release)
    return match[0] if match else ""


def number(series_name: str) -> tuple[int, int]:
    """``"6.12"`` as ``(6, 12)``, to sort by."""
    major, _, minor = series_name.partition(".")
    return (int(major), int(minor))
