# SPDX-License-Identifier: GPL-2.0-or-later
"""The ELF image inside a bzImage: QEMU starts it without having it unpacked."""

from __future__ import annotations

import hashlib
import lzma
import struct
from pathlib import Path

from hil.lab import cache, hosttools
from hil.lab.kernels import Kernel


def get(kernel: Kernel) -> Path:
    """The kernel's ELF image out of its bzImage, cached; the bzImage itself where there is none.

    QEMU enters an ELF image by its PVH note, which saves the second that TCG needs to unpack the
    bzImage (Documentation/arch/x86/boot.rst: payload_offset, payload_length).
    """
    target = cache.root() / "vmlinux" / hashlib.sha256(kernel.identity.encode()).hexdigest()[:24]
    if target.exists():
        return target
    image = kernel.vmlinuz.read_bytes()
    if image[0x202:0x206] != b"HdrS":
        return kernel.vmlinuz
    start = (image[0x1F1] + 1) * 512 + struct.unpack_from("<I", image, 0x248)[0]
    length = struct.unpack_from("<I", image, 0x24C)[0]
    payload = image[start : start + length]
    try:
        if payload[:6] == b"\xfd7zXZ\0":
            elf = lzma.LZMADecompressor().decompress(payload)
        elif payload[:4] == b"\x28\xb5\x2f\xfd":
            # Its last four bytes are the unpacked size, which zstd does not know of.
            elf = hosttools.run(["zstd", "-d", "-c"], data=payload[:-4])
        else:
            return kernel.vmlinuz
    except (lzma.LZMAError, hosttools.ToolError):
        return kernel.vmlinuz
    if elf[:4] != b"\x7fELF" or b"Xen\0" not in elf:
        return kernel.vmlinuz
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    with cache.full_disk_is_an_error(target.parent, "the unpacked kernel"), cache.lock("vmlinux"):
        fresh.write_bytes(elf)
        fresh.rename(target)
    return target
