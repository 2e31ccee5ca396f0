# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes an initramfs: the "newc" cpio archive of Documentation/driver-api/early-userspace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def pack(files: Mapping[str, tuple[int, bytes]], target: Path) -> None:
    """Write ``files`` (path without leading slash -> permission bits, content) to ``target``.

    The folders on the way are made up; every time stamp is zero, so equal input gives equal bytes.
    """
    folders = sorted({str(p) for name in files for p in Path(name).parents if str(p) != "."})
    with target.open("wb") as out:
        number = 1
        for folder in folders:
            out.write(_entry(number, folder, 0o040755, b""))
            number += 1
        for name, (mode, content) in files.items():
            out.write(_entry(number, name, 0o100000 | mode, content))
            number += 1
        out.write(_entry(0, "TRAILER!!!", 0, b""))


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, device (2), rdevice (2), length of name, checksum
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + path
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
