# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking a kernel module out and putting one in, with the machine's own insmod and rmmod."""

from __future__ import annotations

import subprocess
from errno import EIO
from pathlib import Path


def replace(name: str, file: Path) -> None:
    """Unload the module ``name`` and load ``file``; it returns when probing is done.

    OSError with the tool's words when either fails.
    """
    _run("rmmod", name)
    _run("insmod", str(file))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(EIO, f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
