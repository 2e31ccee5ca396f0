# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking kernel modules out and putting others in, with the machine's own insmod and rmmod."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from errno import EIO
from pathlib import Path


def replace(name: str, file: Path) -> None:
    """Unload the module ``name`` and load ``file``; it returns when probing is done.

    OSError with the tool's words when either fails.
    """
    _run("rmmod", name)
    _run("insmod", str(file))


def _loaded(name: str) -> bool:
    return Path("/sys/module", name, "refcnt").exists()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(EIO, f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def exchange(fresh: Mapping[str, bytes], again: Sequence[str], folder: Path) -> None:
    """Put other builds of modules into ``folder``, where a guest's modprobe finds NAME.ko, and load
    them: that is busybox's, which reads a table of text.

    ``again`` are all that have to go for it, in load order; what of them is not loaded stays so.
    OSError with the tool's words.
    """
    loaded = [name for name in again if _loaded(name)]
    for name in reversed(loaded):
        _run("rmmod", name)
    for name, data in fresh.items():
        (folder / f"{name}.ko").write_bytes(data)
    for name in loaded:
        _run("/bin/busybox", "modprobe", name)
