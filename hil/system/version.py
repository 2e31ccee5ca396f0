# SPDX-License-Identifier: GPL-2.0-or-later
"""Which state of this suite runs: results are compared over months, and rules change."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_WAIT = 5.0


def told(root: Path = _ROOT) -> str:
    """The package's version, and git's commit where it is a clone: "0.1.0, 1790cb5-dirty"."""
    try:
        version = metadata.version("userptr-hil")
    except metadata.PackageNotFoundError:
        version = ""
    commit = _commit(root) if (root / ".git").exists() else ""
    return ", ".join(text for text in (version, commit) if text) or "not known"


def _commit(root: Path) -> str:
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_WAIT,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
