# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots: a guest that stands before its first cell, imports done, ready to be had again.

The RAM is not copied anywhere.  The guest that makes the snapshot runs on RAM files that it shares;
stopped, it leaves them as its RAM, and QEMU writes only the devices' state ("x-ignore-shared").  A
restored guest maps the same files privately: pages come in when they are touched, writes stay its
own.  That is why restoring costs tenths of a second however large the guest is.

A snapshot is keyed by everything that goes into it and is never used when any of it changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hil.lab import cache, holding, limits
from hil.lab.holding import Holds
from hil.lab.qemu import LostVmError, Vm

_FORMAT = 2
_CARD = "snapshot.json"
_POLL = 0.002
_SECONDS = 60.0


class Snapshot(NamedTuple):
    """A finished snapshot: RAM files and device state in ``folder``, what the guest had said."""

    folder: Path
    said: dict[str, Any]


def key(parts: Mapping[str, object]) -> str:
    """The name of the snapshot made of these parts."""
    text = json.dumps({"format": _FORMAT, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def find(name: str) -> Snapshot | None:
    """The snapshot called ``name``; None when there is none or it is damaged."""
    folder = _root() / name
    kept = cache.read_json(folder / _CARD)
    if not isinstance(kept, dict) or kept.get("files") != _files(folder):
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)  # the oldest goes first when there are too many
    return Snapshot(folder, kept["said"])


def drop(snapshot: Snapshot) -> None:
    """Remove a snapshot, for instance one that could not be restored."""
    shutil.rmtree(snapshot.folder, ignore_errors=True)


def workplace(name: str) -> Path:
    """A new folder beside the snapshots for the RAM of the guest that will become one."""
    folder = _root() / f".{name}.new.{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def save(
    vm: Vm, folder: Path, name: str, said: Mapping[str, Any], holds: Holds | None = None
) -> Snapshot:
    """Make a snapshot of ``vm``, whose RAM files are in ``folder``, and end the guest.

    ``holds`` keeps it from being removed.  The guest cannot go on: it shares the files.
    LostVmError when QEMU fails.
    """
    with cache.full_disk_is_an_error(folder, "the snapshot"):
        vm.qmp("stop")
        _ignore_shared(vm)
        vm.qmp("migrate", uri=f"exec:cat > {folder / 'state'}")
        _wait(vm)
        with contextlib.suppress(LostVmError):
            vm.qmp("quit")
        vm.kill()
        cache.write_json(folder / _CARD, {"said": dict(said), "files": _files(folder)})
        target = _root() / name
        if find(name):  # somebody else was quicker
            shutil.rmtree(folder, ignore_errors=True)
        else:
            shutil.rmtree(target, ignore_errors=True)  # a damaged one
            folder.rename(target)
    if holds is not None:
        holds.add(target)
    _prune(keep=name)
    return Snapshot(target, dict(said))


def restore(vm: Vm, snapshot: Snapshot) -> None:
    """Bring a QEMU that was started with ``-incoming defer`` to the snapshot and let it run."""
    _ignore_shared(vm)
    vm.qmp("migrate-incoming", uri=f"exec:cat {snapshot.folder / 'state'}")
    deadline = time.monotonic() + _SECONDS
    while vm.qmp("query-status")["status"] == "inmigrate":
        if time.monotonic() > deadline:
            raise LostVmError("the snapshot is not restored after a minute")
        time.sleep(_POLL)
    vm.qmp("cont")


def _ignore_shared(vm: Vm) -> None:
    state = [{"capability": "x-ignore-shared", "state": True}]
    vm.qmp("migrate-set-capabilities", capabilities=state)


def _wait(vm: Vm) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        status = vm.qmp("query-migrate").get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise LostVmError(f"QEMU could not write the snapshot: {status}")
        time.sleep(_POLL)
    raise LostVmError("the snapshot is not written after a minute")


def _root() -> Path:
    return cache.root() / "snapshots"


def _files(folder: Path) -> dict[str, list[int]]:
    """Size and time of RAM and state: nobody writes to them once they are made."""
    try:
        found = {p.name: p.stat() for p in folder.iterdir() if p.name != _CARD}
    except OSError:
        return {}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def _prune(keep: str) -> None:
    """Remove the oldest snapshots beyond the limit, but for those that a run uses."""
    limit = limits.get().snapshots
    folders = [p for p in _root().iterdir() if not p.name.startswith(".")]
    total = 0
    for folder in sorted(folders, key=_age, reverse=True):
        with contextlib.suppress(OSError):  # another process removes it
            total += sum(f.stat().st_blocks * 512 for f in folder.iterdir())
        if total > limit and folder.name != keep:
            holding.remove(folder)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
