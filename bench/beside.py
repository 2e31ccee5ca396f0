# SPDX-License-Identifier: GPL-2.0-or-later
"""virtme-ng with the same kernel, beside which our start is measured."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cache, rootfs

VERSION = "1.42"
_MARK = b"FIRST-COMMAND"
_SECONDS = 120.0


class Virtme(NamedTuple):
    """One run of virtme-ng, in seconds since it was started."""

    first_command: float | None
    """None when the guest never came that far."""
    whole: float
    output: str


def install() -> Path:
    """virtme-ng in an environment of its own in the cache folder; its bin folder."""
    place = cache.root() / "bench" / f"virtme-ng-{VERSION}"
    if not (place / "bin/vng").exists():
        shutil.rmtree(place, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(place)],
            [str(place / "bin/pip"), "install", "-q", f"virtme-ng=={VERSION}"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(place, ignore_errors=True)
                raise HilError(
                    f"virtme-ng {VERSION} cannot be installed: {done.stderr[-300:]}",
                    "Leave it out: --only with the other parts.",
                )
    # It puts a busybox into its initramfs and takes the one that it finds; a guest image has one.
    busybox = place / "bin/busybox"
    busybox.unlink(missing_ok=True)
    busybox.symlink_to(rootfs.get().folder / "bin/busybox")
    return place / "bin"


def command(vmlinuz: str, cpus: int) -> list[str]:
    """virtme-ng's command line: two CPUs, the host's root, no KVM.

    ``--verbose`` for the console: without udev on the host its guest has no virtio-serial ports,
    and what a command prints goes there.
    """
    return [
        "vng", "--disable-kvm", "--verbose", "--cpus", str(cpus), "--memory", "2G",
        "--run", vmlinuz, "--", f"echo {_MARK.decode()}",
    ]  # fmt: skip


def run(vmlinuz: Path, cpus: int, folder: Path) -> Virtme:
    """Start virtme-ng once and watch its terminal."""
    tools = install()
    ours, theirs = pty.openpty()
    began = time.monotonic()
    process = subprocess.Popen(
        command(str(vmlinuz), cpus), stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen, first = b"", None
    try:
        while time.monotonic() - began < _SECONDS:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: nobody holds the other end any more
                break
            if not data:
                break
            seen += data
            # Its first line echoes the command.
            if first is None and any(line.strip().startswith(_MARK) for line in seen.splitlines()):
                first = time.monotonic() - began
    finally:
        if process.poll() is None and time.monotonic() - began >= _SECONDS:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
    return Virtme(first, time.monotonic() - began, seen.decode("utf-8", "replace"))
