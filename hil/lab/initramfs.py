# SPDX-License-Identifier: GPL-2.0-or-later
"""The initramfs of a guest: busybox, the kernel's modules in load order, and the board's tables."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from hil import tables as sizes
from hil.lab import cache, cpio, holding, modules
from hil.lab.board import Board
from hil.lab.corrections import Corrected
from hil.lab.kernels import Kernel
from hil.lab.modules import Own
from hil.lab.rootfs import GuestRoot

_GUEST = Path(__file__).parent / "guest"
# What it takes to reach the image and the host.
_BOOT = ("virtio_pci", "virtio_blk", "virtio_console", "squashfs", "overlay")
_KEPT_SECONDS = 14 * 86400


def get(
    board: Board,
    kernel: Kernel,
    root: GuestRoot,
    own: Sequence[Own],
    arguments: Sequence[str],
    *,
    corrected: Sequence[Corrected] = (),
) -> Path:
    """The initramfs for this board and kernel, made when it is not cached.

    ``own`` are modules of the user's, and ``corrected`` are copies, in place of the stock ones of
    their names.  ``arguments`` go to pytest in the guest.
    """
    tables = _tables(board, arguments)
    tables["corrections"] = "".join(
        f"{c.correction.module}\t{c.correction.text}\n" for c in corrected
    )
    init = (_GUEST / "init.sh").read_text()
    parts = [
        kernel.identity,
        root.tools,
        repr(board),
        *tables.values(),
        init,
    ]
    parts += [f"{module.name} {cache.sha256_file(module.file)}" for module in own]
    parts += [cache.sha256_file(c.file) for c in corrected]
    # How it is made counts too.
    parts += [Path(code).read_text() for code in (__file__, modules.__file__, cpio.__file__)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    target = cache.root() / "initramfs" / f"{key}.cpio"
    if target.exists():
        return target
    files: dict[str, tuple[int, bytes]] = {
        "init": (0o755, init.encode()),
        "bin/busybox": (0o755, (root.folder / "bin/busybox").read_bytes()),
    }
    boot = modules.closure(kernel, _BOOT)
    files["hil/boot-modules"] = (0o644, "".join(f"{n}.ko\n" for n in boot.names).encode())
    wanted = [need for module in own for need in module.needs] + list(board.guest.drivers)
    drivers = modules.closure(kernel, wanted).names
    drivers += [module.name for module in own if module.name not in drivers]
    rest = modules.closure(kernel, [*drivers, *board.guest.modules])
    tables["drivers"] = " ".join(drivers)
    tables["modules"] = " ".join(name for name in rest.names if name not in drivers)
    # The lists are in load order and whole, so one modprobe loads them with nothing to look up.
    tables["modules.dep"] = "".join(f"/mod/{name}.ko:\n" for name in [*rest.names, *drivers])
    for name, path in {**dict(zip(boot.names, boot.files, strict=True)),
                       **dict(zip(rest.names, rest.files, strict=True))}.items():  # fmt: skip
        files[f"mod/{name}.ko"] = (0o644, modules.read(path))
    for copy in corrected:
        name = copy.correction.module
        files[f"mod/{name}.ko"] = (0o644, copy.file.read_bytes())
        files[f"hil/stock/{name}.ko"] = (0o644, modules.read(copy.stock))
    for module in own:
        files[f"mod/{module.name}.ko"] = (0o644, modules.read(module.file))
    if kernel.config is not None:
        files["hil/config"] = (0o644, kernel.config.read_bytes())
    for name, size in board.guest.firmware.items():
        files[f"hil/firmware/{name}"] = (0o644, bytes(sizes.size(size, "guest.firmware")))
    for name, text in tables.items():
        files[f"hil/{name}"] = (0o644, text.encode())
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    with cache.full_disk_is_an_error(target.parent, "the initramfs"):
        cpio.pack(files, fresh)
        fresh.rename(target)
    for old in target.parent.glob("*.cpio"):
        if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            holding.remove(old)
    return target


def _tables(board: Board, arguments: Sequence[str]) -> dict[str, str]:
    """The files that the guest's scripts read: what to mount, what to tell pytest."""
    mounts = []
    for i, pmem in enumerate(board.machine.pmem if board.machine else ()):
        options = pmem.options or "defaults"
        mounts.append(f"pmem{i} {pmem.filesystem} {pmem.mount or '-'} {options}\n")
    # All disks of brd have one size; what is not written takes no memory.
    disks = [sizes.size(disk.size, "size") >> 10 for disk in board.guest.ramdisks]
    brd = f"rd_nr={len(disks)} rd_size={max(disks)}" if disks else ""
    for i, disk in enumerate(board.guest.ramdisks):
        mounts.append(f"ram{i} {disk.filesystem} {disk.mount or '-'} defaults\n")
    module_options = {**board.guest.module_options, **({"brd": brd} if brd else {})}
    return {
        "mounts": "".join(mounts),
        "webcams": "".join(f"{webcam.model}\n" for webcam in board.guest.webcams),
        "pytest-arguments": "".join(f"{argument}\n" for argument in arguments),
        "board.toml": board.text,
        "modprobe.conf": "".join(
            f"options {name} {value}\n" for name, value in module_options.items()
        ),
    }
