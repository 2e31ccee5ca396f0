# SPDX-License-Identifier: GPL-2.0-or-later
"""Our exynos_drm structures and numbers against the compiler's view of the header."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from hil.uapi import exynos_drm as uapi

HEADERS = ("/usr/include/libdrm/exynos_drm.h", "/usr/include/drm/exynos_drm.h")


def header() -> Path:
    """The system's header, or that of kernel headers in the cache; skips where there is none."""
    cached = sorted(Path.home().glob(".cache/userptr-hil/headers/*/*/usr/src/*-common"))
    places = [*map(Path, HEADERS), *(p / "include/uapi/drm/exynos_drm.h" for p in cached)]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        pytest.skip("no exynos_drm.h: install libdrm-dev to compare with it")
    return found


def ours() -> dict[str, int]:
    """C expression -> value."""
    found = {
        f"(unsigned int)({name})": value
        for name, value in vars(uapi).items()
        if name.startswith(("DRM_", "G2D_", "EXYNOS_")) and isinstance(value, int)
    }
    for name, kind in uapi.STRUCTURES.items():
        found[f"sizeof(struct {name})"] = ctypes.sizeof(kind)
        for field, *_ in kind._fields_:
            member = getattr(kind, field)
            found[f"offsetof(struct {name}, {field})"] = member.offset
            found[f"sizeof(((struct {name} *)0)->{field})"] = member.size
    return found


def test_every_size_offset_and_number_is_the_headers(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang to compare with exynos_drm.h")
    expected = ours()
    prints = "".join(
        f'  printf("%llu\\n", (unsigned long long)({expression}));\n' for expression in expected
    )
    source = tmp_path / "view.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#define __user\n#include "{header()}"\n'
        f"int main(void) {{\n{prints}  return 0;\n}}\n"
    )
    done = subprocess.run(
        [compiler, "-o", tmp_path / "view", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = subprocess.run([tmp_path / "view"], capture_output=True, text=True, check=True).stdout
    theirs = dict(zip(expected, map(int, told.split()), strict=True))
    assert {e: (v, theirs[e]) for e, v in expected.items() if theirs[e] != v} == {}
    assert len(theirs) > 60


def test_wrappers_raise_with_the_calls_errno() -> None:
    with Path("/dev/null").open("rb") as null, pytest.raises(OSError, match="Inappropriate ioctl"):
        uapi.version(null.fileno())
