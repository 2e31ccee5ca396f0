# SPDX-License-Identifier: GPL-2.0-or-later
"""Our io_uring structures and numbers against the compiler's view of the system's header."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hil.uapi import io_uring as uapi
from hil.uapi import mm

HEADER = Path("/usr/include/linux/io_uring.h")


def layout() -> dict[str, int]:
    found: dict[str, int] = {
        "IORING_REGISTER_BUFFERS": uapi.IORING_REGISTER_BUFFERS,
        "IORING_UNREGISTER_BUFFERS": uapi.IORING_UNREGISTER_BUFFERS,
        "sizeof(struct iovec)": ctypes.sizeof(uapi.Iovec),
        "offsetof(struct iovec, iov_len)": uapi.Iovec.iov_len.offset,
        "__NR_io_uring_setup": mm._EVERYWHERE["io_uring_setup"],
        "__NR_io_uring_register": mm._EVERYWHERE["io_uring_register"],
    }
    for name, kind in uapi.STRUCTURES.items():
        found[f"sizeof(struct {name})"] = ctypes.sizeof(kind)
        fields: Any = kind._fields_
        for field, _ in fields:
            # The last words of these two have got names and uses since.
            if not field.startswith("resv") and field != "user_addr":
                found[f"offsetof(struct {name}, {field})"] = getattr(kind, field).offset
    return found


@pytest.mark.skipif(
    not (shutil.which("gcc") and HEADER.exists()), reason="needs gcc and linux-libc-dev"
)
def test_layout_and_numbers(tmp_path: Path) -> None:
    ours = layout()
    lines = [f'printf("%ld\\n", (long)({name}));' for name in ours]
    heads = ("stdio.h", "stddef.h", "sys/uio.h", "sys/syscall.h", "linux/io_uring.h")
    source = "\n".join([*(f"#include <{head}>" for head in heads), "int main(void) {", *lines, "}"])
    (tmp_path / "t.c").write_text(source)
    subprocess.run(["gcc", "-o", tmp_path / "t", tmp_path / "t.c"], check=True)
    said = subprocess.run([tmp_path / "t"], capture_output=True, text=True, check=True).stdout
    assert dict(zip(ours, map(int, said.split()), strict=True)) == ours
