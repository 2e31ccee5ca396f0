# SPDX-License-Identifier: GPL-2.0-or-later
"""The device tree of a virtual machine that has devices which QEMU knows nothing of.

QEMU writes down its own tree (``-machine dumpdtb=``); the board's overlay, a source file beside it,
is laid over that by dtc's tools, as a boot loader would.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from hil.errors import HilError
from hil.lab import cache, hosttools
from hil.lab.hosttools import ToolError


def get(command: Sequence[str], machine: str, overlay: Path, identity: object) -> Path:
    """The finished tree, cached.

    ``command`` is QEMU's with all that shapes the tree but for ``-machine``, whose value is
    ``machine``, and ``identity`` tells this QEMU from others.  HilError when the overlay does not
    compile or fit.
    """
    for tool in ("dtc", "fdtoverlay"):
        hosttools.need(tool)
    source = overlay.read_text()
    parts = [*command, machine, source, identity, Path(__file__).read_text()]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    target = cache.root() / "devicetrees" / f"{overlay.stem}-{key}.dtb"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    base, layer, fresh = (
        target.with_name(f".{target.name}.{part}.{os.getpid()}") for part in ("base", "over", "new")
    )
    try:
        hosttools.run([*command, "-machine", f"{machine},dumpdtb={base}"])
        hosttools.run(["dtc", "-q", "-@", "-I", "dts", "-O", "dtb", "-o", layer, overlay])
        hosttools.run(["fdtoverlay", "-i", base, "-o", fresh, layer])
        fresh.rename(target)
    except ToolError as error:
        raise HilError(
            f"{overlay}: {error.command[0]}: {error.last_line}", "Mend the overlay: dtc -I dts."
        ) from error
    finally:
        for part in (base, layer, fresh):
            part.unlink(missing_ok=True)
    return target
