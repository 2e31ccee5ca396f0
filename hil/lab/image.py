# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel image says of itself: architecture, release, version.

Formats: Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst, and the magic number
in arch/arm/boot/compressed/head.S.
"""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError

# COFF machine numbers of images that carry an EFI stub
_MACHINES = {0x8664: "amd64", 0xAA64: "arm64", 0x014C: "i386", 0x01C2: "armhf", 0x5064: "riscv64"}


class Image(NamedTuple):
    """A kernel image: Debian's name of its architecture, and its banner where it can be read."""

    arch: str
    release: str  # as ``uname -r`` says; empty when the image does not tell
    banner: str  # ``uname -v`` at its end


def read(path: Path) -> Image:
    """Look at the head of a kernel image.  HilError when it is none."""
    try:
        with path.open("rb") as file:
            head = file.read(65536)
    except OSError as error:
        raise HilError(f"cannot read the kernel image {path}: {error.strerror}") from error
    if head[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as file:
                head = file.read(65536)
        except (OSError, EOFError) as error:
            raise HilError(f"{path} is gzip data, and broken: {error}") from error
    image = _x86(head) or _arm(head) or _efi(head)
    if image is None:
        raise HilError(
            f"{path} is no kernel image that can be booted",
            "Expected is bzImage of x86, Image or Image.gz of arm64, or zImage of arm.",
        )
    return image


def _x86(head: bytes) -> Image | None:
    if head[0x202:0x206] != b"HdrS" or len(head) < 0x238:
        return None
    (protocol,) = struct.unpack_from("<H", head, 0x206)
    (flags,) = struct.unpack_from("<H", head, 0x236)  # xloadflags; bit 0 is XLF_KERNEL_64
    (pointer,) = struct.unpack_from("<H", head, 0x20E)
    arch = "amd64" if protocol >= 0x20C and flags & 1 else "i386"
    text = head[pointer + 0x200 :].partition(b"\0")[0] if pointer else b""
    release, _, banner = text.decode("ascii", "replace").partition(" ")
    return Image(arch, release, banner)


def _arm(head: bytes) -> Image | None:
    if head[0x38:0x3C] == b"ARM\x64":
        return Image("arm64", "", "")
    if head[0x24:0x28] == struct.pack("<I", 0x016F2818):
        return Image("armhf", "", "")
    return None


def _efi(head: bytes) -> Image | None:
    if head[:2] != b"MZ" or len(head) < 0x40:
        return None
    (offset,) = struct.unpack_from("<I", head, 0x3C)
    if head[offset : offset + 4] != b"PE\0\0":
        return None
    (machine,) = struct.unpack_from("<H", head, offset + 4)
    return Image(_MACHINES.get(machine, f"machine {machine:#x}"), "", "")


def true_version(release: str, banner: str) -> str:
    """The upstream release of a kernel, with its stable point where it is known.

    Debian's banner ends with the package version (``Debian 6.1.192-2 (2026-11-01)``), which says
    more than an ABI name such as 6.1.0-56-amd64.
    """
    from hil.lab import versions

    if match := re.search(r"\bDebian (\S+)", banner):
        return versions.upstream(match[1])
    match = re.match(r"\d+\.\d+(?:\.\d+)?(?:-rc\d+)?", release)
    return match[0] if match else release
