# SPDX-License-Identifier: GPL-2.0-or-later
"""Made-up kernels, modules and packages: small, and shaped like the real ones."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

RELEASE = "6.12.117+deb13-amd64"
VERMAGIC = f"{RELEASE} SMP preempt mod_unload modversions "
BANNER = "(someone@example) #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)"


def bzimage(release: str = RELEASE, banner: str = BANNER, *, wide: bool = True) -> bytes:
    """The head of an x86 kernel image; ``wide``: of 64 bits (XLF_KERNEL_64)."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<H", head, 0x20E, 0x200)
    struct.pack_into("<H", head, 0x236, 1 if wide else 0)
    return bytes(head) + f"{release} {banner}\0".encode()


def arm64_image() -> bytes:
    """The head of an arm64 Image."""
    return b"\0" * 0x38 + b"ARM\x64" + b"\0" * 64


def module(name: str, *, depends: str = "", vermagic: str = VERMAGIC, extra: str = "") -> bytes:
    """A module of 64 bits: .modinfo, and the symbols from which depmod sees what needs what.

    Each module exports the symbol ``NAME_symbol`` and uses those of the modules it ``depends`` on.
    """
    fields = [f"name={name}", f"depends={depends}", f"vermagic={vermagic}"]
    fields += extra.split("|") if extra else []
    used = [f"{other}_symbol" for other in depends.split(",") if other]
    strings = b"\0"
    symbols = b"\0" * 24
    for symbol in used:
        # undefined and global (elf(5))
        symbols += struct.pack("<IBBHQQ", len(strings), 0x10, 0, 0, 0, 0)
        strings += symbol.encode() + b"\0"
    sections = [  # name, type, content, link, entry size
        ("", 0, b"", 0, 0),
        (".modinfo", 1, b"".join(field.encode() + b"\0" for field in fields), 0, 0),
        ("__ksymtab_strings", 1, f"{name}_symbol".encode() + b"\0", 0, 0),
        (".symtab", 2, symbols, 4, 24),
        (".strtab", 3, strings, 0, 0),
    ]
    names = b""
    for title, *_ in [*sections, (".shstrtab",)]:
        names += title.encode() + b"\0"
    sections.append((".shstrtab", 3, names, 0, 0))
    body, headers = b"", b""
    for title, kind, content, link, entry in sections:
        body = body.ljust((len(body) + 7) // 8 * 8, b"\0")
        at = names.index(title.encode() + b"\0") if title else 0
        headers += struct.pack(
            "<IIQQQQIIQQ", at, kind, 0, 0, 64 + len(body), len(content), link, 1, 8, entry
        )
        body += content
    body = body.ljust((len(body) + 7) // 8 * 8, b"\0")
    head = b"\x7fELF" + bytes([2, 1, 1]) + b"\0" * 9
    count = len(sections)
    head += struct.pack(
        "<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, count, count - 1
    )
    return head + body + headers


def fill(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below ``root``."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def package(
    folder: Path, name: str, files: Mapping[str, bytes], version: str = "6.12.117-1",
    arch: str = "amd64",
) -> Path:  # fmt: skip
    """A Debian package made with dpkg-deb."""
    tree = fill(folder / f"tree-{name}", files)
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nInstalled-Size: 40\n"
        "Maintainer: Nobody <nobody@example>\nDescription: made up\n"
    )
    fill(tree, {"DEBIAN/control": control.encode()})
    file = folder / f"{name}_{version}_{arch}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, file],
        check=True,
        capture_output=True,
    )
    return file


def kernel_files(release: str = RELEASE, modules: str = "usr/lib/modules") -> dict[str, bytes]:
    """The files of a kernel package as Debian lays them out."""
    folder = f"{modules}/{release}"
    magic = f"{release} SMP preempt mod_unload modversions "
    return {
        f"boot/vmlinuz-{release}": bzimage(release),
        f"boot/config-{release}": b"CONFIG_NUMA=y\n",
        f"boot/System.map-{release}": b"map\n",
        f"{folder}/kernel/drivers/mc.ko": module("mc", vermagic=magic),
        f"{folder}/kernel/drivers/vivid.ko": module("vivid", depends="mc", vermagic=magic),
        f"{folder}/modules.builtin": b"kernel/drivers/virtio/virtio_pci.ko\n",
        f"{folder}/modules.builtin.modinfo": b"sha256_generic.alias=crypto-sha256\0",
        f"{folder}/modules.order": b"kernel/drivers/mc.ko\nkernel/drivers/vivid.ko\n",
    }
