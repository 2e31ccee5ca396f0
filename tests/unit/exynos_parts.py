# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares hil/uapi/exynos_drm.py with what the compiler makes of a header."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from hil.uapi import exynos_drm as uapi


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


def compare(header: Path, folder: Path) -> None:
    """Every number, size and offset of ours against those of ``header``, compiled in ``folder``."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang to compare with exynos_drm.h")
    expected = ours()
    prints = "".join(
        f'  printf("%llu\\n", (unsigned long long)({expression}));\n' for expression in expected
    )
    source = folder / "view.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#define __user\n#include "{header}"\n'
        f"int main(void) {{\n{prints}  return 0;\n}}\n"
    )
    done = subprocess.run(
        [compiler, "-o", folder / "view", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = subprocess.run([folder / "view"], capture_output=True, text=True, check=True).stdout
    theirs = dict(zip(expected, map(int, told.split()), strict=True))
    assert {e: (v, theirs[e]) for e, v in expected.items() if theirs[e] != v} == {}
    assert len(theirs) > 60
