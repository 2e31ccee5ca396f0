# SPDX-License-Identifier: GPL-2.0-or-later
"""Our exynos_drm structures and numbers against the compiler's view of the header."""

from __future__ import annotations

from pathlib import Path

import pytest
from exynos_parts import compare

from hil.uapi import exynos_drm as uapi


def header() -> Path:
    """exynos_drm.h of kernel headers in the cache; skips where none were fetched yet."""
    cached = sorted(Path.home().glob(".cache/userptr-hil/headers/*/*/usr/src/*-common"))
    found = [folder / "include/uapi/drm/exynos_drm.h" for folder in cached]
    if not found:
        pytest.skip("no kernel headers in the cache: tests/lab/test_exynos.py fetches them")
    return found[-1]


def test_every_size_offset_and_number_is_the_headers(tmp_path: Path) -> None:
    compare(header(), tmp_path)


def test_wrappers_raise_with_the_calls_errno() -> None:
    with Path("/dev/null").open("rb") as null, pytest.raises(OSError, match="Inappropriate ioctl"):
        uapi.version(null.fileno())
