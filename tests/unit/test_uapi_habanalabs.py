# SPDX-License-Identifier: GPL-2.0-or-later
"""Our habanalabs structures and numbers against the compiler's view of the kernel's UAPI header."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.uapi import habanalabs as uapi

HEADERS = {
    "drm/habanalabs_accel.h": ("DRM_IOCTL_HL_", uapi.DRM_NUMBERS),
    "misc/habanalabs.h": ("HL_IOCTL_", uapi.OWN_NUMBERS),
}
"""The one of linux-libc-dev from 6.8 on, and up to 6.1: number's prefix and our numbers."""
CALLS = ("INFO", "CB", "CS", "WAIT_CS", "MEMORY")


def places(kind: Any, base: int = 0, path: str = "") -> Iterator[tuple[str, int, int]]:
    """(C member path, offset, size) of every member that holds a value."""
    for name, type_, *_ in kind._fields_:
        offset = base + getattr(kind, name).offset
        # An anonymous union of C has a name here.
        inner = path if name == "what" else f"{path}.{name}".lstrip(".")
        if hasattr(type_, "_fields_"):
            yield from places(type_, offset, inner)
        else:
            yield inner, offset, ctypes.sizeof(type_)


def expected(prefix: str, numbers: dict[int, int]) -> dict[str, int]:
    """C expression -> what it must come to."""
    found = {f"{prefix}{call}": numbers[nr] for nr, call in enumerate(CALLS)}
    for name, value in vars(uapi).items():
        if name.startswith(("HL_", "GAUDI_")) and isinstance(value, int):
            found[name] = value
    for name, kind in {**uapi.STRUCTURES, **uapi.PREFIXES}.items():
        if name in uapi.STRUCTURES:
            found[f"sizeof({name})"] = ctypes.sizeof(kind)
        for path, offset, size in places(kind):
            found[f"offsetof({name}, {path})"] = offset
            found[f"sizeof((({name} *)0)->{path})"] = size
    return found


@pytest.mark.parametrize("header", HEADERS)
def test_every_size_offset_and_number_is_the_headers(header: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip(f"no C compiler: install gcc or clang to compare with {header}")
    wanted = expected(*HEADERS[header])
    source = tmp_path / "view.c"
    prints = "\n".join(
        f'  printf("{key}=%llu\\n", (unsigned long long)({key}) & 0xffffffff);' for key in wanted
    )
    source.write_text(
        f"#define __user\n#include <stddef.h>\n#include <stdio.h>\n#include <{header}>\n"
        f"int main(void) {{\n{prints}\n  return 0;\n}}\n"
    )
    if subprocess.run(
        [compiler, "-E", "-o", "/dev/null", source], capture_output=True, check=False
    ).returncode:
        pytest.skip(f"linux-libc-dev of this machine has no {header}")
    built = subprocess.run(
        [compiler, "-o", tmp_path / "view", source], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    output = subprocess.run([tmp_path / "view"], capture_output=True, text=True, check=True).stdout
    theirs = {k: int(v) for k, _, v in (line.rpartition("=") for line in output.splitlines())}
    assert {k: (v, theirs[k]) for k, v in wanted.items() if theirs[k] != v} == {}
    assert len(wanted) > 100
