# SPDX-License-Identifier: GPL-2.0-or-later
"""The initramfs writer against the system's own cpio."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hil.lab import cpio, hosttools

FILES = {
    "init": (0o755, b"#!/bin/sh\n"),
    "mod/a.ko": (0o644, bytes(range(256)) * 17),
    "hil/deep/er/empty": (0o600, b""),
    **{f"pad/{'x' * n}": (0o644, b"y" * n) for n in range(1, 9)},
}


@pytest.mark.skipif(hosttools.find("cpio") is None, reason="needs the program cpio")
def test_cpio_unpacks_what_was_packed(tmp_path: Path) -> None:
    archive, target = tmp_path / "a.cpio", tmp_path / "out"
    cpio.pack(FILES, archive)
    target.mkdir()
    with archive.open("rb") as file:
        subprocess.run(["cpio", "-id", "--quiet"], cwd=target, stdin=file, check=True)
    found = {str(p.relative_to(target)): p for p in target.rglob("*") if p.is_file()}
    assert set(found) == set(FILES)
    for name, (mode, content) in FILES.items():
        assert found[name].read_bytes() == content
        assert found[name].stat().st_mode & 0o777 == mode


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        cpio.pack(FILES, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_header_is_aligned(tmp_path: Path) -> None:
    # Documentation/driver-api/early-userspace/buffer-format.rst: headers begin at multiples of 4.
    cpio.pack(FILES, tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    at = 0
    names: list[str] = []
    while not names or names[-1] != "TRAILER!!!":
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        names.append(data[at + 110 : at + 110 + length - 1].decode())
        at = (at + 110 + length + 3) // 4 * 4
        at = (at + size + 3) // 4 * 4
    assert at == len(data)
    assert names.index("hil/deep") < names.index("hil/deep/er/empty")
