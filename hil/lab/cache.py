# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache folder: everything that was fetched or made and can be fetched or made again.

Writers build beside the place and rename, so that a reader sees the whole thing or none of it, also
after SIGKILL or a full disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hil.errors import HilError

NAME = "userptr-hil"


def root() -> Path:
    """The cache folder of this user (XDG_CACHE_HOME counts); made when it is not there."""
    from platformdirs import user_cache_path

    folder = user_cache_path(NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HilError(
            f"cannot make the cache folder {folder}: {error.strerror}",
            "Set XDG_CACHE_HOME to a folder that you may write to.",
        ) from error
    return folder


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock ``name`` against other processes; waits at most ten minutes."""
    from filelock import FileLock, Timeout

    folder = root() / "locks"
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / f"{name}.lock", timeout=600):
            yield
    except Timeout as error:
        raise HilError(
            f"another process has held the cache lock {name!r} for ten minutes",
            f"Wait for it, or end it: its lock file is {folder / (name + '.lock')}.",
        ) from error


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A new folder that becomes ``target`` when the block ends well, and vanishes when it does not.

    The caller holds the lock that guards ``target``.  What is left of killed writers is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.new."
    for left in target.parent.glob(f"{prefix}*"):
        if not Path("/proc", left.name.removeprefix(prefix)).exists():
            shutil.rmtree(left, ignore_errors=True)
    fresh = target.parent / f"{prefix}{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            old = target.parent / f"{prefix}old.{os.getpid()}"
            target.rename(old)
            fresh.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def clear(folder: Path) -> None:
    """Remove what killed writers left in ``folder``: ``.NAME.PID`` of processes that are gone."""
    for left in folder.glob(".*"):
        pid = left.name.rpartition(".")[2]
        if not pid.isdigit() or Path("/proc", pid).exists():
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def megabytes(size: float) -> str:
    """A number of bytes for people: ``"103 MB"``, ``"0.4 MB"``, ``"79 GB"``."""
    value = size / 1e6
    if value >= 10_000:
        return f"{value / 1000:.0f} GB"
    return f"{value:.0f} MB" if value >= 10 else f"{value:.1f} MB"


def free(folder: Path) -> int:
    """Bytes that this user can still write under ``folder``, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def need_space(folder: Path, size: int, what: str) -> None:
    """Raise HilError when ``folder`` has less than ``size`` bytes left for ``what``."""
    left = free(folder)
    if left < size:
        raise no_space(folder, what, size, left)


def no_space(folder: Path, what: str, size: int = 0, left: int | None = None) -> HilError:
    """The error of a full disk: what was needed, what is free, where."""
    left = free(folder) if left is None else left
    needed = f"{megabytes(size)} needed for {what}" if size else f"no room for {what}"
    shown = root() if folder.is_relative_to(root()) else folder
    return HilError(
        f"disk full: {needed}, and {shown} has {megabytes(left)} free",
        f"Free some space, remove old parts of {root()}, or set XDG_CACHE_HOME to a larger disk.",
    )


@contextmanager
def full_disk_is_an_error(folder: Path, what: str, size: int = 0) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT of the block into the error that `no_space` makes."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(folder, what, size) from error
        raise


def read_json(path: Path) -> Any:
    """What ``path`` holds, or None when it is missing or torn."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: object) -> None:
    """Write ``value`` so that readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{threading.get_ident()}.{os.getpid()}")
    try:
        with full_disk_is_an_error(path.parent, path.name):
            fresh.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
            fresh.replace(path)
    finally:
        with suppress(OSError):
            fresh.unlink()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file; remembered by path, size, time and inode, as kernels are large."""
    status = path.stat()
    key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
    memo = root() / "sha256" / hashlib.sha256(key.encode()).hexdigest()
    known = read_json(memo)
    if isinstance(known, str):
        return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_json(memo, digest)
    return digest
