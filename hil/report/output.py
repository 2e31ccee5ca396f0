# SPDX-License-Identifier: GPL-2.0-or-later
"""A report's file: whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hil.errors import HilError


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write UTF-8 in one step: who looks meanwhile finds the old file, or none, or the new one.

    A device or a pipe is written to as it is.  HilError when it cannot be written.
    """
    direct = path.exists() and not path.is_file()
    scratch = path if direct else path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8", newline="") as file:
            file.writelines(parts)
        if not direct:
            scratch.replace(path)
    except OSError as error:
        raise HilError(
            f"{path}: {error.strerror or error}", "Make room or name another."
        ) from error
    finally:
        if not direct:
            scratch.unlink(missing_ok=True)
